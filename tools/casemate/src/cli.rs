//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use testbed::{Accel, proto::Mode};

pub use crate::command::BenchSection;

/// Status of `run` when the domain could not be run at all.
pub const NOT_RUN: u8 = 125;

const EXAMPLES: &str = "\
Examples:
  casemate setup                     install what is missing on this machine
  casemate demo                      the whole way: build, boot Xen, hash a file in a domain
  casemate build hello               build the image of one package
  casemate run hello --mode pvh      boot it and show its console
  casemate new greeter && cd greeter && casemate run .
  casemate run target/images/hello --memory 8 -- one two
  casemate test                      everything that can be tested

Without Xen on this machine, casemate boots Xen and a Linux dom0 in QEMU; no virtualisation hardware is needed.
On a machine whose /proc/xen/capabilities says control_d, it uses that Xen (as root).";

/// Single-purpose Xen domains from Rust and C: build them, run them, test them.
#[derive(Debug, Parser)]
#[command(name = "casemate", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Print results only, no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install what is missing: packages of the distribution and a Rust target.
    #[command(after_help = "Needs root and apt; without them it prints the commands to run and fails.")]
    Setup(Setup),
    /// Say what is there and what is missing.
    Doctor(Doctor),
    /// Install the tool chain for C and for Rust programs with std.
    #[command(after_help = SDK_HELP)]
    Sdk(Sdk),
    /// Write a small package to start from.
    #[command(after_help = NEW_HELP)]
    New(New),
    /// Build domain images: of services, of Rust programs with std, of C programs.
    #[command(after_help = BUILD_HELP)]
    Build(Build),
    /// Say what takes the space in an image.
    #[command(after_help = SIZE_HELP)]
    Size(Size),
    /// Check that a file is a bootable domain image.
    Check(Check),
    /// Boot a domain image, show its console, end with its exit status.
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Add function names and source lines to the addresses of a backtrace.
    #[command(after_help = "Example:\n  casemate symbolize target/images/hello.debug console.txt")]
    Symbolize(Symbolize),
    /// The whole way on real data: build, boot Xen, hash a file in a domain over IDC, on PV and PVH.
    Demo(Demo),
    /// Build and run every test, hosted and in domains on PV and PVH.
    #[command(after_help = "Prints one line for each test and ends with a line `N passed, N failed`.")]
    Test(Test),
    /// Measure what the README says: image sizes, cycles of boot, smallest memory, lines of code.
    #[command(
        after_help = "Prints Markdown. Boots run in turn, mode by mode and size by size, round after round."
    )]
    Measure(Measure),
    /// Make, start, stop and remove TPMs for guests, each in a domain of its own. In dom0, as root.
    #[command(after_help = VTPM_HELP)]
    Vtpm(Vtpm),
    /// Measure IDC against its peers, boot and size; draw the figures; compare two runs.
    #[command(after_help = BENCH_HELP, args_conflicts_with_subcommands = true)]
    Bench(Bench),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  casemate completions bash > ~/.local/share/bash-completion/completions/casemate"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages.
    Man {
        /// Folder for the pages; made when it is not there.
        dir: PathBuf,
    },
}

const SDK_HELP: &str = "\
`build`, `run`, `test` and `demo` install it by themselves; this command is for another place, or another source of the
C library. It needs the network once, unless --musl-source is given. See docs/guide/toolchain.md.

Examples:
  casemate sdk
  PATH=$PWD/target/sdk/bin:$PATH
  x86_64-casemate-linux-musl-gcc hello.c -o hello
  casemate run ./hello";

const NEW_HELP: &str = "\
Examples:
  casemate new counter                         a Rust program with std
  casemate new counter --language c            a C program with a Makefile
  casemate new counter --template service      a Rust service over IDC
  casemate new counter --no-std                the smallest Rust program
  cd counter && casemate run .";

const BUILD_HELP: &str = "\
Without a name: the package or Makefile of the current folder; in Casemate's own folder, all of its services.
A package that uses casemate-service is built without a C library; any other one is built by stock cargo with the
SDK, build scripts and C code included. In a folder with a Makefile, make runs with CC set to the SDK's compiler.

Images go to target/images/NAME (stripped) and NAME.debug (with symbols); those of make stay where they are.";

const SIZE_HELP: &str = "\
An image without symbols is looked up as IMAGE.debug. With a link map IMAGE.map (link with CASEMATE_MAP=1 in the
environment) every byte is accounted for; otherwise symbols are counted.

Examples:
  casemate size target/images/hello
  casemate size --compare target/images/hello target/images/echo";

const RUN_HELP: &str = "\
Exit status: that of the domain; 134 when it crashed, 130 after Ctrl-C, 125 when it could not be run.
Ctrl-C destroys the domain. What is typed goes to the domain's console.

Examples:
  casemate run hello
  casemate run .                     the package or Makefile of this folder
  casemate run --hosted . -- one     the same as a Linux process, for a first look and for gdb
  casemate run target/images/hello --mode pvh --memory 4 -- --name world
  casemate run --gdb hello";

const VTPM_HELP: &str = "\
`vtpmd instance` takes the same commands, for a dom0 without this tree. `vtpmd manager` has to run there.

Examples:
  casemate vtpm create demo                  with the image that `casemate build vtpm-domain` made
  casemate vtpm start demo --guest 7         in domain 7, `vtpmd guest` then makes /dev/tpm0
  casemate vtpm info demo --json
  casemate vtpm stop demo";
const BENCH_HELP: &str = "\
Results are lines of JSON, in target/bench/results.jsonl if no other file is named. With --quick the shapes are judged
too (time grows with the number of messages alone, no jump where a message no longer goes inline), and the exit status
says whether they hold. Everything in QEMU is emulated: believe ratios within one run, not absolute numbers.

Examples:
  casemate bench --quick                          some minutes: does it run, do the shapes hold
  casemate bench --figures                        everything, figures and report: the better part of an hour
  casemate bench --only linux --mode pv --out new.jsonl
  casemate bench compare old.jsonl new.jsonl
  casemate bench report hosted.jsonl xen.jsonl    figures and docs/evaluation.md from results that are there";

impl Command {
    /// Exit status for an error of this command.
    pub fn failure_status(&self) -> u8 {
        if matches!(self, Self::Run(_)) { NOT_RUN } else { 1 }
    }
}

/// Options of `setup`.
#[derive(Debug, Args)]
pub struct Setup {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Boot Xen under KVM to see whether it works, and remember the answer.
    #[arg(long)]
    pub probe_kvm: bool,
}

/// Options of `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// What to build: packages of Casemate, or folders with a cargo package or a Makefile.
    #[arg(value_name = "PACKAGE|FOLDER")]
    pub packages: Vec<String>,
    /// Profile of cargo; `small` trades speed and unwinding for the smallest image.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `sdk`.
#[derive(Debug, Args)]
pub struct Sdk {
    /// Where to install it; below the target folder when not given.
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<PathBuf>,
    /// Source of musl, a tarball or a folder, in place of the pinned one from Debian.
    #[arg(long, value_name = "PATH")]
    pub musl_source: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `new`.
#[derive(Debug, Args)]
pub struct New {
    /// Name of the package and of the folder that is made for it; may be the path of the folder.
    #[arg(value_name = "NAME")]
    pub path: PathBuf,
    /// What it is to become.
    #[arg(long, value_enum, default_value_t = TemplateArg::Program)]
    pub template: TemplateArg,
    /// Its language.
    #[arg(long, value_enum, default_value_t = LanguageArg::Rust)]
    pub language: LanguageArg,
    /// Rust without std, for the smallest image; a service is always so.
    #[arg(long)]
    pub no_std: bool,
}

/// What a new package is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TemplateArg {
    /// Answers messages of other domains over IDC.
    Service,
    /// Prints on its console and ends.
    Program,
}

/// Language of a new package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LanguageArg {
    /// A cargo package.
    Rust,
    /// A C file and a Makefile.
    C,
}

/// Options of `size`.
#[derive(Debug, Args)]
pub struct Size {
    /// The image; with --compare, any number of them.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// One line for each image instead of the details of one.
    #[arg(long)]
    pub compare: bool,
    /// The lines of Casemate's own source that are in the image, by file, and how many of them say `unsafe`: what to
    /// read before trusting it.
    #[arg(long, conflicts_with = "compare")]
    pub source: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The image.
    pub image: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// An image file; or what is then built: a package of Casemate, a folder with a cargo package or a Makefile.
    #[arg(value_name = "IMAGE|PACKAGE|FOLDER")]
    pub image: String,
    /// Run it as a Linux process on this machine instead.
    #[arg(long, conflicts_with_all = ["mode", "memory", "limit", "extra", "accel"])]
    pub hosted: bool,
    /// Profile of cargo, as for `build`.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Kind of virtual machine.
    #[arg(long, value_enum, default_value_t = ModeArg::Pv)]
    pub mode: ModeArg,
    /// Memory of the domain in MiB.
    #[arg(long, value_name = "MiB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub memory: u32,
    /// End the domain after this many seconds of a machine that boots in five; there is no limit otherwise.
    #[arg(long, value_name = "SECONDS")]
    pub limit: Option<f64>,
    /// Stop the domain at its main function and debug it: with gdb on this terminal, or (`--gdb=server`) with a gdb that
    /// you start. QEMU emulates, and the whole machine stands still while gdb has it stopped.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "terminal")]
    pub gdb: Option<Gdb>,
    /// A line for the domain's configuration file (xl.cfg); may be repeated.
    #[arg(long = "config", value_name = "LINE")]
    pub extra: Vec<String>,
    #[command(flatten)]
    pub bed: BedArgs,
    /// Words of the domain's command line. `env.NAME=VALUE` sets a variable; `env.RUST_BACKTRACE=full` is set unless you
    /// say something else, so that a panic is told with functions and lines.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// Who debugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gdb {
    /// gdb on this terminal.
    Terminal,
    /// Any gdb: print the command that connects it, and wait.
    Server,
}

/// Options of `symbolize`.
#[derive(Debug, Args)]
pub struct Symbolize {
    /// The image; its symbols are taken from NAME.debug beside it, if that is there.
    pub image: PathBuf,
    /// The text; standard input when none is named.
    pub file: Option<PathBuf>,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// File to hash; the Linux kernel that dom0 booted from when none is named.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Memory of the domain in MiB.
    #[arg(long, value_name = "MiB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub memory: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub bed: BedArgs,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub struct Test {
    /// Also what takes long.
    #[arg(long)]
    pub full: bool,
    /// Run only tests whose name contains this, and no hosted ones; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub only: Vec<String>,
    /// Write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    #[command(flatten)]
    pub bed: BedArgs,
}

/// Options of `measure`.
#[derive(Debug, Args)]
pub struct Measure {
    /// How often each boot is measured.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub bed: BedArgs,
}

/// Options of `vtpm`.
#[derive(Debug, Args)]
pub struct Vtpm {
    /// What to do.
    #[command(subcommand)]
    pub command: VtpmCommand,
}

/// What to do with vTPMs.
#[derive(Debug, Subcommand)]
pub enum VtpmCommand {
    /// What `vtpmd` does in dom0.
    #[command(flatten)]
    Instance(vtpmd::cli::InstanceCommand),
    /// Measure the vTPM against swtpm, on the test bed
    Measure(MeasureVtpm),
}

/// Options of `vtpm measure`.
#[derive(Debug, Args)]
pub struct MeasureVtpm {
    /// Kind of the virtual machines.
    #[arg(long, value_enum, default_value_t = ModeArg::Pvh)]
    pub mode: ModeArg,
    /// Windows for each command; those of both TPMs take turns.
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=999))]
    pub windows: u16,
    /// Divide the number of commands in a window by this.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub share: u32,
    /// How often the vTPM and a Linux guest are started.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Write the times of the commands to a file, as results for `casemate bench report`.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub bed: BedArgs,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Something else than measuring.
    #[command(subcommand)]
    pub action: Option<BenchAction>,
    /// Less of everything, and judge the shapes.
    #[arg(long)]
    pub quick: bool,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<BenchSection>,
    /// Only these tests: stream, back, roundtrip, latency, parked, ring, fan, count.
    #[arg(long, value_delimiter = ',', value_name = "TEST")]
    pub test: Vec<String>,
    /// Only this kind of guest; with --quick it is PV otherwise.
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// File for the results.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Draw the figures and write the report afterwards, into docs/.
    #[arg(long)]
    pub figures: bool,
    #[command(flatten)]
    pub bed: BedArgs,
}

/// Something else than measuring.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// What has changed from one run to another.
    Compare(BenchCompare),
    /// Draw the figures and write the report from results that are there.
    Report(BenchReport),
}

/// Options of `bench compare`.
#[derive(Debug, Args)]
pub struct BenchCompare {
    /// Results of one run.
    pub a: PathBuf,
    /// Results of another.
    pub b: PathBuf,
    /// Only lines that contain this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// Options of `bench report`.
#[derive(Debug, Args)]
pub struct BenchReport {
    /// Files of results; of two results for the same the later one counts.
    #[arg(required = true, value_name = "RESULTS")]
    pub results: Vec<PathBuf>,
    /// Folder that gets evaluation.md and figures/; docs/ of the tree if none is named.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Options about the test bed.
#[derive(Clone, Debug, Args)]
pub struct BedArgs {
    /// Whether QEMU uses KVM.
    #[arg(long, value_enum, default_value_t = AccelArg::Auto, env = "CASEMATE_ACCEL")]
    pub accel: AccelArg,
}

impl Default for BedArgs {
    fn default() -> Self {
        Self { accel: AccelArg::Auto }
    }
}

/// Kind of virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Para-virtualised; needs no virtualisation hardware.
    Pv,
    /// Hardware virtualisation without emulated devices.
    Pvh,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Pv => Self::Pv,
            ModeArg::Pvh => Self::Pvh,
        }
    }
}

/// Whether QEMU uses KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    /// Where `casemate doctor --probe-kvm` saw Xen work under it.
    Auto,
    /// Never: emulation.
    Tcg,
    /// Always.
    Kvm,
}

impl From<AccelArg> for Accel {
    fn from(accel: AccelArg) -> Self {
        match accel {
            AccelArg::Auto => Self::Auto,
            AccelArg::Tcg => Self::Tcg,
            AccelArg::Kvm => Self::Kvm,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! Programs over the C library as domains, on PV and on PVH: what `casemate new` writes, the conformance programs
//! of the tool chain, and test programs of well-known packages.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use sdk::{
    Sdk,
    conformance::{self, ABORTED},
    kernel,
    packages::{self, Workshop},
};
use testbed::{
    DomainConfig, TestBed, command_line,
    proto::{End, Mode, Reason},
};

use super::report::{Report, Verdict};
use crate::{
    command::{
        build::{Builder, Source},
        new,
        run::debug_file,
    },
    symbolize::Symbolizer,
    ui::{self, Ui},
    workspace::Workspace,
};

/// Memory of each domain in MiB.
const MEMORY_MIB: u32 = 64;

/// Nominal time limit of one program.
const LIMIT: Duration = Duration::from_secs(120);

/// What a new package is made from, its name, cargo's profile, the words it is started with and what it prints.
type Template =
    (&'static str, &'static new::Template, Option<&'static str>, &'static [&'static str], &'static str);

const TEMPLATES: [Template; 4] = [
    ("hello-c", &new::C_PROGRAM, None, &["one", "two"], "Hello from hello-c, with 2 words: one two\n"),
    (
        "hello-std",
        &new::RUST_PROGRAM,
        None,
        &["one", "two"],
        "Hello from hello-std, with 2 words: [\"one\", \"two\"]\n",
    ),
    (
        "hello-small",
        &new::RUST_PROGRAM,
        Some("small"),
        &["\u{e9} x"],
        "Hello from hello-small, with 1 words: [\"\u{e9} x\"]\n",
    ),
    ("hello-no-std", &new::RUST_NO_STD, None, &["one"], "Hello from hello-no-std, with 1 words.\n"),
];

/// A program that uses what std offers, in the place of a template's.
const FEATURES: &str = "std-features";
const FEATURES_SOURCE: &str = include_str!("../../../../../tests/programs/std-features.rs");

/// The service that `casemate new` writes, and what it prints when it can be reached.
const SERVICE: &str = "new-service";
const READY: &str = "new-service: ready\n";

/// The same in C, and the client that it answers in dom0.
const C_SERVICE: &str = "c-service";
const C_CLIENT: &str = "examples/c-echo/client.c";

/// A package, its test programs, and those that are run unless everything is asked for.
type Package = (&'static str, fn(&Workshop<'_>) -> sdk::Result<Vec<packages::Program>>, Selection);

enum Selection {
    /// A sample, one mode each in turn.
    Sample(fn(&[packages::Program]) -> Vec<&packages::Program>),
    /// All, in both modes.
    All,
    /// None: they take too long.
    None,
}

const PACKAGES: [Package; 6] = [
    ("gmp", packages::gmp::programs, Selection::Sample(packages::gmp::sample)),
    ("mbedtls", packages::mbedtls::programs, Selection::None),
    ("lz4", packages::lz4::programs, Selection::None),
    ("tpm", packages::tpm::programs, Selection::All),
    ("posix", packages::posix::programs, Selection::None),
    ("picolibc", packages::picolibc::programs, Selection::None),
];

/// The tests of packages by their own test commands, as Linux processes over the stand-in kernels.
type OwnTests = (&'static str, &'static str, fn(&Workshop<'_>) -> sdk::Result<packages::Outcome>);

const OWN_TESTS: [OwnTests; 6] = [
    ("gmp", kernel::STANDIN_FILES, packages::gmp::check),
    ("mbedtls", kernel::STANDIN_FILES, packages::mbedtls::check),
    ("lz4", kernel::STANDIN_FILES, packages::lz4::check),
    ("tpm", kernel::STANDIN, packages::tpm::check),
    ("posix", kernel::STANDIN, packages::posix::check),
    ("picolibc", kernel::STANDIN, packages::picolibc::check),
];

/// Is any of these tests wanted? Which programs a package has is known only when it is built, so a part of the
/// name of such a test is enough.
pub fn is_wanted(full: bool, report: &Report) -> bool {
    let in_modes = |name: &str| report.wants_in_a_mode([name]);
    TEMPLATES.iter().any(|(name, ..)| in_modes(name))
        || in_modes(FEATURES)
        || in_modes(SERVICE)
        || in_modes(C_SERVICE)
        || conformance::CASES.iter().any(|case| in_modes(&format!("conformance-{}", case.name)))
        || PACKAGES.iter().any(|package| wants_package(package, full, report))
        || (full && OWN_TESTS.iter().any(|(name, ..)| report.wants(&format!("standin-{name}"))))
}

/// Is a program of this package wanted, as far as can be told without its programs' names?
fn wants_package((name, _, selection): &Package, full: bool, report: &Report) -> bool {
    let named = |only: &str| {
        only.contains(&format!("{name}-"))
            || Mode::ALL.iter().any(|mode| format!("{mode}-{name}-").contains(only))
    };
    (full || !matches!(selection, Selection::None))
        && (report.only().is_empty() || report.only().iter().any(|only| named(only)))
}

/// Where programs for tests are made.
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("test-programs")
}

/// Runs them. What cannot be built is a result, too.
pub fn run(bed: &TestBed, workspace: &Workspace, full: bool, report: &mut Report, ui: &Ui) {
    if !is_wanted(full, report) {
        return;
    }
    let dir = folder(workspace);
    let builder = Builder::new(workspace, None, ui);
    let sdk = match builder.sdk() {
        Ok(sdk) => sdk,
        Err(error) => return report.add("sdk", Verdict::Error(ui::text_of(&error))),
    };
    let bench = Bench { bed, workspace, sdk, dir: &dir, ui };
    bench.templates(report);
    bench.conformance(report);
    bench.packages(full, report);
    if full {
        bench.own_tests(report);
    }
}

/// A program to run as a domain, and what it must do.
struct Program<'a> {
    image: &'a Path,
    /// Words of its command line.
    words: Vec<String>,
    /// What is typed, before the end of input; nothing at all when it is empty.
    input: &'a str,
    judge: &'a dyn Fn(i32, &str) -> Result<(), String>,
}

/// What the tests use.
struct Bench<'a> {
    bed: &'a TestBed,
    workspace: &'a Workspace,
    sdk: &'a Sdk,
    dir: &'a Path,
    ui: &'a Ui,
}

impl Bench<'_> {
    fn templates(&self, report: &mut Report) {
        for (name, template, profile, words, output) in TEMPLATES {
            let modes = wanted(name, report);
            if modes.is_empty() {
                continue;
            }
            let image = match self.template(name, template, profile) {
                Ok(image) => image,
                Err(error) => {
                    report.add(&format!("build-{name}"), Verdict::Failure(ui::text_of(&error)));
                    continue;
                }
            };
            let judge = |status, text: &str| expect(status, text, 0, output);
            let words = words.iter().map(ToString::to_string).collect();
            let program = Program { image: &image, words, input: "", judge: &judge };
            for (name, mode) in modes {
                report.add(&name, self.run(&program, mode));
            }
        }
        self.features(report);
        for (name, mode) in wanted(SERVICE, report) {
            let result = self.service(mode).map_err(|error| ui::text_of(&error));
            report.add(&name, result.into());
        }
        for (name, mode) in wanted(C_SERVICE, report) {
            let result = self.c_service(mode).map_err(|error| ui::text_of(&error));
            report.add(&name, result.into());
        }
    }

    /// The client for dom0: C, with the C library of IDC for Linux. Statically linked: dom0 has no libraries.
    fn c_client(&self) -> anyhow::Result<PathBuf> {
        let (program, native) = (self.dir.join("c-client"), self.sdk.native());
        let mut cc = Command::new("cc");
        cc.args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]).arg(native.join("include"));
        cc.arg("-o").arg(&program).arg(self.workspace.root.join(C_CLIENT));
        let output = cc.arg(native.join("lib/libidc.a")).arg("-lgcc_eh").output().context("cannot run cc")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(program)
    }

    /// The service in C answers clients in C, and a client notices that the domain is destroyed.
    fn c_service(&self, mode: Mode) -> anyhow::Result<()> {
        let image = self.template(C_SERVICE, &new::C_SERVICE, None)?;
        let client = self.bed.put(&self.c_client()?)?;
        let mut config = DomainConfig::new(&image, mode);
        config.memory_mib = MEMORY_MIB;
        let domain = self.bed.start_domain(&config)?;
        let id = domain.id();
        let script = format!(
            "set -e; {client} {id} {C_SERVICE} hello --sizes 'from dom0'
rm -f /tmp/c-pipe; mkfifo /tmp/c-pipe
{client} {id} {C_SERVICE} --wait > /tmp/c-pipe 2>&1 &
client=$!
exec 4< /tmp/c-pipe
read line <&4
xl destroy {id}
if wait $client; then echo status 0; else echo status $?; fi
echo $line
cat <&4"
        );
        let result = self.bed.shell(&script, Some(self.bed.limits().scale(LIMIT)));
        let console = domain.console().unwrap_or_default();
        domain.destroy()?;
        let output = result?;
        let text = String::from_utf8_lossy(&output.stdout);
        let parts =
            ["HELLO\nsizes: all came back\nFROM DOM0\n", "status 1\nwaiting\n", &format!("domain {id} died")];
        ensure!(
            output.status == 0 && parts.iter().all(|part| text.contains(part)),
            "status {} of dom0's part:\n{text}{}\nthe console says:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&console)
        );
        Ok(())
    }

    fn features(&self, report: &mut Report) {
        let modes = wanted(FEATURES, report);
        if modes.is_empty() {
            return;
        }
        let dir = self.dir.join(FEATURES);
        let write = || {
            new::RUST_PROGRAM.write(self.workspace, &dir, FEATURES)?;
            let source = dir.join("src/main.rs");
            fs::write(&source, FEATURES_SOURCE)
                .with_context(|| format!("cannot write {}", source.display()))?;
            self.image(&dir, None)
        };
        let image = match write() {
            Ok(image) => image,
            Err(error) => {
                return report.add(&format!("build-{FEATURES}"), Verdict::Failure(ui::text_of(&error)));
            }
        };
        let words = ["env.COLOUR=green", "env.RUST_BACKTRACE=full", "one", "two words"];
        let judge = |status, text: &str| expect(status, text, 3, "std: good\n");
        let words = words.iter().map(ToString::to_string).collect();
        let program = Program { image: &image, words, input: "", judge: &judge };
        for (name, mode) in modes {
            report.add(&name, self.run(&program, mode));
        }
    }

    /// Writes a new package and builds its image.
    fn template(
        &self,
        name: &str,
        template: &new::Template,
        profile: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        template.write(self.workspace, &dir, name)?;
        self.image(&dir, profile)
    }

    /// Builds the one image of the package in a folder.
    fn image(&self, dir: &Path, profile: Option<&str>) -> anyhow::Result<PathBuf> {
        let source = Source::named(self.workspace, &dir.display().to_string())?;
        let images = Builder::new(self.workspace, profile, self.ui).images(&source)?;
        ensure!(images.len() == 1, "{} has {} images", dir.display(), images.len());
        Ok(images.into_iter().next().context("no image")?.path)
    }

    /// The service comes up.
    fn service(&self, mode: Mode) -> anyhow::Result<()> {
        let image = self.template(SERVICE, &new::RUST_SERVICE, None)?;
        let mut config = DomainConfig::new(&image, mode);
        config.limit = Some(self.bed.limits().scale(LIMIT));
        let domain = self.bed.start_domain(&config)?;
        let mut text = String::new();
        let mut trouble = None;
        let end = domain.wait(|piece| {
            text.push_str(&String::from_utf8_lossy(piece).replace('\r', ""));
            if text.contains(READY)
                && let Err(error) = domain.destroy()
            {
                trouble = Some(error);
            }
        })?;
        if let Some(error) = trouble {
            return Err(error.into());
        }
        ensure!(text.contains(READY) && end.reason == Reason::Destroyed, "it ended ({end:?}):\n{text}");
        Ok(())
    }

    fn conformance(&self, report: &mut Report) {
        let name = |case: &conformance::Case| format!("conformance-{}", case.name);
        if conformance::CASES.iter().all(|case| wanted(&name(case), report).is_empty()) {
            return;
        }
        let built = conformance::build(self.sdk, kernel::LIBOS, &self.dir.join("conformance"));
        let programs = match built {
            Ok(programs) => programs,
            Err(error) => return report.add("build-conformance", Verdict::Failure(error.to_string())),
        };
        for program in &programs {
            let case = &program.case;
            let variables = case.env.iter().map(|(name, value)| format!("env.{name}={value}"));
            let words = variables.chain(case.args.iter().map(ToString::to_string)).collect();
            let judge = |status, text: &str| {
                let outcome = conformance::Outcome { status, output: text.to_owned() };
                program.judge(&outcome).map_err(|error| error.to_string())
            };
            let domain = Program { image: &program.image, words, input: case.input, judge: &judge };
            for (name, mode) in wanted(&name(case), report) {
                report.add(&name, self.run(&domain, mode));
            }
        }
    }

    fn packages(&self, full: bool, report: &mut Report) {
        for package in
            PACKAGES.iter().filter(|package| wants_package(package, full, report)).collect::<Vec<_>>()
        {
            let (name, programs, selection) = package;
            let build = |kernel| self.workshop(kernel, *programs);
            let sampled = !full && matches!(selection, Selection::Sample(_));
            let mut built = match build(kernel::LIBOS) {
                Ok(built) => built,
                Err(error) => {
                    report.add(&format!("build-{name}"), Verdict::Failure(error.to_string()));
                    continue;
                }
            };
            if !sampled && built.iter().any(|program| program.needs_files) {
                built.retain(|program| !program.needs_files);
                match build(kernel::LIBOS_FILES) {
                    Ok(more) => built.extend(more.into_iter().filter(|program| program.needs_files)),
                    Err(error) => {
                        report.add(&format!("build-{name}-files"), Verdict::Failure(error.to_string()));
                    }
                }
            }
            let chosen = match selection {
                Selection::Sample(sample) if sampled => sample(&built),
                _ => built.iter().collect(),
            };
            for (number, program) in chosen.into_iter().enumerate() {
                let judge = |status, text: &str| program.objection(status, text).map_or(Ok(()), Err);
                let domain =
                    Program { image: &program.image, words: program.args.clone(), input: "", judge: &judge };
                let modes = wanted(&format!("{name}-{}", program.name), report);
                for (name, mode) in
                    modes.into_iter().filter(|(_, mode)| !sampled || *mode == Mode::ALL[number % 2])
                {
                    report.add(&name, self.run(&domain, mode));
                }
                if let Err(error) = self.bed.take_back(&program.image) {
                    self.ui.warn(error.to_string());
                }
            }
        }
    }

    fn own_tests(&self, report: &mut Report) {
        for (name, kernel, check) in OWN_TESTS {
            let test = format!("standin-{name}");
            if report.wants(&test) {
                let outcome = self.workshop(kernel, check).and_then(packages::Outcome::into_result);
                report.add(&test, outcome.map(|_| ()).into());
            }
        }
    }

    /// Has a package built for a kernel of the SDK. The kernels have folders of their own: make would not know
    /// that it has to link anew.
    fn workshop<T>(&self, kernel: &str, work: impl Fn(&Workshop<'_>) -> sdk::Result<T>) -> sdk::Result<T> {
        let bar = self.ui.spinner("packages");
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let result = work(&Workshop {
            sdk: self.sdk,
            cache: &self.workspace.target.join("sdk-cache"),
            work: &self.workspace.target.join("packages").join(kernel),
            kernel,
            jobs,
            report: &|text| bar.set_message(text.to_owned()),
        });
        bar.finish_and_clear();
        result
    }

    /// Runs a program as a domain and judges.
    fn run(&self, program: &Program<'_>, mode: Mode) -> Verdict {
        match self.try_run(program, mode) {
            Ok((end, text)) => {
                let judged = (program.judge)(status_of(&end), &text);
                judged.map_err(|why| format!("{why}\n{}", self.last_words(program.image, &end, &text))).into()
            }
            Err(error) => Verdict::Error(ui::text_of(&error)),
        }
    }

    fn try_run(&self, program: &Program<'_>, mode: Mode) -> anyhow::Result<(End, String)> {
        let mut config = DomainConfig::new(program.image, mode);
        config.memory_mib = MEMORY_MIB;
        config.cmdline = command_line(&program.words).map_err(anyhow::Error::msg)?;
        config.limit = Some(self.bed.limits().scale(LIMIT));
        let domain = self.bed.start_domain(&config)?;
        if !program.input.is_empty() {
            // Control-D ends the input, as it does on a terminal.
            domain.input(format!("{}\x04", program.input).as_bytes())?;
        }
        let mut printed = Vec::new();
        let end = domain
            .wait(|piece| printed.extend_from_slice(piece))
            .with_context(|| format!("it printed:\n{}", String::from_utf8_lossy(&printed)))?;
        domain.destroy()?;
        Ok((end, String::from_utf8_lossy(&printed).replace('\r', "")))
    }

    /// The end of the console, with names for the addresses in it, and what Xen said.
    fn last_words(&self, image: &Path, end: &End, text: &str) -> String {
        let symbols = debug_file(image).and_then(|path| Symbolizer::new(&path).ok());
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        let mut shown = format!("it ended with {:?}, status {:?}, and printed", end.reason, end.status);
        for line in last.iter().copied().chain(end.xen_log.iter().map(String::as_str)) {
            let named = symbols.as_ref().map_or_else(|| line.to_owned(), |s| s.line(line));
            let _ = write!(shown, "\n  {named}");
        }
        shown
    }
}

/// The modes in which a test is wanted, with its full names.
fn wanted(name: &str, report: &Report) -> Vec<(String, Mode)> {
    let names = Mode::ALL.iter().map(|mode| (format!("{mode}-{name}"), *mode));
    names.filter(|(name, _)| report.wants(name)).collect()
}

/// The exit status as `casemate run` has it.
fn status_of(end: &End) -> i32 {
    match (end.reason, end.status) {
        (Reason::PowerOff, Some(status)) => status.into(),
        (Reason::Crash, Some(status)) if status != 0 => status.into(),
        (Reason::Crash, _) => ABORTED,
        _ => -1,
    }
}

fn expect(status: i32, text: &str, wanted: i32, output: &str) -> Result<(), String> {
    if status != wanted {
        return Err(format!("status {status} in place of {wanted}"));
    }
    if text.contains(output) { Ok(()) } else { Err(format!("no {output:?} in its output")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_command_line() {
        let end = |reason, status| End { reason, status, xen_log: Vec::new() };
        assert_eq!(status_of(&end(Reason::PowerOff, Some(3))), 3);
        assert_eq!(status_of(&end(Reason::Crash, None)), ABORTED);
        assert_eq!(status_of(&end(Reason::PowerOff, None)), -1);
        assert!(expect(0, "a hello b", 0, "hello").is_ok());
        assert!(expect(1, "hello", 0, "hello").is_err() && expect(0, "help", 0, "hello").is_err());
    }

    #[test]
    fn parts_of_names_select_packages() {
        let wants = |only: &str, full| {
            let report = Report::new(vec![only.to_owned()]);
            PACKAGES
                .iter()
                .filter(|p| wants_package(p, full, &report))
                .map(|(name, ..)| *name)
                .collect::<Vec<_>>()
        };
        assert_eq!(wants("pv-gmp-mpz/t-mul", false), ["gmp"]);
        assert_eq!(wants("gmp", false), ["gmp"]);
        assert_eq!(wants("pvh-posix", true), ["posix"]);
        assert!(wants("pvh-posix", false).is_empty() && wants("conformance", true).is_empty());
    }
}

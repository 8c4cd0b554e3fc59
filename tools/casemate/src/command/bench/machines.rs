//! Builds the two halves, brings them to where they belong, and collects what they find.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use idcperf::record::{Record, load};
use indicatif::ProgressBar;
use testbed::{
    DomainConfig, Error, GuestFiles, LinuxConfig, LinuxGuest, TestBed,
    proto::{Mode, Stream},
};

use super::{
    Sink, boot,
    plan::{self, Effort, Run, Section},
};
use crate::{
    cli::BedArgs,
    command::build::build_packages,
    image::finish::Image,
    project, session,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The program of both halves in Linux, and the second half as a domain.
const IDCPERF: &str = "casemate-idcperf";
const PEER: &str = "bench-peer";

/// Memory for domains in MiB: a Linux guest and a few small ones.
const DOMAINS_MIB: u32 = 768;

/// Xen's parameters: one processor for dom0, so that the other one is the guest's.
const PINNED: [&str; 2] = ["dom0_max_vcpus=1", "dom0_vcpus_pin"];

/// Line for the guest's configuration that binds it to the other processor.
const GUEST_CPU: &str = "cpus = \"1\"";

/// Nominal time limit of one run.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs sections, each result into the sink as soon as it is there.
///
/// # Errors
/// When something cannot be built or run.
pub fn run(
    workspace: &Workspace,
    options: &BedArgs,
    sections: &[Section],
    modes: &[Mode],
    amount: &Amount,
    sink: &mut Sink,
    ui: &Ui,
) -> anyhow::Result<()> {
    let wanted = |section| sections.contains(&section);
    if wanted(Section::Size) {
        boot::sizes(workspace, sink, ui)?;
    }
    if wanted(Section::Hosted) {
        hosted(workspace, amount, sink, ui)?;
    }
    if !(wanted(Section::Boot) || wanted(Section::Linux) || wanted(Section::Libos)) {
        return Ok(());
    }
    let images = if wanted(Section::Boot) || wanted(Section::Libos) {
        build_packages(workspace, &[], ui)?
    } else {
        Vec::new()
    };
    let programs = Programs {
        idcperf: workspace.static_program(IDCPERF, ui)?,
        vchan: workspace.vchan_program("vchan-perf", &["-Wl,--wrap=xenevtchn_notify"])?,
    };
    let bed = session::open_with_xen(workspace, options, DOMAINS_MIB, &PINNED, ui)?;
    if wanted(Section::Boot) {
        boot::cycles(&bed, &images, amount.effort, sink, ui)?;
    }
    for mode in modes {
        if wanted(Section::Linux) {
            linux(&bed, &programs, *mode, amount, sink, ui)?;
        }
        if wanted(Section::Libos) {
            libos(&bed, &programs, &images, *mode, amount, sink, ui)?;
        }
    }
    bed.shutdown()?;
    Ok(())
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Amount {
    /// In general.
    pub effort: Effort,
    /// Names of results; all if none is named.
    pub tests: Vec<String>,
}

impl Amount {
    fn runs(&self, section: Section) -> Vec<Run> {
        plan::runs(section, self.effort).into_iter().filter_map(|run| run.restricted(&self.tests)).collect()
    }
}

/// Receives lines of `idcperf` that were printed in some place.
struct Collector<'a> {
    sink: &'a mut Sink,
    section: Section,
    mode: Option<Mode>,
    bar: ProgressBar,
    rest: Vec<u8>,
    /// Of the run that is underway, if its results have a name of their own.
    name: Option<&'static str>,
    failed: Option<anyhow::Error>,
    /// The only tests that were asked for; all if there are none.
    tests: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(
        sink: &'a mut Sink,
        section: Section,
        mode: Option<Mode>,
        (amount, runs): (&Amount, &[Run]),
        ui: &Ui,
    ) -> Self {
        let what = match mode {
            Some(mode) => format!("{} {mode}", section.place()),
            None => section.place().to_owned(),
        };
        let bar = ui.bar(runs.iter().map(Run::results).sum(), what);
        Self {
            sink,
            section,
            mode,
            bar,
            rest: Vec::new(),
            name: None,
            failed: None,
            tests: amount.tests.clone(),
        }
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let mut record = Record::from_line(line)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("idcperf printed `{line}`"))?;
        record.place = self.section.place().to_owned();
        record.mode = self.mode.map(|mode| mode.to_string()).unwrap_or_default();
        if let Some(name) = self.name {
            name.clone_into(&mut record.test);
        }
        // What counts is the machine under it all.
        record.load = load();
        let mode = self.mode.map(|mode| format!(" --mode {mode}")).unwrap_or_default();
        let tests = self.tests.iter().map(|test| format!(" --test {test}")).collect::<String>();
        record.command = format!("casemate bench --only {}{mode}{tests}", self.section.name());
        self.bar.inc(1);
        self.bar.set_message(format!("{}, {}", record.test, record.series));
        self.sink.add(record)
    }

    /// A piece of the output.
    fn piece(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let result = self.line(String::from_utf8_lossy(&line).trim_end());
            self.failed = self.failed.take().or(result.err());
        }
    }
}

fn hosted(workspace: &Workspace, amount: &Amount, sink: &mut Sink, ui: &Ui) -> anyhow::Result<()> {
    let clang = libclang().filter(|_| amount.effort == Effort::Full);
    if clang.is_none() && amount.effort == Effort::Full {
        ui.warn("iceoryx2 is left out: its build needs libclang (install the package libclang-dev)");
    }
    let program = build_hosted(workspace, clang.as_deref(), ui)?;
    let mut runs = amount.runs(Section::Hosted);
    if clang.is_none() {
        runs.iter_mut().for_each(|run| run.transports.retain(|name| !name.starts_with("iceoryx2")));
    }
    let mut collector = Collector::new(sink, Section::Hosted, None, (amount, &runs), ui);
    for run in &runs {
        collector.name = run.name;
        let mut child = Command::new(&program)
            .args(run.arguments())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let lines = BufReader::new(child.stdout.take().context("the program's output")?).lines();
        for line in lines {
            collector.line(&line.context("cannot read what idcperf prints")?)?;
        }
        let status = child.wait().context("cannot wait for idcperf")?;
        ensure!(status.success(), "idcperf {} failed with {status}", run.arguments().join(" "));
    }
    collector.bar.finish_and_clear();
    Ok(())
}

/// Builds the program for this machine.
fn build_hosted(workspace: &Workspace, clang: Option<&Path>, ui: &Ui) -> anyhow::Result<PathBuf> {
    let mut command = workspace.cargo("build");
    command.args(["--quiet", "--release", "--package", IDCPERF]);
    if let Some(dir) = clang {
        command.args(["--features", "iceoryx2"]).env("LIBCLANG_PATH", dir);
    }
    let bar = ui.spinner("building idcperf");
    let built = project::build(command, IDCPERF);
    bar.finish_and_clear();
    built?.remove("idcperf").context("cargo built no program idcperf")
}

/// The folder of libclang, which the build of iceoryx2 needs.
fn libclang() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut found: Vec<_> = versions
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")))
        .map(|path| path.join("lib"))
        .filter(|dir| ["libclang.so", "libclang.so.1"].iter().any(|name| dir.join(name).exists()))
        .collect();
    found.sort();
    found.pop()
}

/// Both halves in Linux.
struct Programs {
    idcperf: PathBuf,
    vchan: PathBuf,
}

/// What a Linux may hand out and open for a thousand connections.
const RAISE_LIMITS: &str =
    "echo 100000 > /sys/module/xen_gntalloc/parameters/limit; ulimit -n 4096 2> /dev/null;";

fn linux(
    bed: &TestBed,
    programs: &Programs,
    mode: Mode,
    amount: &Amount,
    sink: &mut Sink,
    ui: &Ui,
) -> anyhow::Result<()> {
    let mut config = LinuxConfig::new(mode);
    config.files = GuestFiles::default()
        .file(&programs.idcperf, "/bin/idcperf")
        .file(&programs.vchan, "/bin/vchan-perf");
    config.network = true;
    config.memory_mib = 256;
    config.extra.push(GUEST_CPU.to_owned());
    let bar = ui.spinner(format!("starting a Linux guest ({mode})"));
    let guest = bed.start_linux(&config);
    bar.finish_and_clear();
    let guest = guest?;
    let (address, _) = guest.addresses().context("the guest has no network")?;
    let runs = amount.runs(Section::Linux);
    let mut collector = Collector::new(sink, Section::Linux, Some(mode), (amount, &runs), ui);
    for run in &runs {
        let first = First { bed, programs, peer: guest.id(), address: Some(address) };
        thread::scope(|scope| {
            let (said, says) = mpsc::channel();
            let limit = bed.limits().scale(LIMIT);
            let guest: &LinuxGuest = &guest;
            scope.spawn(move || {
                let script = format!("{RAISE_LIMITS} exec /bin/idcperf serve --vchan /bin/vchan-perf");
                let mut output = Vec::new();
                let collect = |_: Stream, piece: &[u8]| output.extend_from_slice(piece);
                let status = guest.run(&["/bin/sh", "-c", &script], &[], Some(limit), collect);
                // Nobody may be listening any more.
                drop(said.send((status, String::from_utf8_lossy(&output).into_owned())));
            });
            let result = first.run(run, &mut collector);
            // The second half ends with the first one.
            let (status, output) = says.recv().context("the second half vanished")?;
            result.with_context(|| format!("the second half says ({status:?}): {output}"))?;
            ensure!(status? == 0, "the second half failed: {output}");
            Ok(())
        })?;
    }
    collector.bar.finish_and_clear();
    Ok(guest.destroy()?)
}

fn libos(
    bed: &TestBed,
    programs: &Programs,
    images: &[Image],
    mode: Mode,
    amount: &Amount,
    sink: &mut Sink,
    ui: &Ui,
) -> anyhow::Result<()> {
    let image = images.iter().find(|i| i.name == PEER);
    let image = image.with_context(|| format!("there is no image {PEER}"))?;
    let runs = amount.runs(Section::Libos);
    let mut collector = Collector::new(sink, Section::Libos, Some(mode), (amount, &runs), ui);
    for run in &runs {
        let mut config = DomainConfig::new(&image.path, mode);
        config.memory_mib = 64;
        config.extra.push(GUEST_CPU.to_owned());
        config.extra.push("event_channels = 4096".to_owned());
        config.limit = Some(bed.limits().scale(LIMIT));
        let domain = bed.start_domain(&config)?;
        let first = First { bed, programs, peer: domain.id(), address: None };
        first.run(run, &mut collector).map_err(|error| {
            let console = domain.console().unwrap_or_default();
            error.context(format!("the domain says:\n{}", String::from_utf8_lossy(&console)))
        })?;
        domain.destroy()?;
    }
    collector.bar.finish_and_clear();
    Ok(())
}

/// The first half in dom0.
struct First<'a> {
    bed: &'a TestBed,
    programs: &'a Programs,
    peer: u16,
    address: Option<&'a str>,
}

impl First<'_> {
    fn run(&self, run: &Run, collector: &mut Collector<'_>) -> anyhow::Result<()> {
        let (idcperf, vchan) = (self.bed.put(&self.programs.idcperf)?, self.bed.put(&self.programs.vchan)?);
        let address = self.address.map(|a| format!(" --address {a}")).unwrap_or_default();
        let script = format!(
            "{RAISE_LIMITS} exec {idcperf} --unpinned --peer {} --vchan {vchan}{address} {}",
            self.peer,
            run.arguments().join(" ")
        );
        let limit = Some(self.bed.limits().scale(LIMIT));
        let mut errors = Vec::new();
        collector.name = run.name;
        let status = self.bed.run(&["/bin/sh", "-c", &script], &[], limit, |stream, piece| match stream {
            Stream::Stderr => errors.extend_from_slice(piece),
            _ => collector.piece(piece),
        });
        if let Some(error) = collector.failed.take() {
            return Err(error);
        }
        match status {
            Ok(0) => Ok(()),
            Ok(status) => {
                bail!("status {status} of idcperf: {}", String::from_utf8_lossy(&errors).trim_end())
            }
            Err(error @ Error::TimeLimit { .. }) => Err(error).context(run.arguments().join(" ")),
            Err(error) => bail!("{}", ui::text_of(&error.into())),
        }
    }
}

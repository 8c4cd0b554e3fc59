//! The conformance suite of IDC between a library-OS domain and dom0, in both roles, and between two such domains.

use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::{
    Domain, DomainConfig, TestBed,
    proto::{Mode, Reason},
};

use super::report::{Report, Verdict};
use crate::{
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The package; its image lacks the first part of the name.
pub(super) const PACKAGE: &str = "casemate-idc-conformance";
const IMAGE: &str = "idc-conformance";

/// Rings of 256 pages, and what comes and goes through them.
const MEMORY_MIB: u32 = 16;

/// Nominal time limit of one step of the suite.
const LIMIT: Duration = Duration::from_secs(60);

/// What each role says at its end.
pub(super) const PASSED: &str = "conformance: all passed";

type PairTest = fn(&Bench<'_>) -> anyhow::Result<()>;

/// Server, then client.
const TESTS: [(&str, PairTest); 3] =
    [("idc-libos-dom0", libos_dom0), ("idc-dom0-libos", dom0_libos), ("idc-libos-libos", libos_libos)];

struct Bench<'a> {
    bed: &'a TestBed,
    mode: Mode,
    image: &'a Image,
    /// Path of the suite in dom0.
    program: String,
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode(TESTS.iter().map(|(name, _)| *name))
}

/// Runs them.
///
/// # Errors
/// When the suite cannot be built or brought into dom0.
pub fn run(
    bed: &TestBed,
    workspace: &Workspace,
    images: &[Image],
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    if !is_wanted(report) {
        return Ok(());
    }
    let program = bed.put(&workspace.static_program(PACKAGE, ui)?)?;
    let image = image(images)?;
    for mode in Mode::ALL {
        let bench = Bench { bed, mode, image, program: program.clone() };
        for (name, test) in TESTS {
            let name = format!("{mode}-{name}");
            if report.wants(&name) {
                report.add(&name, Verdict::from(test(&bench).map_err(|e| ui::text_of(&e))));
            }
        }
    }
    Ok(())
}

impl Bench<'_> {
    fn start(&self, words: &str) -> anyhow::Result<Domain> {
        start(self.bed, self.image, self.mode, words)
    }

    /// Plays a role in dom0.
    fn dom0(&self, words: &str) -> anyhow::Result<String> {
        let script = format!("{} {words} {}", self.program, step(self.bed).as_secs());
        let output = self.bed.shell(&script, Some(4 * step(self.bed)))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status == 0 && said.contains(PASSED), "status {} of dom0:\n{said}", output.status);
        Ok(said)
    }
}

/// Time limit of one step of the suite.
pub(super) fn step(bed: &TestBed) -> Duration {
    bed.limits().scale(LIMIT)
}

/// The suite's image.
pub(super) fn image(images: &[Image]) -> anyhow::Result<&Image> {
    images.iter().find(|i| i.name == IMAGE).with_context(|| format!("there is no image {IMAGE}"))
}

/// Starts a domain with a role.
pub(super) fn start(bed: &TestBed, image: &Image, mode: Mode, words: &str) -> anyhow::Result<Domain> {
    let mut config = DomainConfig::new(&image.path, mode);
    config.memory_mib = MEMORY_MIB;
    config.cmdline = format!("{words} {}", step(bed).as_secs());
    config.limit = Some(4 * step(bed));
    Ok(bed.start_domain(&config)?)
}

/// The domain's end has to be a good one.
pub(super) fn end(domain: &Domain) -> anyhow::Result<()> {
    let mut console = Vec::new();
    let end = domain.wait(|piece| console.extend_from_slice(piece))?;
    let console = String::from_utf8_lossy(&console);
    let good = end.reason == Reason::PowerOff && end.status == Some(0) && console.contains(PASSED);
    ensure!(good, "domain {}: {end:?}\n{console}", domain.id());
    Ok(())
}

/// What one side says explains the other's failure.
pub(super) fn both(one: anyhow::Result<()>, other: anyhow::Result<()>) -> anyhow::Result<()> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.context(format!("and the other side: {other:#}"))),
        (one, other) => one.and(other),
    }
}

fn libos_dom0(bench: &Bench<'_>) -> anyhow::Result<()> {
    let server = bench.start("serve")?;
    let client = bench.dom0(&format!("check {}", server.id())).map(drop);
    both(client, end(&server))
}

fn dom0_libos(bench: &Bench<'_>) -> anyhow::Result<()> {
    let client = bench.start("check 0")?;
    let server = bench.dom0("serve").map(drop);
    both(server, end(&client))
}

fn libos_libos(bench: &Bench<'_>) -> anyhow::Result<()> {
    let server = bench.start("serve")?;
    let client = bench.start(&format!("check {}", server.id()))?;
    both(end(&client), end(&server))
}

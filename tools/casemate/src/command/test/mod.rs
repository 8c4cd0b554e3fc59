//! `casemate test`: everything that can be tested, one line each.

mod bench;
mod conformance;
mod fuzz;
mod guest;
mod hosted;
mod hostile;
mod judge;
mod licences;
mod linux;
mod programs;
mod report;
mod service;
mod vchan;
mod vtpm;
mod whole;

use std::process::ExitCode;

use self::report::Report;
use crate::{
    cli, command::build::build_packages, command::setup, image::finish::Image, interrupt::Interrupt, session,
    ui::Ui, workspace::Workspace,
};

/// Package with one domain for each test.
const GUEST_TESTS: &str = "casemate-guest-tests";

/// Memory for the domains that run at the same time, in MiB.
const DOMAINS_MIB: u32 = 1024;

/// Runs every test.
///
/// # Errors
/// When the tests cannot be run; a test that fails is no error here but in the exit status.
pub fn test(options: &cli::Test, ui: &Ui) -> anyhow::Result<ExitCode> {
    setup::ensure(ui)?;
    let workspace = Workspace::find()?;
    let interrupt = Interrupt::install()?;
    let mut report = Report::new(options.only.clone());
    if options.only.is_empty() {
        hosted::run(&workspace, &mut report, ui)?;
    }
    fuzz::run(&workspace, options.full, &mut report, ui)?;
    match build_packages(&workspace, &[], ui) {
        Ok(images) => domains(&workspace, options, &images, &mut report, ui)?,
        Err(error) => report.add("build", report::Verdict::Error(crate::ui::text_of(&error))),
    }
    drop(interrupt);
    if let Some(path) = &options.junit {
        report.write_junit(path)?;
    }
    Ok(report.finish())
}

/// The tests that need Xen.
fn domains(
    workspace: &Workspace,
    options: &cli::Test,
    images: &[Image],
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    let tests = guest::find(workspace, images)?;
    let shared = whole::SHARED.iter().chain(&whole::SHARED_LONG);
    if tests.iter().any(|t| t.is_wanted(report))
        || service::is_wanted(report)
        || programs::is_wanted(options.full, report)
        || linux::is_wanted(report)
        || vchan::is_wanted(report)
        || vtpm::is_wanted(report)
        || conformance::is_wanted(report)
        || hostile::is_wanted(report)
        || shared.into_iter().any(|(name, _)| report.wants(name))
    {
        let bed = session::open(workspace, &options.bed, DOMAINS_MIB, ui)?;
        guest::run(&bed, &tests, report, ui);
        service::run(&bed, workspace, images, report, ui)?;
        whole::in_shared_bed(&bed, workspace, images, options.full, report, ui)?;
        programs::run(&bed, workspace, options.full, report, ui);
        conformance::run(&bed, workspace, images, report, ui)?;
        hostile::run(&bed, workspace, images, report, ui)?;
        vchan::run(&bed, workspace, images, report, ui)?;
        linux::run(&bed, workspace, images, options.full, report, ui)?;
        vtpm::run(&bed, workspace, options.full, report, ui);
        report.add("bed-shutdown", bed.shutdown().into());
    }
    bench::run(workspace, &options.bed, report, ui);
    whole::on_their_own(workspace, images, report, ui)
}

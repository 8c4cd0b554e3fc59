//! The tests that need nothing but this machine: format, lints, licences, `cargo test`.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::Context;

use super::{
    licences,
    report::{Report, Verdict},
};
use crate::{
    image::build,
    ui::Ui,
    workspace::{MUSL, Workspace},
};

/// Lines of output that a failed check shows.
const SHOWN: usize = 60;

/// Runs them all.
///
/// # Errors
/// When cargo cannot be run.
pub fn run(workspace: &Workspace, report: &mut Report, ui: &Ui) -> anyhow::Result<()> {
    let mut format = workspace.cargo("fmt");
    format.args(["--all", "--check"]);
    check("format", "checking the format", format, report, ui)?;

    let mut lints = workspace.cargo("clippy");
    lints.args(["--quiet", "--all-targets", "--", "-D", "warnings"]);
    check("lints", "looking for lints", lints, report, ui)?;

    // The code of the kernel and of domains only makes sense for their target.
    let mut lints = workspace.cargo("clippy");
    // With their own profile: code without std cannot unwind.
    lints.args(["--quiet", "--lib", "--bins", "--profile", build::PROFILE, "--target", MUSL, "--target-dir"]);
    lints.arg(workspace.target.join("domain-lints"));
    let domains = workspace.packages()?.into_iter().filter(|p| p.is_domain);
    for package in domains.map(|p| p.name).chain([build::KERNEL.to_owned()]) {
        lints.args(["--package", &package]);
    }
    lints.args(["--", "-D", "warnings"]);
    lints.env("CARGO_ENCODED_RUSTFLAGS", build::CODE_FLAGS.join("\x1f"));
    check("lints-domain", "looking for lints in the code of domains", lints, report, ui)?;

    if workspace.cargo("deny").arg("--version").output().is_ok_and(|o| o.status.success()) {
        let mut deny = workspace.cargo("deny");
        // The advisory database would have to be downloaded; tests do not need the network.
        deny.args(["--offline", "check", "bans", "licenses", "sources"]);
        check("licences", "checking licences", deny, report, ui)?;
    } else {
        report.add("licences", licences::check(workspace)?);
    }
    cargo_test(workspace, &[], report, ui)?;
    idc(workspace, report, ui)?;
    // Those parts of the kernel that are plain computation; it is no default member, since as a whole it only
    // makes sense for its target.
    cargo_test(workspace, &["--package", build::KERNEL, "--lib"], report, ui)
}

/// What plain `cargo test` does not build of IDC: its optional features, and its models for loom, which need a
/// compiler flag and so a directory of their own.
fn idc(workspace: &Workspace, report: &mut Report, ui: &Ui) -> anyhow::Result<()> {
    const PACKAGE: &str = "casemate-idc";
    let mut features = workspace.cargo("test");
    features.args(["--quiet", "--package", PACKAGE, "--test", "asynchronous"]);
    features.args(["--features", "tokio,embedded-io-async"]);
    check("idc-features", "IDC with tokio and embedded-io", features, report, ui)?;

    // All interleavings; two ends with a fence taken away are among the tests, and must fail.
    let mut loom = workspace.cargo("test");
    loom.args(["--quiet", "--package", PACKAGE, "--release", "--test", "loom", "--target-dir"]);
    loom.arg(workspace.target.join("loom"));
    loom.env("RUSTFLAGS", "--cfg loom").env_remove("CARGO_ENCODED_RUSTFLAGS");
    check("idc-loom", "all interleavings of IDC", loom, report, ui)
}

/// Runs a command that has to succeed.
fn check(name: &str, doing: &str, mut command: Command, report: &mut Report, ui: &Ui) -> anyhow::Result<()> {
    let bar = ui.spinner(doing);
    let output = command.output();
    bar.finish_and_clear();
    let output = output.context("cannot run cargo")?;
    let verdict = if output.status.success() {
        Verdict::Success
    } else {
        let text = [output.stdout, output.stderr].concat();
        let lines: Vec<_> = String::from_utf8_lossy(&text).lines().take(SHOWN).map(str::to_owned).collect();
        Verdict::Failure(lines.join("\n"))
    };
    report.add(name, verdict);
    Ok(())
}

/// Runs `cargo test`, shows the sums of each test program and whatever is not a passed test.
fn cargo_test(workspace: &Workspace, packages: &[&str], report: &mut Report, ui: &Ui) -> anyhow::Result<()> {
    let mut command = workspace.cargo("test");
    command.args(["--no-fail-fast"]).args(packages).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The agent in the tests of the command line tool must not be one that somebody named.
    command.env_remove("CASEMATE_AGENT");
    let bar = ui.spinner("cargo test");
    let mut child = command.spawn().context("cannot run cargo")?;
    let errors = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).collect::<Vec<_>>())
    });
    let (mut passed, mut failed) = (0, 0);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read the output of cargo test")?;
            if let Some((p, f)) = sums(&line) {
                (passed, failed) = (passed + p, failed + f);
            } else if let Some((name, result)) = result(&line) {
                bar.set_message(format!("cargo test: {name}"));
                if result != "ok" {
                    bar.suspend(|| println!("hosted {name} ... {result}"));
                }
            } else if !line.is_empty() && !line.starts_with("running ") {
                bar.suspend(|| println!("    {line}"));
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    bar.finish_and_clear();
    println!("hosted tests: {passed} passed, {failed} failed");
    report.add_sums(passed, failed);
    if !status.success() && failed == 0 {
        let errors = errors.and_then(|e| e.join().ok()).unwrap_or_default();
        let shown = errors[errors.len().saturating_sub(SHOWN)..].join("\n");
        report.add("cargo-test", Verdict::Error(format!("cargo test ended with {status}\n{shown}")));
    }
    Ok(())
}

/// `test NAME ... RESULT` of a test program.
fn result(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name, result.trim()))
}

/// The sums in `test result: ok. 5 passed; 1 failed; ...`.
fn sums(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = rest.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_test_programs_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(sums(line), Some((12, 3)));
        assert_eq!(sums("test x ... ok"), None);
        assert_eq!(result("test a::b ... ok"), Some(("a::b", "ok")));
        assert_eq!(
            result("test src/lib.rs - x (line 3) ... FAILED"),
            Some(("src/lib.rs - x (line 3)", "FAILED"))
        );
        assert_eq!(result("testing"), None);
    }
}

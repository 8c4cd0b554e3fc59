//! The fuzz targets of `fuzz/`, each for some seconds.
//!
//! They are built by the stable compiler: cargo-fuzz asks for a nightly one only for sanitizers that code without `unsafe`
//! does not need. What libFuzzer needs is coverage, which is a pass of LLVM.

use std::{fs, path::Path, process::Command};

use anyhow::Context;

use super::report::{Report, Verdict};
use crate::{project, ui::Ui, workspace::Workspace};

/// The targets; in the report their names have `fuzz-` in front.
const TARGETS: [&str; 8] = [
    "setup_page",
    "hostile_writer",
    "hostile_reader",
    "xenstore",
    "names",
    "vchan",
    "vtpm_frame",
    "vtpm_state",
];

/// Where they are built for. Named, so that build scripts are built without coverage.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Coverage as libFuzzer wants it.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Seconds for each target.
const SECONDS: u32 = 10;

/// More than any target's input can use.
const MAX_LEN: u32 = 6000;

/// Lines of output that a failure shows.
const SHOWN: usize = 40;

fn name_of(target: &str) -> String {
    format!("fuzz-{}", target.replace('_', "-"))
}

/// Runs those that are wanted, with `full` ten times as long.
///
/// # Errors
/// When a folder cannot be made or a program cannot be run.
pub fn run(workspace: &Workspace, full: bool, report: &mut Report, ui: &Ui) -> anyhow::Result<()> {
    let wanted: Vec<_> = TARGETS.into_iter().filter(|target| report.wants(&name_of(target))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let folder = workspace.target.join("fuzz");
    let mut build = project::cargo(&workspace.root.join("fuzz"), "build");
    build.args(["--quiet", "--release", "--locked", "--target", HOST, "--target-dir"]).arg(&folder);
    build.args(wanted.iter().flat_map(|target| ["--bin", target]));
    build.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    let bar = ui.spinner("building fuzz targets");
    let built = build.output();
    bar.finish_and_clear();
    let built = built.context("cannot run cargo")?;
    if !built.status.success() {
        report.add("fuzz-build", Verdict::Error(tail(&built.stderr)));
        return Ok(());
    }
    for target in wanted {
        let bar = ui.spinner(format!("fuzzing {target}"));
        let verdict = fuzz(&folder, target, if full { 10 * SECONDS } else { SECONDS });
        bar.finish_and_clear();
        report.add(&name_of(target), verdict?);
    }
    Ok(())
}

/// Runs one for some seconds; what it learns is kept for the next time.
fn fuzz(folder: &Path, target: &str, seconds: u32) -> anyhow::Result<Verdict> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new(folder.join(HOST).join("release").join(target));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={MAX_LEN}"));
    // An input that takes so long is a hang.
    command.args(["-timeout=60", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    let output = command.output().with_context(|| format!("cannot run {target}"))?;
    Ok(verdict(output.status.success(), &output.stderr))
}

fn verdict(success: bool, said: &[u8]) -> Verdict {
    if !success {
        return Verdict::Failure(tail(said));
    }
    // Without coverage it would find next to nothing, and pass.
    if String::from_utf8_lossy(said).contains("Is the code instrumented for coverage?") {
        return Verdict::Error("the target has no coverage: does this compiler know the flags?".to_owned());
    }
    Verdict::Success
}

fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_target_of_the_folder_is_run() {
        let folder = Workspace::find().unwrap().root.join("fuzz/fuzz_targets");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
        };
        let files: BTreeSet<_> = fs::read_dir(folder).unwrap().map(name).collect();
        assert_eq!(files, TARGETS.map(str::to_owned).into());
    }

    #[test]
    fn a_crash_and_a_blind_target_do_not_pass() {
        assert_eq!(verdict(true, b"Done 5 runs"), Verdict::Success);
        assert!(matches!(verdict(false, b"SUMMARY: libFuzzer: deadly signal"), Verdict::Failure(_)));
        let blind =
            b"WARNING: no interesting inputs were found so far. Is the code instrumented for coverage?";
        assert!(matches!(verdict(true, blind), Verdict::Error(_)));
    }
}

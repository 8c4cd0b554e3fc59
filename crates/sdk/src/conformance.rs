//! Conformance programs: small self-checking C programs of what a domain's C library must do.
//!
//! They are written so that a domain and the stand-in give the same results: the same program, arguments and
//! environment, and the same expected exit status and last line. [`build`] compiles them for a kernel;
//! [`Program::run`] runs one as a Linux process, and the test bed runs the same list as domains.

use crate::assets;
use crate::error::{At, Error, Result};
use crate::install::Sdk;
use crate::run::Step;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Exit status of a program that crashed or called `abort`, on Linux as a shell reports it (128 + SIGABRT) and
/// in a domain.
pub const ABORTED: i32 = 134;

/// What a program is started with and what it must do.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name; the source is `sdk/tests/NAME.c`.
    pub name: &'static str,
    /// Arguments after the program's name.
    pub args: &'static [&'static str],
    /// Variables of the environment (`env.NAME=VALUE` on a domain's command line).
    pub env: &'static [(&'static str, &'static str)],
    /// The exit status, 0 to 255.
    pub status: i32,
    /// Text that the output must hold.
    pub output: &'static str,
}

const fn case(name: &'static str, output: &'static str) -> Case {
    Case { name, args: &[], env: &[], status: 0, output }
}

/// All conformance programs.
pub const CASES: &[Case] = &[
    case("hello", "hello, world\n"),
    case("absent", " checks, 0 failed\n"),
    case("cancel", " checks, 0 failed\n"),
    case("malloc", " checks, 0 failed\n"),
    case("math", " checks, 0 failed\n"),
    case("memory", " checks, 0 failed\n"),
    case("pipe", " checks, 0 failed\n"),
    case("pthread", " checks, 0 failed\n"),
    case("random", " checks, 0 failed\n"),
    case("setjmp", " checks, 0 failed\n"),
    case("signal", " checks, 0 failed\n"),
    case("stdio", " checks, 0 failed\n"),
    case("string", " checks, 0 failed\n"),
    case("time", " checks, 0 failed\n"),
    Case {
        args: &["alpha", "beta=2"],
        env: &[("CASEMATE_TEST", "value")],
        ..case("environment", " checks, 0 failed\n")
    },
    Case { status: 42, ..case("exit", "order 321 destructor") },
    Case { status: ABORTED, ..case("abort", "handler for SIGABRT\n") },
    Case { status: ABORTED, ..case("assert", "Assertion failed: argc == 100") },
];

/// A built program.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is for.
    pub case: Case,
    /// The unstripped image.
    pub image: PathBuf,
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit status; 128 + N after signal N.
    pub status: i32,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// Compiles the programs below `dir` for a kernel of the SDK.
pub fn build(sdk: &Sdk, kernel: &str, dir: &Path) -> Result<Vec<Program>> {
    fs::create_dir_all(dir).at(dir)?;
    for asset in assets::TESTS {
        let path = dir.join(asset.path);
        fs::write(&path, asset.text).at(&path)?;
    }
    let log = dir.join("build.log");
    let mut programs = Vec::new();
    for case in CASES {
        let image = dir.join(case.name);
        // The plain command that the guide promises; -O2 because optimised code is what ships.
        Step::new(format!("compile {}.c", case.name), sdk.tool("gcc"), &log)
            .arg("-O2")
            .arg(format!("{}.c", case.name))
            .arg("-o")
            .arg(&image)
            .env("CASEMATE_KERNEL", kernel)
            .dir(dir)
            .run()?;
        programs.push(Program { case: *case, image });
    }
    Ok(programs)
}

impl Program {
    /// Runs it as a Linux process (an image for a stand-in kernel). There is no time limit here; the caller
    /// knows how long it wants to wait.
    pub fn run(&self) -> Result<Outcome> {
        let output = Command::new(&self.image)
            .args(self.case.args)
            .env_clear()
            .envs(self.case.env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .at(&self.image)?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Outcome { status: exit_code(&output.status), output: text })
    }

    /// An error unless the outcome is the expected one.
    pub fn judge(&self, outcome: &Outcome) -> Result<()> {
        if outcome.status == self.case.status && outcome.output.contains(self.case.output) {
            return Ok(());
        }
        let failed: Vec<&str> =
            outcome.output.lines().filter(|line| line.contains("failed")).take(10).collect();
        Err(Error::Malformed {
            path: self.image.clone(),
            reason: format!(
                "status {} (expected {}), output without \"{}\": {}",
                outcome.status,
                self.case.status,
                self.case.output.trim_end(),
                if failed.is_empty() { outcome.output.trim_end().to_owned() } else { failed.join("\n") }
            ),
        })
    }
}

/// The exit status as a shell reports it: 128 + N after signal N.
pub fn exit_code(status: &ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_a_case_and_every_case_has_a_source() {
        let mut sources: Vec<&str> = assets::TESTS.iter().filter_map(|a| a.path.strip_suffix(".c")).collect();
        let mut cases: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        sources.sort_unstable();
        cases.sort_unstable();
        assert_eq!(sources, cases);
    }

    #[test]
    fn judging_looks_at_status_and_output() {
        let program = Program { case: case("hello", "hello"), image: PathBuf::from("hello") };
        let outcome = |status, output: &str| Outcome { status, output: output.to_owned() };
        assert!(program.judge(&outcome(0, "hello\n")).is_ok());
        assert!(program.judge(&outcome(1, "hello\n")).is_err());
        assert!(program.judge(&outcome(0, "help\n")).is_err());
    }
}

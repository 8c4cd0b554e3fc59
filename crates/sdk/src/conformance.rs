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
use std::io::Write as _;
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
    /// What is typed, up to the end of input.
    pub input: &'static str,
    /// Texts that the output must hold, each once.
    pub output: &'static [&'static str],
    /// Whether only a domain behaves so.
    pub domain_only: bool,
    /// Whether it needs files.
    pub files: bool,
}

const fn case(name: &'static str, output: &'static [&'static str]) -> Case {
    Case { name, args: &[], env: &[], status: 0, input: "", output, domain_only: false, files: false }
}

/// The last line of a program that checks itself.
const CHECKED: &[&str] = &[" checks, 0 failed\n"];

/// A program that a domain ends with a report of a page fault.
const fn fault(name: &'static str, report: &'static [&'static str]) -> Case {
    Case { status: ABORTED, domain_only: true, ..case(name, report) }
}

/// All conformance programs.
pub const CASES: &[Case] = &[
    case("hello", &["hello, world\n"]),
    case("absent", CHECKED),
    Case { input: "42 -1.5 word\nthe second line\n", ..case("console", CHECKED) },
    Case {
        domain_only: true,
        ..case("limits", &[" checks, 0 failed\n", "libos: system call ptrace is not available (ENOSYS)\n"])
    },
    Case { files: true, ..case("files", CHECKED) },
    fault("readonly", &["trap: page fault (vector 14) writing at address"]),
    fault("unmapped", &["trap: page fault (vector 14) reading at address"]),
    case("cancel", CHECKED),
    case("malloc", CHECKED),
    case("math", CHECKED),
    case("memory", CHECKED),
    case("pipe", CHECKED),
    case("pthread", CHECKED),
    case("random", CHECKED),
    case("setjmp", CHECKED),
    case("signal", CHECKED),
    case("stdio", CHECKED),
    case("string", CHECKED),
    case("time", CHECKED),
    Case { args: &["alpha", "beta=2"], env: &[("CASEMATE_TEST", "value")], ..case("environment", CHECKED) },
    Case { status: 42, ..case("exit", &["order 321 destructor"]) },
    Case { status: ABORTED, ..case("abort", &["handler for SIGABRT\n"]) },
    Case { status: ABORTED, ..case("assert", &["Assertion failed: argc == 100"]) },
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
    for case in CASES.iter().filter(|case| kernel == crate::kernel::LIBOS || !case.domain_only) {
        let image = dir.join(case.name);
        // The plain command that the guide promises; -O2 because optimised code is what ships.
        Step::new(format!("compile {}.c", case.name), sdk.tool("gcc"), &log)
            .arg("-O2")
            .arg(format!("{}.c", case.name))
            .arg("-o")
            .arg(&image)
            .env("CASEMATE_KERNEL", if case.files { with_files(kernel) } else { kernel })
            .dir(dir)
            .run()?;
        programs.push(Program { case: *case, image });
    }
    Ok(programs)
}

/// The kernel with files that goes with `kernel`.
pub fn with_files(kernel: &str) -> &str {
    match kernel {
        crate::kernel::LIBOS => crate::kernel::LIBOS_FILES,
        crate::kernel::STANDIN => crate::kernel::STANDIN_FILES,
        other => other,
    }
}

impl Program {
    /// Runs it as a Linux process (an image for a stand-in kernel). There is no time limit here; the caller
    /// knows how long it wants to wait.
    pub fn run(&self) -> Result<Outcome> {
        let mut child = Command::new(&self.image)
            .args(self.case.args)
            .current_dir(self.image.parent().unwrap_or(Path::new(".")))
            .env_clear()
            .envs(self.case.env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .at(&self.image)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that has ended, or closed its input, does not want it.
            let _ = stdin.write_all(self.case.input.as_bytes());
        }
        let output = child.wait_with_output().at(&self.image)?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Outcome { status: exit_code(&output.status), output: text })
    }

    /// An error unless the outcome is the expected one.
    pub fn judge(&self, outcome: &Outcome) -> Result<()> {
        let wrong = self.case.output.iter().find(|text| outcome.output.matches(**text).count() != 1);
        if outcome.status == self.case.status && wrong.is_none() {
            return Ok(());
        }
        let failed: Vec<&str> =
            outcome.output.lines().filter(|line| line.contains("failed")).take(10).collect();
        Err(Error::Malformed {
            path: self.image.clone(),
            reason: format!(
                "status {} (expected {}), output with \"{}\" not once: {}",
                outcome.status,
                self.case.status,
                wrong.map_or("", |text| text.trim_end()),
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
        let program = Program { case: case("hello", &["hello"]), image: PathBuf::from("hello") };
        let outcome = |status, output: &str| Outcome { status, output: output.to_owned() };
        assert!(program.judge(&outcome(0, "hello\n")).is_ok());
        assert!(program.judge(&outcome(1, "hello\n")).is_err());
        assert!(program.judge(&outcome(0, "help\n")).is_err());
        assert!(program.judge(&outcome(0, "hello\nhello\n")).is_err());
    }
}

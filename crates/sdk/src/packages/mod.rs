//! Well-known C packages, built unmodified with the SDK by their own build systems.
//!
//! They are the test of the tool chain's promise: [`gmp`] for autoconf (the paper's example), [`mbedtls`] for
//! CMake, [`lz4`] for meson, [`tpm`] for a static library of another distribution, and two suites that test
//! the C library itself, [`posix`] and [`picolibc`]. The source comes from package registries by checksum and
//! is never changed.
//!
//! Each module can build for any kernel of the SDK: over a stand-in the package's own test command runs the
//! programs as Linux processes; for the library OS the programs are returned and the test bed boots them.

pub mod gmp;
mod junit;
pub mod lz4;
pub mod mbedtls;
pub mod picolibc;
pub mod posix;
pub mod tpm;

use crate::conformance::exit_code;
use crate::error::{At, Error, Result};
use crate::install::Sdk;
use crate::run::Step;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where and how packages are built.
pub struct Workshop<'a> {
    /// The tool chain.
    pub sdk: &'a Sdk,
    /// Downloads; shared with [`crate::Options::cache`].
    pub cache: &'a Path,
    /// Folder for unpacked and built packages; kept between runs.
    pub work: &'a Path,
    /// Kernel to link with, see [`crate::kernel`].
    pub kernel: &'a str,
    /// Parallel jobs.
    pub jobs: usize,
    /// Called with a sentence at the start of each longer step.
    pub report: &'a (dyn Fn(&str) + Sync + 'a),
}

impl std::fmt::Debug for Workshop<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop")
            .field("work", &self.work)
            .field("kernel", &self.kernel)
            .finish_non_exhaustive()
    }
}

/// A program that a package was built into, and how it is to be run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name within the package.
    pub name: String,
    /// The unstripped image.
    pub image: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The exit status of success.
    pub status: i32,
    /// Text that its output then holds.
    pub output: &'static str,
    /// Whether it writes or reads files, which a domain does not have.
    pub needs_files: bool,
}

impl Program {
    /// A program without arguments that succeeds with status 0.
    fn plain(name: impl Into<String>, image: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            args: Vec::new(),
            status: 0,
            output: "",
            needs_files: false,
        }
    }

    fn with_args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    fn with_output(mut self, output: &'static str) -> Self {
        self.output = output;
        self
    }

    /// Why an outcome is not the expected one, in a few words; `None` when it is.
    pub fn objection(&self, status: i32, output: &str) -> Option<String> {
        if status != self.status {
            let last = output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
            return Some(format!("status {status}, {last}"));
        }
        (!output.contains(self.output)).then(|| format!("no \"{}\" in its output", self.output))
    }
}

/// Results of a package's tests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Name of the suite.
    pub suite: String,
    /// Tests that passed.
    pub passed: Vec<String>,
    /// Tests that failed, each with a word on why.
    pub failed: Vec<String>,
    /// Tests that declared themselves not applicable, each with a word on why.
    pub skipped: Vec<String>,
}

impl Outcome {
    /// How many ran.
    pub fn total(&self) -> usize {
        self.passed.len() + self.failed.len()
    }

    /// An error if a test failed, or if none ran.
    pub fn into_result(self) -> Result<Self> {
        if self.failed.is_empty() && !self.passed.is_empty() {
            return Ok(self);
        }
        let names = if self.total() == 0 { "none ran".to_owned() } else { self.failed.join(", ") };
        Err(Error::Tests { what: self.suite.clone(), failed: self.failed.len(), total: self.total(), names })
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} of {} passed", self.suite, self.passed.len(), self.total())?;
        if !self.skipped.is_empty() {
            write!(f, ", {} not applicable", self.skipped.len())?;
        }
        Ok(())
    }
}

impl Workshop<'_> {
    fn log(&self, package: &str) -> PathBuf {
        self.work.join(format!("{package}.log"))
    }

    /// A step with the SDK's commands in `PATH`, linking for this workshop's kernel.
    fn step(&self, what: &str, program: impl AsRef<std::ffi::OsStr>, log: &Path) -> Step {
        Step::new(what, program, log).path_first(&self.sdk.bin()).env("CASEMATE_KERNEL", self.kernel)
    }

    /// Whether `dir` was made from this very SDK and these inputs; if not, it is emptied.
    fn is_current(&self, dir: &Path, inputs: &[&str]) -> Result<bool> {
        let stamp = self.stamp(inputs);
        if fs::read_to_string(dir.join(".casemate-stamp")).is_ok_and(|old| old == stamp) {
            return Ok(true);
        }
        if dir.exists() {
            fs::remove_dir_all(dir).at(dir)?;
        }
        fs::create_dir_all(dir).at(dir)?;
        Ok(false)
    }

    /// Marks `dir` as finished.
    fn set_current(&self, dir: &Path, inputs: &[&str]) -> Result<()> {
        let stamp = dir.join(".casemate-stamp");
        fs::write(&stamp, self.stamp(inputs)).at(&stamp)
    }

    fn stamp(&self, inputs: &[&str]) -> String {
        let libc = fs::read_to_string(self.sdk.sysroot().join("lib/musl.stamp")).unwrap_or_default();
        let prefix = self.sdk.prefix().display().to_string();
        let parts = inputs.iter().copied().chain([libc.as_str(), prefix.as_str()]);
        crate::cache::sha256_parts(parts.map(str::as_bytes))
    }
}

/// Runs programs as Linux processes in `dir`, `jobs` at a time, each for at most `limit`, and judges them.
fn run_all(suite: &str, programs: &[Program], dir: &Path, jobs: usize, limit: Duration) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Option<String>)>> {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(program) = programs.get(index) else { return Ok(results) };
            let output = dir.join(format!("{}.out", program.name.replace('/', "-")));
            results.push((index, run_limited(program, dir, &output, limit)?));
        }
    };
    let mut results: Vec<_> = in_parallel(jobs, &work)?.into_iter().flatten().collect();
    results.sort_unstable();
    let mut outcome = Outcome { suite: suite.to_owned(), ..Outcome::default() };
    for (index, objection) in results {
        let name = &programs[index].name;
        match objection {
            None => outcome.passed.push(name.clone()),
            Some(why) => outcome.failed.push(format!("{name} ({why})")),
        }
    }
    Ok(outcome)
}

/// Runs `work` in so many threads and collects what they return, or the first error.
fn in_parallel<T: Send>(jobs: usize, work: &(dyn Fn() -> Result<T> + Sync)) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Runs one program with its output in a file; returns the objection to what it did.
fn run_limited(program: &Program, dir: &Path, output: &Path, limit: Duration) -> Result<Option<String>> {
    let file = fs::File::create(output).at(output)?;
    let errors = file.try_clone().at(output)?;
    let mut child = Command::new(&program.image)
        .args(&program.args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .at(&program.image)?;
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().at(&program.image)? {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            child.wait().at(&program.image)?;
            return Ok(Some(format!("still running after {} s", limit.as_secs())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let text = String::from_utf8_lossy(&fs::read(output).at(output)?).into_owned();
    Ok(program.objection(exit_code(&status), &text))
}

/// Whether a file is an ELF program.
fn is_program(path: &Path) -> bool {
    use object::Object as _;
    fs::read(path).is_ok_and(|data| {
        object::File::parse(&*data).is_ok_and(|file| file.kind() == object::ObjectKind::Executable)
    })
}

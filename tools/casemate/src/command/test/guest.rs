//! Guest tests: one small domain each, on PV and on PVH, in one boot of the test bed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use testbed::{Domain, DomainConfig, Error, TestBed, proto::Mode};

use super::{
    GUEST_TESTS,
    judge::{Expectation, Run},
    report::{Report, Verdict},
};
use crate::{
    command::run::debug_file, image::finish::Image, symbolize::Symbolizer, ui::Ui, workspace::Workspace,
};

/// Every test runs in each of these, unless it says otherwise.
/// Memory of a test that does not ask for another size, in MiB.
const MEMORY_MIB: u32 = 16;

/// Nominal time limit of one test.
const LIMIT: Duration = Duration::from_secs(60);

/// A guest test. Lines at the head of its source set options: `//! args: COMMAND LINE`, `//! memory: MIB`,
/// `//! mode: pv`.
pub struct GuestTest {
    name: String,
    image: PathBuf,
    range: (u64, u64),
    memory_mib: u32,
    mode: Option<String>,
    cmdline: String,
}

/// The tests among the images that were built.
///
/// # Errors
/// When the source of a test cannot be read or says something unknown.
pub fn find(workspace: &Workspace, images: &[Image]) -> anyhow::Result<Vec<GuestTest>> {
    let package = workspace.packages()?.into_iter().find(|p| p.name == GUEST_TESTS);
    let bins = package.map(|p| p.bins).unwrap_or_default();
    let dir = workspace.root.join("tests/guest/src/bin");
    let tests = images.iter().filter(|i| bins.contains(&i.name));
    tests
        .map(|image| {
            let mut test = GuestTest {
                name: image.name.clone(),
                image: image.path.clone(),
                range: image.info.range,
                memory_mib: MEMORY_MIB,
                mode: None,
                cmdline: String::new(),
            };
            test.read_options(&dir.join(format!("{}.rs", image.name)))?;
            Ok(test)
        })
        .collect()
}

impl GuestTest {
    fn read_options(&mut self, source: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
        for line in text.lines().map_while(|l| l.strip_prefix("//!")) {
            match line.trim().split_once(": ") {
                Some(("args", text)) => self.cmdline = text.to_owned(),
                Some(("mode", mode)) => self.mode = Some(mode.to_owned()),
                Some(("memory", mib)) => {
                    let wrong = || format!("{}: {mib} is not a number of MiB", source.display());
                    self.memory_mib = mib.parse().with_context(wrong)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Is it to be run in any mode?
    pub fn is_wanted(&self, report: &Report) -> bool {
        Mode::ALL.iter().any(|mode| self.name_in(*mode).is_some_and(|name| report.wants(&name)))
    }

    /// Its full name in a mode, if it is meant for that.
    fn name_in(&self, mode: Mode) -> Option<String> {
        self.mode.as_ref().is_none_or(|only| only == mode.name()).then(|| format!("{mode}-{}", self.name))
    }

    /// Runs it and judges.
    fn run(&self, bed: &TestBed, mode: Mode) -> Verdict {
        match self.try_run(bed, mode) {
            Ok(run) => run.verdict(),
            Err(error) => Verdict::Error(error),
        }
    }

    fn try_run(&self, bed: &TestBed, mode: Mode) -> Result<Run, String> {
        let mut config = DomainConfig::new(&self.image, mode);
        config.memory_mib = self.memory_mib;
        config.cmdline.clone_from(&self.cmdline);
        config.limit = Some(bed.limits().scale(LIMIT));
        let domain = bed.start_domain(&config).map_err(|e| e.to_string())?;
        let mut watcher =
            Watcher { domain: &domain, printed: Vec::new(), seen: 0, expectations: Vec::new(), idle: None };
        let mut trouble = None;
        let end = domain.wait(|piece| {
            watcher.printed.extend_from_slice(piece);
            if let Err(e) = watcher.look() {
                trouble.get_or_insert(e);
            }
        });
        let console = self.with_symbols(&String::from_utf8_lossy(&watcher.printed));
        let end = match (end, trouble) {
            (Ok(end), None) => end,
            (_, Some(trouble)) => return Err(trouble),
            (Err(e @ Error::TimeLimit { .. }), _) => return Err(format!("{e}; it printed:\n{console}")),
            (Err(e), _) => return Err(e.to_string()),
        };
        let idle = watcher.idle.map(|(cpu, since)| {
            let now = domain.state().map_or(f64::INFINITY, |s| s.cpu_seconds);
            (now - cpu, since.elapsed().as_secs_f64())
        });
        let expectations = watcher.expectations;
        domain.destroy().map_err(|e| e.to_string())?;
        Ok(Run { end, console, expectations, idle, image: self.range })
    }

    /// The console with names for the addresses of a backtrace.
    fn with_symbols(&self, console: &str) -> String {
        if !console.contains("backtrace:") {
            return console.to_owned();
        }
        let symbols = debug_file(&self.image).and_then(|path| Symbolizer::new(&path).ok());
        let lines = console.lines().map(|l| symbols.as_ref().map_or_else(|| l.to_owned(), |s| s.line(l)));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Runs all tests that are wanted.
pub fn run(bed: &TestBed, tests: &[GuestTest], report: &mut Report, ui: &Ui) {
    let all = Mode::ALL.into_iter().flat_map(|mode| tests.iter().map(move |test| (mode, test)));
    let named = all.filter_map(|(mode, test)| Some((test.name_in(mode)?, mode, test)));
    let wanted: Vec<_> = named.filter(|(name, ..)| report.wants(name)).collect();
    if wanted.is_empty() {
        return;
    }
    let bar = ui.bar(wanted.len() as u64, "guest tests");
    for (name, mode, test) in wanted {
        bar.set_message(name.clone());
        let verdict = test.run(bed, mode);
        bar.inc(1);
        bar.suspend(|| report.add(&name, verdict));
    }
    bar.finish_and_clear();
}

/// Follows the console of a test and does what it asks for.
struct Watcher<'a> {
    domain: &'a Domain,
    printed: Vec<u8>,
    /// Bytes of `printed` that were looked at.
    seen: usize,
    expectations: Vec<Expectation>,
    /// Processor time when it began to be idle, and when that was.
    idle: Option<(f64, Instant)>,
}

impl Watcher<'_> {
    /// Looks at the lines that are complete.
    fn look(&mut self) -> Result<(), String> {
        while let Some(length) = self.printed[self.seen..].iter().position(|b| *b == b'\n') {
            let line = String::from_utf8_lossy(&self.printed[self.seen..self.seen + length]).into_owned();
            self.seen += length + 1;
            let Some(expectation) = Expectation::parse(line.trim_end()) else { continue };
            let expectation = expectation?;
            match &expectation {
                Expectation::Input(text) => {
                    self.domain.input(format!("{text}\n").as_bytes()).map_err(|e| e.to_string())?;
                }
                Expectation::Idle => {
                    let state = self.domain.state().map_err(|e| e.to_string())?;
                    self.idle = Some((state.cpu_seconds, Instant::now()));
                }
                _ => {}
            }
            self.expectations.push(expectation);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("x.rs");
        let mut test = GuestTest {
            name: "x".to_owned(),
            image: PathBuf::new(),
            range: (0, 0),
            memory_mib: MEMORY_MIB,
            mode: None,
            cmdline: String::new(),
        };
        fs::write(&source, "//! Text.\n//! args: a \"b c\"\n//! memory: 4\n//! mode: pv\nfn main() {}\n")
            .unwrap();
        test.read_options(&source).unwrap();
        assert_eq!(
            (test.memory_mib, test.mode.as_deref(), test.cmdline.as_str()),
            (4, Some("pv"), "a \"b c\"")
        );
        fs::write(&source, "//! memory: much\n").unwrap();
        assert!(test.read_options(&source).is_err());
    }
}

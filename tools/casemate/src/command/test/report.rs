//! Results of tests: four verdicts, one line each, a last line with the sums, and JUnit for machines.

use std::{fmt::Write as _, fs, path::Path, process::ExitCode, time::Instant};

use anyhow::Context;
use testbed::proto::Mode;

/// Result of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Success,
    /// It cannot be told here, for this reason.
    Skip(String),
    /// It does not hold.
    Failure(String),
    /// The test itself did not come to a result.
    Error(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Skip(_) => "skip",
            Self::Failure(_) => "failure",
            Self::Error(_) => "error",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Self::Success => None,
            Self::Skip(why) | Self::Failure(why) | Self::Error(why) => Some(why),
        }
    }
}

/// What failed and what did not.
impl<E: std::fmt::Display> From<Result<(), E>> for Verdict {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|e| Self::Failure(e.to_string()), |()| Self::Success)
    }
}

struct Entry {
    name: String,
    verdict: Verdict,
    seconds: f64,
}

/// All results so far.
pub struct Report {
    only: Vec<String>,
    entries: Vec<Entry>,
    /// Results of test programs that report sums themselves.
    passed: u64,
    failed: u64,
    last: Instant,
}

impl Report {
    /// Empty; with `only`, just tests whose name contains one of these are wanted.
    pub fn new(only: Vec<String>) -> Self {
        Self { only, entries: Vec::new(), passed: 0, failed: 0, last: Instant::now() }
    }

    /// Is this test to be run?
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    /// Is one of these tests to be run, in any mode?
    pub fn wants_in_a_mode<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> bool {
        names.into_iter().any(|name| Mode::ALL.iter().any(|mode| self.wants(&format!("{mode}-{name}"))))
    }

    /// Parts of the names of the tests that are wanted; nothing when all are.
    pub fn only(&self) -> &[String] {
        &self.only
    }

    /// Adds and prints a result; its time is that since the result before, and printed if it is a matter of seconds.
    pub fn add(&mut self, name: &str, verdict: Verdict) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        match seconds {
            1.0.. => println!("{name} ... {} ({seconds:.0} s)", verdict.word()),
            _ => println!("{name} ... {}", verdict.word()),
        }
        if let Some(why) = verdict.why() {
            for line in why.lines() {
                println!("    {line}");
            }
        }
        self.entries.push(Entry { name: name.to_owned(), verdict, seconds });
    }

    /// Adds sums of a test program that has printed its own results.
    pub fn add_sums(&mut self, passed: u64, failed: u64) {
        self.passed += passed;
        self.failed += failed;
        self.last = Instant::now();
    }

    fn count(&self, is: impl Fn(&Verdict) -> bool) -> u64 {
        self.entries.iter().filter(|e| is(&e.verdict)).count() as u64
    }

    fn failures(&self) -> u64 {
        self.failed + self.count(|v| matches!(v, Verdict::Failure(_) | Verdict::Error(_)))
    }

    /// Prints the sums and returns the exit status. No test at all is a failure, too.
    pub fn finish(&self) -> ExitCode {
        let passed = self.passed + self.count(|v| *v == Verdict::Success);
        let (failed, skipped) = (self.failures(), self.count(|v| matches!(v, Verdict::Skip(_))));
        if skipped > 0 {
            println!("{skipped} skipped");
        }
        println!("{passed} passed, {failed} failed");
        if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Writes the results in the form of JUnit. Test programs that only gave sums appear as one test each way.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_junit(&self, path: &Path) -> anyhow::Result<()> {
        let skipped = self.count(|v| matches!(v, Verdict::Skip(_)));
        let errors = self.count(|v| matches!(v, Verdict::Error(_)));
        let failures = self.count(|v| matches!(v, Verdict::Failure(_)));
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            xml,
            "<testsuite name=\"casemate\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">",
            self.entries.len()
        );
        for Entry { name, verdict, seconds } in &self.entries {
            let _ = write!(xml, "  <testcase name=\"{}\" time=\"{seconds:.3}\"", escape(name));
            let _ = match (verdict, verdict.why()) {
                (Verdict::Skip(_), Some(why)) => {
                    writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(why))
                }
                (_, Some(why)) => {
                    let word = verdict.word();
                    writeln!(xml, "><{word} message=\"{}\"/></testcase>", escape(why))
                }
                (_, None) => writeln!(xml, "/>"),
            };
        }
        xml.push_str("</testsuite>\n");
        fs::write(path, xml).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Text for an XML attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clean_run_succeeds() {
        let mut report = Report::new(Vec::new());
        assert_eq!(report.finish(), ExitCode::FAILURE, "nothing was tested");
        report.add("a", Verdict::Success);
        report.add("b", Verdict::Skip("not here".to_owned()));
        assert_eq!(report.finish(), ExitCode::SUCCESS);
        report.add_sums(3, 1);
        assert_eq!(report.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn junit_is_escaped() {
        let mut report = Report::new(Vec::new());
        report.add("a<b", Verdict::Failure("x & \"y\"\n\u{7}".to_owned()));
        let file = tempfile::NamedTempFile::new().unwrap();
        report.write_junit(file.path()).unwrap();
        let xml = fs::read_to_string(file.path()).unwrap();
        assert!(xml.contains("failures=\"1\"") && xml.contains("a&lt;b"), "{xml}");
        assert!(xml.contains("x &amp; &quot;y&quot;&#10;?"), "{xml}");
    }
}

//! What a guest test announces, and whether it came true.
//!
//! A guest test says its result with its exit status: 0 success, 77 skip, 1 failure. A line `expect: ...` on its
//! console announces another end, or asks the test bed for something; the table is in `tests/guest/src/lib.rs`.

use testbed::proto::{End, Reason};

use super::report::Verdict;

/// Exit status of a test that cannot be run here.
const SKIP: u8 = 77;

/// Exit status of a test that failed.
const FAILURE: u8 = 1;

/// Part of a processor that an idle domain may use.
const IDLE_LIMIT: f64 = 0.05;

/// `xl` tells processor time in tenths of a second; that much may have been used before.
const RESOLUTION: f64 = 0.1;

/// What a line `expect: ...` announces.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// A report of an exception, then a crash.
    Trap {
        /// Its vector.
        vector: u32,
        /// The address in the report.
        address: Option<u64>,
        /// Words that the report contains.
        words: String,
    },
    /// A report of a panic of the application with this text, then a crash.
    Panic(String),
    /// A report of a panic of the kernel with this text, then a crash.
    KernelPanic(String),
    /// A crash inside of Xen, in the code of the image.
    XenCrash,
    /// This exit status.
    Exit(u8),
    /// Almost no processor time from now on.
    Idle,
    /// The test bed types this text and a newline.
    Input(String),
    /// Exactly this line on the console, once.
    Line(String),
}

impl Expectation {
    /// Reads a line of the console; `None` when it announces nothing.
    ///
    /// # Errors
    /// When it announces something unknown.
    pub fn parse(line: &str) -> Option<Result<Self, String>> {
        let text = line.strip_prefix("expect: ")?.trim_end();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let unknown = || format!("the test announces something unknown: {line}");
        let known = match word {
            "xen-crash" => Some(Self::XenCrash),
            "idle" => Some(Self::Idle),
            "input" => Some(Self::Input(rest.to_owned())),
            "line" if !rest.is_empty() => Some(Self::Line(rest.to_owned())),
            "exit" => rest.parse().ok().map(Self::Exit),
            "panic" => Some(Self::Panic(rest.to_owned())),
            "kernel" => rest.strip_prefix("panic").map(|rest| Self::KernelPanic(rest.trim().to_owned())),
            _ => word.strip_prefix("trap=").and_then(|vector| Self::trap(vector, rest)),
        };
        Some(known.ok_or_else(unknown))
    }

    fn trap(vector: &str, rest: &str) -> Option<Self> {
        let vector = vector.parse().ok()?;
        let (first, words) = rest.split_once(' ').unwrap_or((rest, ""));
        match first.strip_prefix("address=") {
            Some(address) => {
                Some(Self::Trap { vector, address: Some(hex(address)?), words: words.to_owned() })
            }
            None => Some(Self::Trap { vector, address: None, words: rest.to_owned() }),
        }
    }
}

/// Everything that is known about the run of a guest test.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub console: String,
    /// What it announced.
    pub expectations: Vec<Expectation>,
    /// Processor time and real time in seconds since it announced to be idle.
    pub idle: Option<(f64, f64)>,
    /// Addresses of its image.
    pub image: (u64, u64),
}

impl Run {
    /// The result of the test.
    pub fn verdict(&self) -> Verdict {
        if let Err(why) = self.idle_enough() {
            return Verdict::Failure(why);
        }
        for expectation in &self.expectations {
            if let Expectation::Line(text) = expectation {
                let count = self.console.lines().filter(|l| l.trim_end() == text).count();
                if count != 1 {
                    return Verdict::Failure(format!(
                        "{count} times instead of once: {text}\n{}",
                        self.tail()
                    ));
                }
            }
        }
        let announced = self.expectations.iter().rev().find(|e| {
            // These announce no end.
            !matches!(e, Expectation::Idle | Expectation::Input(_) | Expectation::Line(_))
        });
        match announced {
            Some(expectation) => self.came_true(expectation).into(),
            None => self.verdict_of_status(),
        }
    }

    fn verdict_of_status(&self) -> Verdict {
        match (self.end.reason, self.end.status) {
            (Reason::PowerOff, Some(0)) => Verdict::Success,
            (Reason::PowerOff, Some(SKIP)) => Verdict::Skip(self.last_line()),
            (Reason::PowerOff, Some(FAILURE)) => Verdict::Failure(self.last_line()),
            (Reason::PowerOff, None) => Verdict::Error(format!("no exit status\n{}", self.tail())),
            (Reason::PowerOff, Some(status)) => {
                Verdict::Error(format!("exit status {status}\n{}", self.tail()))
            }
            (reason, _) => {
                let log = self.end.xen_log.join("\n");
                Verdict::Error(format!("unexpected end ({reason:?})\n{}\n{log}", self.tail()))
            }
        }
    }

    fn came_true(&self, expectation: &Expectation) -> Result<(), String> {
        let crashed = self.end.reason == Reason::Crash;
        let wrong = |what: String| Err(format!("{what}; it ended with {}\n{}", self.how(), self.tail()));
        match expectation {
            Expectation::Exit(status) => match (self.end.reason, self.end.status) {
                (Reason::PowerOff, Some(got)) if got == *status => Ok(()),
                _ => wrong(format!("exit status {status} was announced")),
            },
            Expectation::Trap { vector, address, words } => {
                let reported = self.console.lines().any(|line| reports_trap(line, *vector, *address));
                let said = self.console.lines().filter(|l| !l.starts_with("expect: "));
                if crashed
                    && reported
                    && (words.is_empty() || said.into_iter().any(|l| l.contains(words.as_str())))
                {
                    return Ok(());
                }
                let at = address.map_or(String::new(), |a| format!(" at {a:#x}"));
                wrong(format!("a report of exception {vector}{at} {words} was announced"))
            }
            Expectation::Panic(text) => {
                let says = |l: &str| l.strip_prefix("panic: ").is_some_and(|m| m.contains(text.as_str()));
                if crashed && self.console.lines().any(says) {
                    return Ok(());
                }
                wrong(format!("a panic with {text:?} was announced"))
            }
            Expectation::KernelPanic(text) => {
                let says = |l: &str| l.starts_with("kernel panic") && l.contains(text.as_str());
                if crashed && self.console.lines().any(says) {
                    return Ok(());
                }
                wrong(format!("a kernel panic {text} was announced"))
            }
            Expectation::XenCrash => match self.xen_rip() {
                Some(rip) if crashed && (self.image.0..self.image.1).contains(&rip) => Ok(()),
                Some(rip) => wrong(format!("a crash in the image was announced, Xen says RIP {rip:#x}")),
                None => wrong("a crash inside of Xen was announced, and Xen's log names none".to_owned()),
            },
            Expectation::Idle | Expectation::Input(_) | Expectation::Line(_) => Ok(()),
        }
    }

    fn idle_enough(&self) -> Result<(), String> {
        if !self.expectations.contains(&Expectation::Idle) {
            return Ok(());
        }
        match self.idle {
            Some((cpu, real)) if real > 0.0 && cpu - RESOLUTION < real * IDLE_LIMIT => Ok(()),
            Some((cpu, real)) => Err(format!("idle for {real:.1} s it used {cpu:.1} s of processor time")),
            None => Err("its processor time could not be seen".to_owned()),
        }
    }

    /// Address at which Xen says that the domain crashed.
    fn xen_rip(&self) -> Option<u64> {
        let line = self.end.xen_log.iter().find(|l| l.starts_with("RIP:"))?;
        let (_, rest) = line.split_once("[<")?;
        hex(rest.split('>').next()?)
    }

    fn how(&self) -> String {
        match self.end.status {
            Some(status) => format!("{:?} and status {status}", self.end.reason),
            None => format!("{:?}", self.end.reason),
        }
    }

    /// The last thing that it said.
    fn last_line(&self) -> String {
        self.console.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("(nothing printed)").to_owned()
    }

    fn tail(&self) -> String {
        let lines: Vec<_> = self.console.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

/// `trap: NAME (vector N) ... at address 0xA ...`
fn reports_trap(line: &str, vector: u32, address: Option<u64>) -> bool {
    let Some(rest) = line.strip_prefix("trap: ") else { return false };
    let named = rest.contains(&format!("(vector {vector})"));
    let (_, after) = rest.split_once("address ").unwrap_or((rest, ""));
    let said = hex(after.split(|c: char| c == ',' || c.is_whitespace()).next().unwrap_or(""));
    named && address.is_none_or(|wanted| said == Some(wanted))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(reason: Reason, status: Option<u8>, console: &str) -> Run {
        let expectations = console.lines().filter_map(Expectation::parse).map(Result::unwrap).collect();
        Run {
            end: End { reason, status, xen_log: Vec::new() },
            console: console.to_owned(),
            expectations,
            idle: None,
            image: (0x10_0000, 0x20_0000),
        }
    }

    #[test]
    fn exit_statuses_without_announcement() {
        let verdict = |status| run(Reason::PowerOff, status, "last words\n").verdict();
        assert_eq!(verdict(Some(0)), Verdict::Success);
        assert_eq!(verdict(Some(77)), Verdict::Skip("last words".to_owned()));
        assert_eq!(verdict(Some(1)), Verdict::Failure("last words".to_owned()));
        assert!(matches!(verdict(Some(2)), Verdict::Error(_)));
        assert!(matches!(verdict(None), Verdict::Error(_)));
        assert!(matches!(run(Reason::Crash, None, "").verdict(), Verdict::Error(_)));
        assert!(matches!(run(Reason::Destroyed, Some(0), "").verdict(), Verdict::Error(_)));
    }

    #[test]
    fn traps_need_the_vector_and_the_address() {
        let console = |vector: u32, address: &str| {
            format!(
                "expect: trap=14 address=0x1008\ntrap: page fault (vector {vector}) writing at address {address}, rip 0x1\n"
            )
        };
        assert_eq!(run(Reason::Crash, Some(134), &console(14, "0x1008")).verdict(), Verdict::Success);
        for (reason, console) in [
            (Reason::PowerOff, console(14, "0x1008")),
            (Reason::Crash, console(14, "0x10080")),
            (Reason::Crash, console(13, "0x1008")),
            (Reason::Crash, "expect: trap=14 address=0x1008\n".to_owned()),
        ] {
            assert!(matches!(run(reason, None, &console).verdict(), Verdict::Failure(_)), "{console}");
        }
        let overflow = "expect: trap=14 stack overflow\ntrap: page fault (vector 14) at address 0x5\n\
                        this is the guard page: stack overflow\n";
        assert!(matches!(run(Reason::Crash, None, overflow).verdict(), Verdict::Success));
        let elsewhere = "expect: trap=14 guard page\ntrap: page fault (vector 14) at address 0x5\n";
        // The words of the announcement itself must not count.
        assert!(matches!(run(Reason::Crash, None, elsewhere).verdict(), Verdict::Failure(_)));
    }

    #[test]
    fn panics_need_their_message() {
        let said = |text: &str| format!("expect: panic lost: 7\n{text}\n");
        assert_eq!(
            run(Reason::Crash, None, &said("panic: all is lost: 7 at x.rs:3")).verdict(),
            Verdict::Success
        );
        assert!(matches!(run(Reason::Crash, None, &said("panic: lost: 8")).verdict(), Verdict::Failure(_)));
        let kernel = "expect: kernel panic\nkernel panic at mm.rs:3\n";
        assert_eq!(run(Reason::Crash, None, kernel).verdict(), Verdict::Success);
    }

    #[test]
    fn a_crash_in_xen_must_be_in_the_image() {
        let mut run = run(Reason::Crash, None, "expect: xen-crash\n");
        assert!(matches!(run.verdict(), Verdict::Failure(_)));
        run.end.xen_log = vec!["RIP:    e033:[<0000000000101234>]".to_owned()];
        assert_eq!(run.verdict(), Verdict::Success);
        run.end.xen_log = vec!["RIP:    e033:[<0000000000301234>]".to_owned()];
        assert!(matches!(run.verdict(), Verdict::Failure(_)));
    }

    #[test]
    fn idle_is_measured() {
        let mut run = run(Reason::PowerOff, Some(0), "expect: idle\n");
        assert!(matches!(run.verdict(), Verdict::Failure(_)));
        run.idle = Some((0.1, 3.0));
        assert_eq!(run.verdict(), Verdict::Success);
        run.idle = Some((0.3, 3.0));
        assert!(matches!(run.verdict(), Verdict::Failure(_)));
    }

    #[test]
    fn a_line_must_come_once() {
        let judge = |said: &str, status| {
            run(Reason::PowerOff, Some(status), &format!("expect: line a b\r\n{said}")).verdict()
        };
        assert_eq!(judge("a b\r\n", 0), Verdict::Success);
        for said in ["", "a b c\r\n", "a b\r\na b\r\n"] {
            assert!(matches!(judge(said, 0), Verdict::Failure(_)), "{said}");
        }
        // It announces no end.
        assert!(matches!(judge("a b\r\n", 1), Verdict::Failure(_)));
    }

    #[test]
    fn unknown_announcements_are_refused() {
        for line in [
            "expect: rain",
            "expect: line",
            "expect: exit many",
            "expect: trap=x",
            "expect: kernel oops",
            "expect: ",
        ] {
            assert!(Expectation::parse(line).unwrap().is_err(), "{line}");
        }
        assert!(Expectation::parse("I expect: nothing").is_none());
    }
}

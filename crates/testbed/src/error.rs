//! What can go wrong with a test bed, in words for the person in front of it.

use std::{io, path::Path, time::Duration};

/// A failure of the test bed (not of the domain that it runs).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not installed.
    #[error("{what} is missing: {advice}")]
    Missing {
        /// What.
        what: String,
        /// How to get it.
        advice: String,
    },
    /// A file of the host could not be used.
    #[error("{doing}: {source}{}", advice_for(source))]
    Io {
        /// What was being done, with the file's name.
        doing: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the host has not the form that was expected.
    #[error("{file}: {why}")]
    BadFile {
        /// Its name.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Xen or dom0 did not come up.
    #[error("the test bed did not come up: {why}{}", quoted(console))]
    Boot {
        /// What was seen.
        why: String,
        /// Last lines of the console.
        console: Vec<String>,
    },
    /// dom0 or QEMU ended while it was in use.
    #[error("dom0 is gone: {why}{}", quoted(console))]
    Dom0Gone {
        /// What was seen.
        why: String,
        /// Last lines of the console.
        console: Vec<String>,
    },
    /// dom0 runs but does not answer.
    #[error("dom0 has not answered for {:.0} s; it hangs{}", limit.as_secs_f64(), quoted(console))]
    Dom0Hangs {
        /// How long it was given.
        limit: Duration,
        /// Last lines of the console.
        console: Vec<String>,
    },
    /// A job or domain did not end in its time.
    #[error("{what} did not end within {:.0} s", limit.as_secs_f64())]
    TimeLimit {
        /// What.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The agent in dom0 could not do what it was asked.
    #[error("{0}")]
    Job(String),
    /// The agent answered something that does not fit the question.
    #[error("the agent in dom0 answered {0} out of turn; rebuild it")]
    Protocol(String),
}

impl Error {
    /// Makes an [`Error::Io`] with the name of the file.
    pub(crate) fn io(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("{doing} {}", path.display());
        move |source| Self::Io { doing, source }
    }
}

/// What to do about an error of the system, where that is not obvious.
fn advice_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or put the target folder on another disk with CARGO_TARGET_DIR)"
        }
        io::ErrorKind::PermissionDenied => " (run as root, or make the file readable)",
        _ => "",
    }
}

/// The last lines of the console, ready to follow a sentence.
fn quoted(console: &[String]) -> String {
    if console.is_empty() {
        return String::new();
    }
    format!("\nlast lines of the console:\n  {}", console.join("\n  "))
}

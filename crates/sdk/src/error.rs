//! What can go wrong while the SDK is built or an image is checked. Every message names the file or the
//! command at fault and says what to do next.

use std::path::{Path, PathBuf};

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused an operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program that is needed could not be started.
    #[error("{what}: cannot run `{program}` ({source}); install it (Debian: {package})")]
    Missing {
        /// The step that needs it.
        what: String,
        /// The program.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program reported failure.
    #[error("{what}: `{command}` failed ({status}); the end of {log}:\n{tail}", log = log.display())]
    Command {
        /// The step.
        what: String,
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// File with the whole output.
        log: PathBuf,
        /// Last lines of the output.
        tail: String,
    },
    /// A file is not the one that was pinned.
    #[error("{}: SHA-256 is {found}, expected {expected}: not the pinned version, or damaged; \
             remove it and try again, or give a good copy by path", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The pinned digest.
        expected: String,
    },
    /// Third-party source could not be had.
    #[error("cannot get {what}: {reason}")]
    Source {
        /// Name and version.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A folder is not an installation of the SDK, or an incomplete one.
    #[error("{}: {reason}", prefix.display())]
    NotInstalled {
        /// The folder.
        prefix: PathBuf,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A file does not have the form that it should have.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tests ran and some did not pass.
    #[error("{what}: {failed} of {total} failed: {names}")]
    Tests {
        /// The suite.
        what: String,
        /// How many failed.
        failed: usize,
        /// How many ran.
        total: usize,
        /// Names of the failed ones.
        names: String,
    },
}

/// Adds the path to an I/O error.
pub(crate) trait At<T> {
    /// Turns an I/O error into [`Error::Io`] at `path`.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.as_ref().to_path_buf(), source })
    }
}

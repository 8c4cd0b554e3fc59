//! Third-party source: from the package registries that the machine already uses, never from this repository.
//!
//! A pinned checksum decides what is accepted; where the bytes came from does not matter. The registries'
//! addresses are taken from the machine's own configuration (`apt`, `cargo`), so mirrors and proxies work.

pub(crate) mod apt;
pub(crate) mod crates;

use crate::error::{At, Result};
use crate::run::Step;
use std::fs;
use std::path::Path;

/// Unpacks a tar archive (any compression that `tar` knows) into `dir` without its first folder level.
pub(crate) fn unpack(archive: &Path, dir: &Path, log: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).at(dir)?;
    }
    fs::create_dir_all(dir).at(dir)?;
    Step::new(format!("unpack {}", archive.display()), "tar", log)
        .args(["--extract", "--no-same-owner", "--strip-components=1", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(dir)
        .run()
}

//! Files from outside, kept by checksum, so that the second build needs no network.

use crate::error::{At, Error, Result};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// SHA-256 of a file in lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).at(path)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// SHA-256 of several byte strings, each with its length, in lower-case hexadecimal.
pub(crate) fn sha256_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether `path` is there with this checksum. A file with another one is an error, not a cache miss.
pub(crate) fn holds(path: &Path, expected: &str) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    require(path, expected).map(|()| true)
}

/// An error unless the file has this checksum.
pub(crate) fn require(path: &Path, expected: &str) -> Result<()> {
    let found = sha256(path)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Checksum { path: path.to_path_buf(), found, expected: expected.to_owned() })
}

/// Copies `from` to `to` if it has the checksum; `to` appears whole or not at all.
pub(crate) fn adopt(from: &Path, to: &Path, expected: &str) -> Result<()> {
    require(from, expected)?;
    let part = to.with_extension("part");
    fs::copy(from, &part).at(&part)?;
    fs::rename(&part, to).at(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), ABC);
        assert!(holds(&path, ABC).unwrap());
        assert!(!holds(&dir.path().join("absent"), ABC).unwrap());
    }

    #[test]
    fn a_wrong_file_is_refused_and_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "abd").unwrap();
        assert!(matches!(adopt(&from, &to, ABC), Err(Error::Checksum { .. })));
        assert!(!to.exists());
        assert!(matches!(holds(&from, ABC), Err(Error::Checksum { .. })));
    }

    #[test]
    fn parts_are_told_apart() {
        let digest = |parts: &[&str]| sha256_parts(parts.iter().map(|p| p.as_bytes()));
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}

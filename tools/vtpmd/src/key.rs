//! The manager's master key: 32 bytes in a file that nobody else can read.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use vtpm::Key;
use zeroize::Zeroizing;

/// Bytes of the key.
const LEN: usize = 32;

/// Reads the key.
///
/// # Errors
/// The file is missing, is not this user's alone, or has another length.
pub fn load(path: &Path) -> Result<Key> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open the key file {shown}"))?;
    // Of what was opened, not of what has the name by now.
    let data = file.metadata().with_context(|| format!("cannot look at {shown}"))?;
    ensure!(data.is_file(), "{shown} is no file");
    ensure!(
        data.uid() == rustix::process::geteuid().as_raw(),
        "the key file {shown} belongs to another user: `chown` it"
    );
    ensure!(
        data.mode() & 0o077 == 0,
        "others may read the key file {shown} (mode {:o}): make it 0600, and think about who has read it",
        data.mode() & 0o777
    );
    ensure!(data.len() == LEN as u64, "the key file {shown} has {} bytes and not {LEN}", data.len());
    let mut bytes = Zeroizing::new([0; LEN]);
    file.read_exact(&mut *bytes).with_context(|| format!("cannot read {shown}"))?;
    if bytes.iter().all(|byte| *byte == 0) {
        bail!("the key in {shown} is nothing but zeros");
    }
    Ok(Key::new(*bytes))
}

/// Makes a new key; never overwrites one.
///
/// # Errors
/// There is such a file, or the system's.
pub fn create(path: &Path) -> Result<Key> {
    let shown = path.display();
    let mut bytes = Zeroizing::new([0; LEN]);
    getrandom::fill(&mut *bytes).context("there is no randomness")?;
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("cannot make the key file {shown}"))?;
    file.write_all(&*bytes).and_then(|()| file.sync_all()).context("cannot write the key file")?;
    // A link does not replace what is there.
    fs::hard_link(&draft, path).with_context(|| format!("cannot make the key file {shown}"))?;
    fs::remove_file(&draft).context("cannot remove the draft of the key file")?;
    if let Some(dir) = path.parent() {
        crate::files::sync_dir(dir).context("cannot synchronise the key's directory")?;
    }
    Ok(Key::new(*bytes))
}

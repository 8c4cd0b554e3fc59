//! The manager's master key: 32 bytes in a file that nobody else can read, or sealed to a hardware TPM ([`hardware`]).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use vtpm::Key;
use zeroize::Zeroizing;

use crate::hardware::{self, LEN};

/// Reads the key.
///
/// # Errors
/// The file is missing, is not this user's alone, or has another length.
pub fn load(path: &Path) -> Result<Key> {
    read(path).map(|bytes| Key::new(*bytes))
}

fn read(path: &Path) -> Result<Zeroizing<[u8; LEN]>> {
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
    Ok(bytes)
}

/// Where the key is that was in this file and was sealed.
pub fn sealed(path: &Path) -> PathBuf {
    path.with_extension("tpm")
}

/// Seals the key of a file to the machine's TPM, and removes the file when the TPM has given the key back.
///
/// # Errors
/// See [`load`] and [`hardware::seal`].
pub fn seal(path: &Path, pcrs: Option<&str>, run: &Path) -> Result<()> {
    let (bytes, sealed) = (read(path)?, sealed(path));
    if sealed.exists() {
        // Somebody was stopped between the one and the other.
        let other = *hardware::unseal(&sealed, run)? != *bytes;
        ensure!(!other, "{} and {} hold different keys", path.display(), sealed.display());
    } else {
        hardware::seal(&bytes, &sealed, pcrs, run)?;
    }
    let file = OpenOptions::new().write(true).open(path).context("cannot open the key file")?;
    // As good as it gets: storage may keep old blocks.
    (&file).write_all(&[0; LEN]).and_then(|()| file.sync_all()).context("cannot overwrite the key file")?;
    fs::remove_file(path).context("cannot remove the key file")?;
    path.parent().map_or(Ok(()), crate::files::sync_dir).context("cannot synchronise the key's directory")
}

/// The other way round: the key into a file again, before a change of the firmware, say.
///
/// # Errors
/// See [`hardware::unseal`] and [`create`].
pub fn unseal(path: &Path, run: &Path) -> Result<()> {
    let sealed = sealed(path);
    ensure!(sealed.exists(), "the key is not sealed: there is no {}", sealed.display());
    write(path, &*hardware::unseal(&sealed, run)?)?;
    fs::remove_dir_all(&sealed).context("cannot remove the sealed key")
}

/// Makes a new key; never overwrites one.
///
/// # Errors
/// There is such a file, or the system's.
pub fn create(path: &Path) -> Result<Key> {
    let mut bytes = Zeroizing::new([0; LEN]);
    getrandom::fill(&mut *bytes).context("there is no randomness")?;
    write(path, &bytes)?;
    Ok(Key::new(*bytes))
}

fn write(path: &Path, bytes: &[u8; LEN]) -> Result<()> {
    let shown = path.display();
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("cannot make the key file {shown}"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context("cannot write the key file")?;
    // A link does not replace what is there.
    fs::hard_link(&draft, path).with_context(|| format!("cannot make the key file {shown}"))?;
    fs::remove_file(&draft).context("cannot remove the draft of the key file")?;
    if let Some(dir) = path.parent() {
        crate::files::sync_dir(dir).context("cannot synchronise the key's directory")?;
    }
    Ok(())
}

//! A [`Medium`] of files: slots in one directory, the commit record in another, which may be on storage that only the
//! manager can write.
//!
//! An area is overwritten in place and then synchronised, one `fdatasync` for each write. [`vtpm::vault`] takes a write
//! that was cut anywhere, so there is no need for a second file and a rename, which would synchronise twice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vtpm::vault::{Area, Medium};

/// The files of one instance.
#[derive(Debug)]
pub struct Files {
    slots: PathBuf,
    records: PathBuf,
}

/// Makes a directory that only its owner can look into, with its parents.
///
/// # Errors
/// The system's.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a small file as a whole: readers see the old or the new one, also after a power cut.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes names in a directory durable.
///
/// # Errors
/// The system's.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Files {
    /// The files below these two directories, which are made if they are missing.
    ///
    /// # Errors
    /// The system's.
    pub fn new(slots: &Path, records: &Path) -> io::Result<Files> {
        private_dir(slots)?;
        private_dir(records)?;
        Ok(Files { slots: slots.to_owned(), records: records.to_owned() })
    }

    fn path(&self, area: Area) -> (&Path, PathBuf) {
        match area {
            Area::Slot(number) => (&self.slots, self.slots.join(format!("slot{number}"))),
            Area::Record(number) => (&self.records, self.records.join(format!("record{number}"))),
        }
    }
}

impl Medium for Files {
    type Error = io::Error;

    fn read(&mut self, area: Area, max: usize) -> io::Result<Option<Vec<u8>>> {
        let (_, path) = self.path(area);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(max as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&mut self, area: Area, bytes: &[u8]) -> io::Result<()> {
        let (dir, path) = self.path(area);
        let new = !path.exists();
        // Not truncated first: the blocks stay where they are.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_data()?;
        if new { sync_dir(dir) } else { Ok(()) }
    }
}

//! One folder for each run: links to the files that QEMU boots, the shared folder, logs.
//!
//! A run holds a lock in its folder. Folders without a living run are left for a look at their logs, a few
//! of them, and removed by later runs.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, image::Images};

/// Ended runs that are kept.
const KEEP: usize = 3;

/// Lines of the console that an error quotes.
const TAIL_LINES: usize = 20;

/// The folder of one run.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
    keep: bool,
}

impl RunDir {
    /// Makes a new folder below `parent` and removes old ones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(parent: &Path) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        clean(parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{number}", std::process::id()));
        // A folder of the same name belongs to a process that is long gone.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("share")).map_err(Error::io("cannot create", &path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(Error::io("cannot create", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|e| Error::io("cannot lock", &lock_path)(e.into()))?;
        Ok(Self { path, _lock: lock, keep: false })
    }

    /// Links the files to boot under fixed names, so that no path with a comma or a space reaches QEMU.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub fn link(&self, images: &Images) -> Result<(), Error> {
        for (name, target) in
            [("xen", &images.xen), ("vmlinux", &images.kernel), ("dom0.cpio", &images.initramfs)]
        {
            let target = fs::canonicalize(target).map_err(Error::io("cannot find", target))?;
            symlink(&target, self.path.join(name)).map_err(Error::io("cannot link", &target))?;
        }
        Ok(())
    }

    /// Makes a file readable in dom0's shared folder.
    ///
    /// # Errors
    /// When it can neither be linked nor copied.
    pub fn share(&self, file: &Path, name: &str) -> Result<(), Error> {
        let target = self.path.join("share").join(name);
        // dom0 would look for the target of a symbolic link in its own file system.
        if fs::hard_link(file, &target).is_err() {
            fs::copy(file, &target).map_err(Error::io("cannot copy to the shared folder", file))?;
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder for a look at its logs.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Last lines of what Xen and dom0 printed.
    pub fn console_tail(&self) -> Vec<String> {
        let mut lines = tail(&self.path.join("console.log"));
        let qemu = tail(&self.path.join("qemu.log"));
        lines.extend(qemu.into_iter().map(|l| format!("qemu: {l}")));
        lines
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes the folders of ended runs, but for the youngest few.
fn clean(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut ended: Vec<_> = entries
        .filter(|e| {
            let lock = File::open(e.path().join("lock"));
            lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
        })
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    ended.sort();
    let surplus = ended.len().saturating_sub(KEEP);
    for (_, path) in ended.drain(..surplus) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Last lines of a log, without control characters.
fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<_> = text.lines().map(clean).filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_runs_go_and_living_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let living = RunDir::new(parent.path()).unwrap();
        for _ in 0..KEEP + 2 {
            RunDir::new(parent.path()).unwrap().keep();
        }
        let last = RunDir::new(parent.path()).unwrap();
        assert!(living.path().is_dir());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), KEEP + 2);
        fs::write(last.path().join("console.log"), "one\r\n\n\x1b[0mtwo\r\n").unwrap();
        assert_eq!(last.console_tail(), ["one", "[0mtwo"]);
        let path = last.path().to_owned();
        drop(last);
        assert!(!path.exists());
    }
}

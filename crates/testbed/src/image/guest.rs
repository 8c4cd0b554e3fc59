//! The file system of a Linux guest: busybox, the agent, modules, and files of the caller's choice.

use std::{
    fs::{self, File},
    io::{BufWriter, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use super::{MODULE_LIST, Store, add_basics, add_busybox, add_modules, archive::Archive, elf, hex, key};
use crate::{Error, host};

/// Parts of a package that no program needs.
const NOT_NEEDED: [&str; 7] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/lintian/",
    "/usr/share/bash-completion/",
    "/usr/share/bug/",
    "/usr/include/",
];

/// Files for the file system of a Linux guest, on top of busybox. Of two for the same path the later one counts.
///
/// What is taken from this machine comes with the shared libraries that it is linked with, theirs, and so on;
/// a library that a program only loads while it runs has to be named ([`GuestFiles::library`]).
#[derive(Clone, Debug, Default)]
pub struct GuestFiles {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    File { from: PathBuf, to: String },
    Library(String),
    Package(String),
    Content { to: String, mode: u32, content: Vec<u8> },
}

impl GuestFiles {
    /// A program or any other file of this machine, at the same path in the guest.
    #[must_use]
    pub fn program(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let to = path.to_string_lossy().into_owned();
        self.file(path, to)
    }

    /// A file of this machine, at another path in the guest.
    #[must_use]
    pub fn file(mut self, from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        self.entries.push(Entry::File { from: from.into(), to: to.into() });
        self
    }

    /// A shared library of this machine by its name, such as `libtss2-tcti-device.so.0`.
    #[must_use]
    pub fn library(mut self, name: impl Into<String>) -> Self {
        self.entries.push(Entry::Library(name.into()));
        self
    }

    /// The files of a Debian package that is installed on this machine, without its documentation. Packages that
    /// it depends on are not followed, except for shared libraries that it is linked with.
    #[must_use]
    pub fn package(mut self, name: impl Into<String>) -> Self {
        self.entries.push(Entry::Package(name.into()));
        self
    }

    /// A file with this content and these permission bits.
    #[must_use]
    pub fn content(mut self, to: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.entries.push(Entry::Content { to: to.into(), mode, content: content.into() });
        self
    }

    /// What is to be copied, in order: with all libraries, which come first.
    fn resolve(&self) -> Result<Resolved, Error> {
        let mut resolved = Resolved::default();
        let mut linked = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::File { from, to } => resolved.add(from, to, &mut linked)?,
                Entry::Library(name) => {
                    let path = elf::library(name).ok_or_else(|| Error::Missing {
                        what: format!("the shared library {name}"),
                        advice: "install the package that it belongs to".to_owned(),
                    })?;
                    resolved.add(&path, &path.to_string_lossy(), &mut linked)?;
                }
                Entry::Package(name) => {
                    for path in package_files(name)? {
                        resolved.add(&path, &path.to_string_lossy(), &mut linked)?;
                    }
                }
                Entry::Content { to, mode, content } => {
                    resolved.items.push(Item { to: to.clone(), what: What::Content(*mode, content.clone()) })
                }
            }
        }
        let libraries = elf::libraries(&linked)?;
        let libraries = libraries.into_iter().map(|(to, from)| Item { to, what: What::Copy(0o755, from) });
        resolved.items.splice(0..0, libraries);
        Ok(resolved)
    }
}

#[derive(Debug, Default)]
struct Resolved {
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    to: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Copy(u32, PathBuf),
    Link(String),
    Content(u32, Vec<u8>),
}

impl Resolved {
    /// Adds a file of this machine, and a link as a link with what it points to.
    fn add(&mut self, from: &Path, to: &str, linked: &mut Vec<PathBuf>) -> Result<(), Error> {
        let real = fs::canonicalize(from).map_err(Error::io("cannot open", from))?;
        let meta = real.metadata().map_err(Error::io("cannot open", &real))?;
        let is_link = fs::symlink_metadata(from).is_ok_and(|m| m.is_symlink());
        let there = real.to_string_lossy().into_owned();
        if is_link && there != to {
            self.items.push(Item { to: to.to_owned(), what: What::Link(there.clone()) });
        }
        let to = if is_link { there } else { to.to_owned() };
        if self.items.iter().all(|i| i.to != to || !matches!(i.what, What::Copy(..))) {
            self.items.push(Item { to, what: What::Copy(meta.permissions().mode() & 0o7777, real.clone()) });
            if is_elf(&real)? {
                linked.push(real);
            }
        }
        Ok(())
    }

    /// Something that changes when an item does.
    fn key(&self) -> Result<String, Error> {
        let mut hash = Sha256::new();
        for item in &self.items {
            hash.update(format!("{}\0", item.to));
            match &item.what {
                What::Copy(mode, from) => hash.update(format!("copy {mode:o} {}", key(&[from])?)),
                What::Link(target) => hash.update(format!("link {target}\0")),
                What::Content(mode, content) => {
                    hash.update(format!("content {mode:o} {}\0", content.len()));
                    hash.update(content);
                }
            }
        }
        Ok(hex(&hash.finalize()))
    }

    fn add_to(&self, image: &mut Archive) -> Result<(), Error> {
        for item in &self.items {
            match &item.what {
                What::Copy(mode, from) => image.host_file(&item.to, *mode, from)?,
                What::Link(target) => image.link(&item.to, target),
                What::Content(mode, content) => image.file(&item.to, *mode, content.clone()),
            }
        }
        Ok(())
    }
}

fn is_elf(path: &Path) -> Result<bool, Error> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(Error::io("cannot read", path))?;
    file.take(4).read_to_end(&mut magic).map_err(Error::io("cannot read", path))?;
    Ok(magic == b"\x7fELF")
}

/// The files of a package that is installed, without its documentation.
fn package_files(name: &str) -> Result<Vec<PathBuf>, Error> {
    let query = Path::new("dpkg-query");
    let output =
        Command::new(query).args(["--listfiles", name]).output().map_err(Error::io("cannot run", query))?;
    if !output.status.success() {
        return Err(Error::Missing {
            what: format!("the package {name}"),
            advice: format!("install it: apt-get install --no-install-recommends {name}"),
        });
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = list.lines().filter(|l| l.starts_with('/') && !NOT_NEEDED.iter().any(|n| l.starts_with(n)));
    Ok(wanted.map(PathBuf::from).filter(|p| p.is_file()).collect())
}

/// What a Linux guest boots.
#[derive(Clone, Debug)]
pub struct GuestImages {
    /// The uncompressed kernel.
    pub kernel: PathBuf,
    /// Its file system.
    pub initramfs: PathBuf,
}

/// Builds what is not in the cache yet.
///
/// # Errors
/// When something is not installed or a file cannot be read or written.
pub fn build_guest(
    cache: &Path,
    agent: &Path,
    modules: &[String],
    files: &GuestFiles,
) -> Result<GuestImages, Error> {
    fs::create_dir_all(cache).map_err(Error::io("cannot create", cache))?;
    let store = Store { cache };
    let kernel = host::kernel()?;
    let image = store.kernel(&kernel, || ())?;
    let busybox = host::program("busybox", "busybox-static")?;
    let files = files.resolve()?;
    let index = kernel.modules.join("modules.dep");
    let program = fs::read(agent).map_err(Error::io("cannot read", agent))?;
    let mut hash = Sha256::new();
    hash.update(key(&[&busybox, &kernel.image, &index])?);
    hash.update(modules.join(" "));
    hash.update(Sha256::digest(&program));
    hash.update(files.key()?);
    let initramfs = store.get("guest.cpio", hex(&hash.finalize()), |out| {
        let mut image = Archive::default();
        add_basics(&mut image, agent)?;
        add_busybox(&mut image, &busybox)?;
        add_modules(&mut image, &kernel, modules, MODULE_LIST)?;
        files.add_to(&mut image)?;
        image.write(BufWriter::new(out)).map_err(Error::io("cannot write", cache))
    })?;
    Ok(GuestImages { kernel: image, initramfs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(files: &GuestFiles) -> Vec<String> {
        files.resolve().unwrap().items.into_iter().map(|i| i.to).collect()
    }

    #[test]
    fn a_program_brings_its_libraries() {
        let me = std::env::current_exe().unwrap();
        let there = paths(&GuestFiles::default().file(&me, "/opt/program"));
        assert!(there.contains(&"/opt/program".to_owned()), "{there:?}");
        assert!(there.iter().any(|p| p.contains("ld-linux")), "{there:?}");
        assert!(there.iter().any(|p| p.contains("libc.so")), "{there:?}");
    }

    #[test]
    fn links_stay_links_and_what_they_point_to_comes_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::write(dir.join("tool"), "#!/bin/sh\n").unwrap();
        let mut files = GuestFiles::default();
        for name in ["one", "two"] {
            std::os::unix::fs::symlink("tool", dir.join(name)).unwrap();
            files = files.program(dir.join(name));
        }
        let resolved = files.resolve().unwrap();
        let links = resolved.items.iter().filter(|i| matches!(i.what, What::Link(_))).count();
        let copies = resolved.items.iter().filter(|i| matches!(i.what, What::Copy(..))).count();
        assert_eq!((links, copies), (2, 1), "{resolved:?}");
    }

    #[test]
    fn the_key_follows_content_and_what_is_missing_is_an_error() {
        let key_of = |text: &str| {
            GuestFiles::default().content("/etc/text", 0o644, text).resolve().unwrap().key().unwrap()
        };
        assert_eq!(key_of("a"), key_of("a"));
        assert_ne!(key_of("a"), key_of("b"));
        for wrong in [
            GuestFiles::default().program("/nowhere/program"),
            GuestFiles::default().library("libnowhere.so.9"),
            GuestFiles::default().package("no-such-package-here"),
        ] {
            assert!(wrong.resolve().is_err(), "{wrong:?}");
        }
    }
}

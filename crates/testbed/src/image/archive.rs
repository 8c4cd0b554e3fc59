//! A file tree in memory that becomes an initramfs (cpio, format "newc").

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use crate::Error;

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

/// One entry of the tree.
#[derive(Debug)]
enum Node {
    Folder,
    File { content: Vec<u8>, mode: u32 },
    Link { target: String },
    Device { major: u32, minor: u32 },
}

/// The tree. Paths are absolute; parents come by themselves. The same tree always gives the same bytes.
#[derive(Debug, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a folder and its parents.
    pub fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Folder);
        }
        if !path.is_empty() {
            self.nodes.entry(path.to_owned()).or_insert(Node::Folder);
        }
    }

    fn insert(&mut self, path: &str, node: Node) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.nodes.insert(path.trim_matches('/').to_owned(), node);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Node::File { content: content.into(), mode });
    }

    /// Adds a file of the host, following links.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn host_file(&mut self, path: &str, mode: u32, from: &Path) -> Result<(), Error> {
        let content = std::fs::read(from).map_err(Error::io("cannot read", from))?;
        self.file(path, mode, content);
        Ok(())
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Link { target: target.to_owned() });
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, Node::Device { major, minor });
    }

    /// Is there anything at this path?
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for (ino, (path, node)) in (1u32..).zip(&self.nodes) {
            let entry = cpio::newc::Builder::new(path).ino(ino);
            let (entry, content): (_, &[u8]) = match node {
                Node::Folder => (entry.mode(S_IFDIR | 0o755).nlink(2), &[]),
                Node::File { content, mode } => (entry.mode(S_IFREG | mode), content),
                Node::Link { target } => (entry.mode(S_IFLNK | 0o777), target.as_bytes()),
                Node::Device { major, minor } => {
                    (entry.mode(S_IFCHR | 0o600).rdev_major(*major).rdev_minor(*minor), &[])
                }
            };
            let size =
                u32::try_from(content.len()).map_err(|_| io::Error::other("file too large for cpio"))?;
            let mut writer = entry.write(out, size);
            writer.write_all(content)?;
            out = writer.finish()?;
        }
        cpio::newc::trailer(out)?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_bytes_are_stable() {
        let mut archive = Archive::default();
        archive.file("/usr/bin/tool", 0o755, *b"content");
        archive.link("/sbin/tool", "/usr/bin/tool");
        archive.device("/dev/console", 5, 1);
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let mut names = Vec::new();
        let mut input = bytes.as_slice();
        loop {
            let reader = cpio::newc::Reader::new(input).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((reader.entry().name().to_owned(), reader.entry().mode()));
            input = reader.finish().unwrap();
        }
        let expected = ["dev", "dev/console", "sbin", "sbin/tool", "usr", "usr/bin", "usr/bin/tool"];
        assert_eq!(names.iter().map(|n| n.0.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(names[6].1, S_IFREG | 0o755);
        let mut again = Vec::new();
        archive.write(&mut again).unwrap();
        assert_eq!(bytes, again);
    }
}

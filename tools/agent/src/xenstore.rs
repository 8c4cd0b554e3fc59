//! A small xenstore client: read, write, and watch. One request at a time on a connection of its own.
//!
//! Source: `xen/io/xs_wire.h` (message header and types).

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

const XS_DIRECTORY: u32 = 1;
const XS_READ: u32 = 2;
const XS_WATCH: u32 = 4;
const XS_WRITE: u32 = 11;
const XS_SET_PERMS: u32 = 14;
const XS_WATCH_EVENT: u32 = 15;
const XS_ERROR: u32 = 16;

/// Longest body of a message (`XENSTORE_PAYLOAD_MAX`).
const PAYLOAD_MAX: u32 = 4096;

/// Sockets of xenstored, then the kernel's device (xenstored in a domain of its own).
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
const DEVICE: &str = "/dev/xen/xenbus";

trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

/// A connection to xenstored.
pub struct Xenstore {
    stream: Box<dyn Transport>,
    /// Watch events that came while a reply was awaited; only their number matters.
    events: usize,
}

impl Xenstore {
    /// Connects.
    ///
    /// # Errors
    /// When neither a socket nor the device answers.
    pub fn connect() -> io::Result<Self> {
        for path in SOCKETS {
            if let Ok(stream) = UnixStream::connect(path) {
                return Ok(Self { stream: Box::new(stream), events: 0 });
            }
        }
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot reach xenstore ({DEVICE}): {e}")))?;
        Ok(Self { stream: Box::new(device), events: 0 })
    }

    /// Value of a node; `None` when there is no such node.
    ///
    /// # Errors
    /// Those of the connection, or what xenstored answers.
    pub fn read(&mut self, path: &str) -> io::Result<Option<String>> {
        match self.request(XS_READ, &[path.as_bytes(), b"\0"].concat())? {
            Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Err(e) if e == "ENOENT" => Ok(None),
            Err(e) => Err(io::Error::other(format!("xenstore: reading {path}: {e}"))),
        }
    }

    /// Id of the domain with this name; `None` when there is none. Quicker than another `xl`.
    ///
    /// # Errors
    /// Those of the connection, or what xenstored answers.
    pub fn domain_named(&mut self, name: &str) -> io::Result<Option<u16>> {
        let answer = self.request(XS_DIRECTORY, b"/local/domain\0")?;
        let ids = answer.map_err(|e| io::Error::other(format!("xenstore: listing the domains: {e}")))?;
        for id in String::from_utf8_lossy(&ids).split('\0').filter_map(|id| id.parse().ok()) {
            if self.read(&format!("/local/domain/{id}/name"))?.as_deref() == Some(name) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Writes a node that only one domain may see, and own, and remove (dom0 may always).
    ///
    /// # Errors
    /// Those of the connection, or what xenstored answers.
    pub fn write_private(&mut self, path: &str, value: &[u8], domid: u16) -> io::Result<()> {
        let path_bytes = path.as_bytes();
        // Nobody must see the value before the permissions are right. The owner is named first, with what all others
        // may do: nothing.
        let owner = format!("n{domid}");
        for (kind, body) in [
            (XS_WRITE, [path_bytes, b"\0"].concat()),
            (XS_SET_PERMS, [path_bytes, b"\0", owner.as_bytes(), b"\0"].concat()),
            (XS_WRITE, [path_bytes, b"\0", value].concat()),
        ] {
            let answer = self.request(kind, &body)?;
            answer.map_err(|e| io::Error::other(format!("xenstore: writing {path}: {e}")))?;
        }
        Ok(())
    }

    /// Watches a node. The first event comes at once.
    ///
    /// # Errors
    /// Those of the connection, or what xenstored answers.
    pub fn watch(&mut self, path: &str) -> io::Result<()> {
        match self.request(XS_WATCH, &[path.as_bytes(), b"\0w\0"].concat())? {
            Ok(_) => Ok(()),
            Err(e) => Err(io::Error::other(format!("xenstore: watching {path}: {e}"))),
        }
    }

    /// Waits for the next event of any watch.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn next_event(&mut self) -> io::Result<()> {
        while self.events == 0 {
            if self.receive()?.0 == XS_WATCH_EVENT {
                self.events += 1;
            }
        }
        self.events -= 1;
        Ok(())
    }

    /// Sends a request and waits for its reply; the inner error is the name of an `errno`.
    fn request(&mut self, kind: u32, body: &[u8]) -> io::Result<Result<Vec<u8>, String>> {
        let len = u32::try_from(body.len()).ok().filter(|n| *n <= PAYLOAD_MAX);
        let len =
            len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "xenstore request too long"))?;
        let mut message = Vec::with_capacity(16 + body.len());
        for word in [kind, 0, 0, len] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.extend_from_slice(body);
        self.stream.write_all(&message)?;
        loop {
            match self.receive()? {
                (XS_WATCH_EVENT, _) => self.events += 1,
                (XS_ERROR, name) => {
                    let name = name.strip_suffix(b"\0").unwrap_or(&name);
                    return Ok(Err(String::from_utf8_lossy(name).into_owned()));
                }
                (_, body) => return Ok(Ok(body)),
            }
        }
    }

    fn receive(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0u8; 16];
        self.stream.read_exact(&mut header)?;
        let [k0, k1, k2, k3, .., l0, l1, l2, l3] = header;
        let kind = u32::from_le_bytes([k0, k1, k2, k3]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len > PAYLOAD_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "xenstore message too long"));
        }
        let mut body = vec![0; len as usize];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

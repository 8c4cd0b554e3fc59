//! A small client of xenstored for the tools on Linux: read, write, remove, and wait for a node to change. One request at a
//! time. (`casemate-idc` has its own: it waits for tokens, and has no `std::io` errors.)
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xen_abi::xenstore::{Access, HEADER_LEN, Header, MsgType, Perm, XENSTORE_PAYLOAD_MAX, reply, request};
use xen_abi::{DomId, errno};

/// Where xenstored listens in its own domain, and where the kernel passes requests on elsewhere.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

/// Is this dom0?
pub fn is_dom0() -> bool {
    fs::read_to_string("/proc/xen/capabilities").is_ok_and(|text| text.contains("control_d"))
}

#[derive(Debug)]
enum Wire {
    Socket(UnixStream),
    Device(File),
}

impl Wire {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Wire::Socket(socket) => socket.as_fd(),
            Wire::Device(device) => device.as_fd(),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self {
            Wire::Socket(socket) => socket.read_exact(bytes),
            Wire::Device(device) => device.read_exact(bytes),
        }
        .map_err(|error| io::Error::new(error.kind(), format!("xenstored does not answer: {error}")))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Wire::Socket(socket) => socket.write_all(bytes),
            Wire::Device(device) => device.write_all(bytes),
        }
        .map_err(|error| io::Error::new(error.kind(), format!("xenstored takes no requests: {error}")))
    }
}

/// What xenstored, or the codec, does not like.
fn other(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("xenstore: {why}"))
}

/// An error number from xenstored, in words.
fn refused(what: &str, path: &str, number: i32) -> io::Error {
    let name = errno::name(number).map_or_else(|| number.to_string(), str::to_owned);
    other(format_args!("{what} {path}: {name}"))
}

/// A connection.
#[derive(Debug)]
pub struct Xenstore {
    wire: Wire,
    /// Events of watches that came while a reply was awaited. Which node changed does not matter.
    events: usize,
}

impl Xenstore {
    /// Connects.
    ///
    /// # Errors
    /// This is not Xen, or this process may not.
    pub fn open() -> Result<Xenstore> {
        let socket = SOCKETS.iter().find_map(|path| UnixStream::connect(path).ok()).map(Wire::Socket);
        let device =
            || DEVICES.iter().find_map(|path| OpenOptions::new().read(true).write(true).open(path).ok());
        let wire = socket.or_else(|| device().map(Wire::Device));
        let wire =
            wire.ok_or_else(|| other("it cannot be reached: is this a domain of Xen, are you root?"))?;
        Ok(Xenstore { wire, events: 0 })
    }

    /// Value of a node; `None` if it is not there, or not for this domain.
    ///
    /// # Errors
    /// The connection's, or what xenstored says.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(MsgType::Read, |body| request::path(body, path))? {
            Ok(value) => Ok(Some(value)),
            Err(errno::ENOENT | errno::EACCES) => Ok(None),
            Err(number) => Err(refused("reading", path, number)),
        }
    }

    /// Value of a node that holds text.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn text(&mut self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Value of a node that holds a number.
    ///
    /// # Errors
    /// See [`read`](Self::read). Anything but a number is none.
    pub fn number(&mut self, path: &str) -> Result<Option<u16>> {
        let value = self.read(path)?;
        Ok(value.and_then(|value| str::from_utf8(&value).ok()?.trim().parse().ok()))
    }

    /// Id of the domain with this name.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn domain_named(&mut self, name: &str) -> Result<Option<u16>> {
        let ids = self.ask(MsgType::Directory, |body| request::path(body, "/local/domain"))?;
        let ids = ids.map_err(|number| refused("listing", "/local/domain", number))?;
        for id in String::from_utf8_lossy(&ids).split('\0').filter_map(|id| id.parse::<u16>().ok()) {
            if self.read(&format!("/local/domain/{id}/name"))?.as_deref() == Some(name.as_bytes()) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Writes a node; who may read it follows from the node above it.
    ///
    /// # Errors
    /// The connection's, or what xenstored says.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<()> {
        let written = self.ask(MsgType::Write, |body| request::write(body, path, value))?;
        written.map(drop).map_err(|number| refused("writing", path, number))
    }

    /// Writes a node that one domain owns, and nobody else (but dom0) sees.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    pub fn write_private(&mut self, path: &str, value: &[u8], owner: u16) -> Result<()> {
        // The permissions come before the value.
        self.write(path, b"")?;
        let perms = [Perm { domid: DomId(owner), access: Access::None }];
        let set = self.ask(MsgType::SetPerms, |body| request::set_perms(body, path, &perms))?;
        set.map_err(|number| refused("hiding", path, number))?;
        self.write(path, value)
    }

    /// Removes a node, if it is there.
    ///
    /// # Errors
    /// The connection's, or what xenstored says.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        match self.ask(MsgType::Rm, |body| request::path(body, path))? {
            Ok(_) | Err(errno::ENOENT) => Ok(()),
            Err(number) => Err(refused("removing", path, number)),
        }
    }

    /// Watches a node. The first event comes at once.
    ///
    /// # Errors
    /// The connection's, or what xenstored says.
    pub fn watch(&mut self, path: &str) -> Result<()> {
        let set = self.ask(MsgType::Watch, |body| request::watch(body, path, "w"))?;
        set.map(drop).map_err(|number| refused("watching", path, number))
    }

    /// Waits for the next event of any watch.
    ///
    /// # Errors
    /// The connection's.
    pub fn next_event(&mut self) -> Result<()> {
        while self.events == 0 {
            if self.receive()?.0.kind == MsgType::WatchEvent {
                self.events += 1;
            }
        }
        self.events -= 1;
        Ok(())
    }

    /// Waits for the next event of any watch; whether one came before the deadline.
    ///
    /// # Errors
    /// The connection's.
    pub fn changed(&mut self, deadline: Instant) -> Result<bool> {
        while self.events == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::from_borrowed_fd(self.wire.fd(), PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if self.receive()?.0.kind == MsgType::WatchEvent {
                self.events += 1;
            }
        }
        self.events -= 1;
        Ok(true)
    }

    /// Sends a request and waits for its reply, or the number of an error.
    fn ask(
        &mut self,
        kind: MsgType,
        make: impl FnOnce(&mut [u8]) -> std::result::Result<usize, xen_abi::xenstore::RequestError>,
    ) -> Result<std::result::Result<Vec<u8>, i32>> {
        let mut message = vec![0; HEADER_LEN + XENSTORE_PAYLOAD_MAX];
        let len = make(&mut message[HEADER_LEN..]).map_err(other)?;
        let header = Header { kind, req_id: 1, tx_id: 0, len: u32::try_from(len).map_err(other)? };
        message[..HEADER_LEN].copy_from_slice(&header.encode().map_err(other)?);
        self.wire.write(&message[..HEADER_LEN + len])?;
        loop {
            let (header, body) = self.receive()?;
            match header.kind {
                MsgType::WatchEvent => self.events += 1,
                MsgType::Error => return Ok(Err(reply::error_number(&body).map_err(other)?)),
                answer if answer == kind => return Ok(Ok(body)),
                answer => return Err(other(format_args!("it answers {answer:?} to {kind:?}"))),
            }
        }
    }

    fn receive(&mut self) -> Result<(Header, Vec<u8>)> {
        let mut header = [0; HEADER_LEN];
        self.wire.read(&mut header)?;
        let header = Header::decode(&header).map_err(other)?;
        let mut body = vec![0; header.len as usize];
        self.wire.read(&mut body)?;
        Ok((header, body))
    }
}

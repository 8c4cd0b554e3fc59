//! A client of xenstored: through its socket in dom0, through the kernel's device elsewhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use xen_abi::xenstore::{Decoder, Header, Item, MsgType, ProtocolError, reply, request};

use crate::DomId;
use crate::error::{Error, Result};
use crate::name::{Store, StoreError};

/// Where xenstored listens in its own domain.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
/// Where the kernel passes requests on.
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];
/// Token of our watches; each connection has one path watched only.
const TOKEN: &str = "idc";

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
}

/// A connection to xenstored.
#[derive(Debug)]
pub struct XenStore {
    wire: Wire,
    decoder: Decoder,
    /// The message that is coming in.
    header: Option<Header>,
    body: Vec<u8>,
    /// Complete messages that nobody has asked for yet.
    messages: VecDeque<(Header, Vec<u8>)>,
    /// Paths of watch events.
    events: VecDeque<String>,
    sent: u32,
    /// Id of this domain, when it is known.
    domid: Option<DomId>,
}

fn broken(error: &std::io::Error) -> Error {
    Error::System {
        call: "talking to xenstored",
        errno: error.raw_os_error().unwrap_or(0),
        hint: "is xenstored running?",
    }
}

fn confused(_: ProtocolError) -> Error {
    Error::System {
        call: "talking to xenstored",
        errno: xen_abi::errno::EIO,
        hint: "it does not speak its protocol; nothing can be done here",
    }
}

impl XenStore {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::NoPlatform`] or the system's.
    pub fn open() -> Result<XenStore> {
        let socket = SOCKETS.iter().find_map(|path| UnixStream::connect(path).ok()).map(Wire::Socket);
        let device = || {
            let mut found = DEVICES.iter().filter(|path| Path::new(path).exists());
            found.find_map(|path| File::options().read(true).write(true).open(path).ok()).map(Wire::Device)
        };
        let wire = socket.or_else(device).ok_or(Error::NoPlatform(
            "xenstore cannot be reached: in dom0 start xenstored, in a domU load the module xenfs; \
             and run this as root",
        ))?;
        Ok(XenStore {
            wire,
            decoder: Decoder::new(),
            header: None,
            body: Vec::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            sent: 0,
            domid: None,
        })
    }

    /// The same connection, which need not ask for this domain's id.
    #[must_use]
    pub fn of(self, domid: DomId) -> XenStore {
        XenStore { domid: Some(domid), ..self }
    }

    /// Reads what has come, or waits for something to come, and sorts it.
    fn receive(&mut self) -> Result<()> {
        let mut buf = [0; 4096];
        let read = match &mut self.wire {
            Wire::Socket(socket) => socket.read(&mut buf),
            Wire::Device(device) => device.read(&mut buf),
        };
        let mut input = match read {
            Ok(0) => return Err(broken(&std::io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => buf.get(..len).unwrap_or(&[]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(broken(&error)),
        };
        while let Some(item) = self.decoder.next(&mut input).map_err(confused)? {
            match item {
                Item::Header(header) => self.header = Some(header),
                Item::Body(bytes) => self.body.extend_from_slice(bytes),
                Item::End => {
                    let body = core::mem::take(&mut self.body);
                    let Some(header) = self.header.take() else { continue };
                    if header.kind == MsgType::WatchEvent {
                        let event = reply::WatchEvent::parse(&body).map_err(confused)?;
                        self.events.push_back(event.path.to_string());
                    } else {
                        self.messages.push_back((header, body));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Store for XenStore {
    fn now(&self) -> u64 {
        super::now()
    }

    fn domid(&mut self) -> Result<DomId> {
        if let Some(domid) = self.domid {
            return Ok(domid);
        }
        if matches!(self.wire, Wire::Socket(_)) {
            // xenstored runs in this domain; unless it has a domain of its own, that is dom0.
            return Ok(DomId(0));
        }
        let text = self.request(MsgType::Read, b"domid\0");
        let domid = text.ok().and_then(|text| str::from_utf8(&text).ok()?.parse().ok());
        domid.map(DomId).ok_or(Error::System {
            call: "asking xenstore for this domain's id",
            errno: xen_abi::errno::ENOENT,
            hint: "the node `domid` of this domain is missing; in dom0 run xen-init-dom0",
        })
    }

    fn request(&mut self, kind: MsgType, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.sent = self.sent.wrapping_add(1).max(1);
        let req_id = self.sent;
        let header = Header { kind, req_id, tx_id: 0, len: body.len() as u32 };
        let bad = |_| StoreError::Broken(Error::BadConfig("a request to xenstore is too long"));
        let mut message = vec![];
        message.extend_from_slice(&header.encode().map_err(bad)?);
        message.extend_from_slice(body);
        let written = match &mut self.wire {
            Wire::Socket(socket) => socket.write_all(&message),
            Wire::Device(device) => device.write_all(&message),
        };
        written.map_err(|error| StoreError::Broken(broken(&error)))?;
        loop {
            while let Some((header, body)) = self.messages.pop_front() {
                if header.req_id != req_id {
                    continue;
                }
                if header.kind != MsgType::Error {
                    return Ok(body);
                }
                let number = reply::error_number(&body).map_err(|e| StoreError::Broken(confused(e)))?;
                return Err(StoreError::Refused(number));
            }
            self.receive().map_err(StoreError::Broken)?;
        }
    }

    fn watch(&mut self, path: &str) -> Result<(), StoreError> {
        let mut body = vec![0; path.len() + TOKEN.len() + 2];
        let bad = |_| StoreError::Broken(Error::BadConfig("a xenstore path is not valid"));
        let len = request::watch(&mut body, path, TOKEN).map_err(bad)?;
        self.request(MsgType::Watch, body.get(..len).unwrap_or(&[])).map(|_| ())
    }

    fn changed(&mut self, deadline: u64) -> Result<Option<String>> {
        loop {
            if let Some(path) = self.events.pop_front() {
                return Ok(Some(path));
            }
            let mut fds = [PollFd::from_borrowed_fd(self.wire.fd(), PollFlags::IN)];
            let timeout = super::timespec_until(deadline);
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => self.receive()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(&error.into())),
            }
        }
    }
}

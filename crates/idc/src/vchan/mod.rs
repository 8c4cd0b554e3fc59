//! Byte streams to and from programs that use libxenvchan of Xen, as the server and as the client.
//!
//! It is for peers that exist already (`vchan-socket-proxy`, qrexec of Qubes, ...); between programs of one's own the
//! channels of this crate are faster and stricter. The peer does not change: it calls `libxenvchan_client_init` or
//! `libxenvchan_server_init` with the same xenstore path.
//!
//! ```no_run
//! # #[cfg(not(casemate))]
//! # fn main() -> Result<(), idc::Error> {
//! use idc::{DomId, Idc, vchan};
//!
//! let idc = Idc::open()?;
//! // `data/...` is below this domain's own home in xenstore.
//! let server = vchan::Server::bind(&idc, DomId(5), "data/vchan/shout", &vchan::Config::default())?;
//! let mut channel = server.accept()?;
//! let mut buf = [0; 512];
//! loop {
//!     match channel.read(&mut buf)? {
//!         0 => return Ok(()),
//!         len => channel.write_all(&buf[..len].to_ascii_uppercase())?,
//!     }
//! }
//! # }
//! # #[cfg(casemate)] fn main() {}
//! ```
//!
//! # Against a hostile peer
//! A vchan's pages are writable by both sides, so the rules of this crate are kept by private copies: the orders and
//! the grants are copied once and checked; own indices are never read back; the peer's index may only advance within
//! the ring; states and notify bits have to be known ones. Who breaks that gets [`Error::PeerMisbehaved`] and the
//! channel is closed. Bytes are copied out before anybody looks at them.
//!
//! # What a vchan cannot do
//! Its end is not told from its break: a peer that closes and one whose process dies both end the stream (`read`
//! returns 0 after the last byte). Only a domain that is destroyed is [`Error::PeerDied`]. There are no messages.

use alloc::vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use self::layout::{
    AWAITED, CLIENT_LIVE, CLIENT_NOTIFY, GONE, HEAD, LEFT, ON_READ, ON_WRITE, Orders, RIGHT, SERVER_LIVE,
    SERVER_NOTIFY, THERE,
};
use self::ring::Ring;
use crate::endpoint::Idc;
use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::{Access, Event, Native, Platform, PortStatus};
use crate::shm::{Fields, Memory};
use crate::wait::Deadline;
use crate::{DomId, EvtchnPort, GrantRef};

mod layout;
mod name;
mod ring;
#[cfg(feature = "std")]
mod stream;

pub use self::layout::RING_MAX;
pub use self::name::HasStore;

/// No sleep is longer: a domain that is destroyed sends no event.
const SLICE: u64 = 50_000_000;
/// Useless events in a row after which events are not listened to for a while, and for how long.
const STORM: u32 = 64;
const STORM_SLICE: u64 = 1_000_000;

/// Sizes of the rings of a server; its client takes what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Least size of the ring that the server reads, in bytes, at most [`RING_MAX`].
    pub read_size: usize,
    /// Least size of the ring that the server writes.
    pub write_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { read_size: 64 << 10, write_size: 64 << 10 }
    }
}

/// A server whose client has not come yet. It is for one client.
#[derive(Debug)]
pub struct Server<P: Platform = Native>
where
    P::Memory: Fields,
{
    channel: Vchan<P>,
    gref: GrantRef,
    /// Takes the name back.
    _name: Option<name::Published<P>>,
}

impl<P: Platform> Server<P>
where
    P::Memory: Fields,
{
    /// Makes a vchan for `peer`, which needs its grant reference and port ([`attach`](Vchan::attach)).
    ///
    /// # Errors
    /// [`Error::BadConfig`], or no memory, grant entries or ports are left.
    pub fn new(idc: &Idc<P>, peer: DomId, config: &Config) -> Result<Server<P>> {
        let orders = Orders::for_sizes(config.read_size, config.write_size)
            .ok_or(Error::BadConfig("a ring of a vchan has at most 1 MiB"))?;
        let platform = idc.platform.clone();
        let event = platform.alloc_unbound(peer)?;
        let page = platform.grant(peer, 1, Access::ReadWrite)?;
        let gref = page.refs.first().copied().ok_or(Error::OutOfMemory("grant references"))?;
        let grant = |order| match layout::pages(order) {
            0 => Ok((None, vec![])),
            count => platform.grant(peer, count, Access::ReadWrite).map(|g| (Some(g.memory), g.refs)),
        };
        let ((left, left_refs), (right, right_refs)) = (grant(orders.left)?, grant(orders.right)?);
        let (at, list) = layout::encode_grants(&left_refs, &right_refs);
        page.memory.write(at, &list);
        page.memory.store(HEAD, orders.encode(), Ordering::Release);
        platform.announce_death(&page.memory, SERVER_LIVE, &event)?;
        let channel = Vchan::new(idc, event, peer, page.memory, Role::Server, orders, left, right);
        Ok(Server { channel, gref, _name: None })
    }

    /// Grant reference of the shared page.
    pub fn grant_ref(&self) -> GrantRef {
        self.gref
    }

    /// The port for the client to bind to.
    pub fn port(&self) -> EvtchnPort {
        self.channel.event.port()
    }

    /// Waits for the client.
    ///
    /// # Errors
    /// As for [`accept_by`](Self::accept_by).
    pub fn accept(self) -> Result<Vchan<P>> {
        self.accept_by(Deadline::NEVER)
    }

    /// Waits for the client until the deadline.
    ///
    /// # Errors
    /// [`Error::PeerNotConnected`], [`Error::PeerMisbehaved`], or the system's.
    pub fn accept_by(mut self, deadline: Deadline) -> Result<Vchan<P>> {
        let peer = self.channel.peer;
        let waited = self.channel.wait(deadline, 0, |channel| Ok(channel.peer_state()? != AWAITED));
        match waited {
            Ok(()) => Ok(self.channel),
            Err(Error::TimedOut) => Err(Error::PeerNotConnected { peer }),
            Err(error) => Err(error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

/// A connected vchan, for one thread. Dropping it tells the peer, which can still read what is in its ring.
#[derive(Debug)]
pub struct Vchan<P: Platform = Native>
where
    P::Memory: Fields,
{
    idc: Idc<P>,
    event: P::Event,
    peer: DomId,
    role: Role,
    page: P::Memory,
    incoming: Ring,
    outgoing: Ring,
    /// Pages of the rings, where they are not in the shared page.
    incoming_pages: Option<P::Memory>,
    outgoing_pages: Option<P::Memory>,
    /// The client has come.
    connected: bool,
    /// Why nothing works any more.
    broken: Option<Error>,
    useless: u32,
}

impl<P: Platform> Vchan<P>
where
    P::Memory: Fields,
{
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts, each once, from the two functions that make them"
    )]
    fn new(
        idc: &Idc<P>,
        event: P::Event,
        peer: DomId,
        page: P::Memory,
        role: Role,
        orders: Orders,
        left: Option<P::Memory>,
        right: Option<P::Memory>,
    ) -> Vchan<P> {
        let server = role == Role::Server;
        let ring =
            |indices, order, writes| Ring::new(indices, layout::inside(order).unwrap_or(0), order, writes);
        let left_ring = ring(LEFT, orders.left, !server);
        let right_ring = ring(RIGHT, orders.right, server);
        let ((incoming, incoming_pages), (outgoing, outgoing_pages)) = if server {
            ((left_ring, left), (right_ring, right))
        } else {
            ((right_ring, right), (left_ring, left))
        };
        Vchan {
            idc: idc.clone(),
            event,
            peer,
            role,
            page,
            incoming,
            outgoing,
            incoming_pages,
            outgoing_pages,
            connected: !server,
            broken: None,
            useless: 0,
        }
    }

    /// Becomes the client of a server by its grant reference and port.
    ///
    /// # Errors
    /// [`Error::BadGrant`], [`Error::PeerMisbehaved`], [`Error::PeerDied`] when there is no such port,
    /// [`Error::PeerClosed`] when the server has closed already, or the system's.
    pub fn attach(idc: &Idc<P>, peer: DomId, gref: GrantRef, port: EvtchnPort) -> Result<Vchan<P>> {
        let blame = |reason| {
            idc.counters.violation(reason);
            Error::PeerMisbehaved { peer, reason }
        };
        let platform = &idc.platform;
        let page = platform.map(peer, &[gref], Access::ReadWrite)?;
        // Each word once, and from here on the copies count.
        let head = page.load(HEAD, Ordering::Acquire);
        let orders = Orders::decode(head).map_err(blame)?;
        let (at, len) = layout::grants_at(orders);
        let mut list = vec![0; len];
        page.read(at, &mut list);
        let (left, right) = layout::decode_grants(orders, &list).map_err(blame)?;
        let map = |refs: &[GrantRef], access| match refs {
            [] => Ok(None),
            refs => platform.map(peer, refs, access).map(Some),
        };
        let (left, right) = (map(&left, Access::ReadWrite)?, map(&right, Access::ReadOnly)?);
        let event = platform.bind_interdomain(peer, port)?;
        platform.announce_death(&page, CLIENT_LIVE, &event)?;
        let mut channel = Vchan::new(idc, event, peer, page, Role::Client, orders, left, right);
        channel.incoming.resume(&channel.page).map_err(blame)?;
        channel.outgoing.resume(&channel.page).map_err(blame)?;
        if channel.peer_state()? == GONE {
            return Err(Error::PeerClosed { peer, reason: CloseReason::Refused });
        }
        channel.page.store_u8(CLIENT_LIVE, THERE, Ordering::SeqCst);
        channel.ask(ON_WRITE);
        channel.event.notify()?;
        Ok(channel)
    }

    /// The domain on the other side, as Xen attests it.
    pub fn peer(&self) -> DomId {
        self.peer
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        Deadline::after(self.idc.platform.now(), timeout)
    }

    /// Bytes that the rings for reading and for writing hold.
    pub fn sizes(&self) -> (usize, usize) {
        (self.incoming.size(), self.outgoing.size())
    }

    /// Reads what is there, and waits if there is nothing: how many bytes, or 0 when the peer has closed and
    /// everything has been read.
    ///
    /// # Errors
    /// As for [`read_by`](Self::read_by).
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.read_by(buf, Deadline::NEVER)
    }

    /// As [`read`](Self::read), until the deadline.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::PeerDied`], [`Error::PeerMisbehaved`], or the system's.
    pub fn read_by(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let (mut len, mut ended) = (0, false);
        self.wait(deadline, ON_WRITE, |channel| {
            // The state first: what was written before the peer closed is to be seen.
            ended = channel.peer_state()? == GONE;
            len = channel.readable()?;
            Ok(len > 0 || ended)
        })?;
        let len = len.min(buf.len());
        if let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) {
            self.incoming.read(&self.page, self.incoming_pages.as_ref().unwrap_or(&self.page), buf);
            self.tell(ON_READ)?;
        }
        Ok(len)
    }

    /// Writes as much as there is room for, and waits if there is none: how many bytes.
    ///
    /// # Errors
    /// As for [`write_by`](Self::write_by).
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.write_by(bytes, Deadline::NEVER)
    }

    /// As [`write`](Self::write), until the deadline.
    ///
    /// # Errors
    /// [`Error::PeerClosed`] when the peer has closed or its process has died; [`Error::TimedOut`],
    /// [`Error::PeerDied`], [`Error::PeerMisbehaved`], or the system's.
    pub fn write_by(&mut self, bytes: &[u8], deadline: Deadline) -> Result<usize> {
        let (mut room, mut ended) = (0, false);
        self.wait(deadline, ON_READ, |channel| {
            ended = channel.peer_state()? == GONE;
            room = channel.writable()?;
            Ok(ended || room > 0 || bytes.is_empty())
        })?;
        if ended {
            return Err(Error::PeerClosed { peer: self.peer, reason: CloseReason::Dropped });
        }
        let len = room.min(bytes.len());
        if let Some(bytes) = bytes.get(..len).filter(|bytes| !bytes.is_empty()) {
            self.outgoing.write(&self.page, self.outgoing_pages.as_ref().unwrap_or(&self.page), bytes);
            self.tell(ON_WRITE)?;
        }
        Ok(len)
    }

    /// Writes everything.
    ///
    /// # Errors
    /// As for [`write_by`](Self::write_by).
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all_by(bytes, Deadline::NEVER)
    }

    /// As [`write_all`](Self::write_all), until the deadline; some of it may have been written when that passes.
    ///
    /// # Errors
    /// As for [`write_by`](Self::write_by).
    pub fn write_all_by(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<()> {
        while !bytes.is_empty() {
            let len = self.write_by(bytes, deadline)?;
            bytes = bytes.get(len..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Bytes that can be read without waiting.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn readable(&mut self) -> Result<usize> {
        self.good()?;
        self.incoming.ready(&self.page).map_err(|reason| self.blame(reason))
    }

    /// Bytes that can be written without waiting.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn writable(&mut self) -> Result<usize> {
        self.good()?;
        self.outgoing.ready(&self.page).map_err(|reason| self.blame(reason))
    }

    /// Whether the peer is still there. What it wrote before it went can be read in any case.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn is_open(&mut self) -> Result<bool> {
        self.good()?;
        Ok(self.peer_state()? == THERE)
    }

    fn good(&self) -> Result<()> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Closes, for good, for this reason.
    fn fail(&mut self, error: Error) -> Error {
        if self.broken.is_none() {
            self.broken = Some(error);
            self.close();
        }
        error
    }

    fn blame(&mut self, reason: Violation) -> Error {
        if self.broken.is_none() {
            self.idc.counters.violation(reason);
        }
        self.fail(Error::PeerMisbehaved { peer: self.peer, reason })
    }

    fn close(&self) {
        let own = if self.role == Role::Server { SERVER_LIVE } else { CLIENT_LIVE };
        self.page.store_u8(own, GONE, Ordering::SeqCst);
        // If the event cannot be sent the peer finds out when it looks.
        let _ = self.event.notify();
    }

    /// State of the peer, if it is one that may follow.
    fn peer_state(&mut self) -> Result<u8> {
        let theirs = if self.role == Role::Server { CLIENT_LIVE } else { SERVER_LIVE };
        match self.page.load_u8(theirs, Ordering::Acquire) {
            GONE => Ok(GONE),
            THERE => {
                self.connected = true;
                Ok(THERE)
            }
            AWAITED if !self.connected => Ok(AWAITED),
            _ => Err(self.blame(Violation::VchanLive)),
        }
    }

    /// Asks the peer for an event.
    fn ask(&self, bits: u8) {
        let at = if self.role == Role::Server { CLIENT_NOTIFY } else { SERVER_NOTIFY };
        self.page.fetch_or_u8(at, bits);
        self.page.fence();
    }

    /// Sends an event if the peer has asked for it.
    fn tell(&mut self, bit: u8) -> Result<()> {
        let at = if self.role == Role::Server { SERVER_NOTIFY } else { CLIENT_NOTIFY };
        let asked = self.page.fetch_and_u8(at, !bit);
        if asked & !(ON_READ | ON_WRITE) != 0 {
            return Err(self.blame(Violation::VchanNotify));
        }
        if asked & bit != 0 { self.event.notify() } else { Ok(()) }
    }

    /// Waits until `done`, having asked the peer for events of this kind.
    fn wait(
        &mut self,
        deadline: Deadline,
        bits: u8,
        mut done: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        self.good()?;
        let mut dead = false;
        loop {
            if done(self)? {
                self.useless = self.useless.saturating_sub(8);
                return Ok(());
            }
            // Asked before the last look: the peer either sees the bits or we see what it did.
            self.ask(bits);
            if done(self)? {
                return Ok(());
            }
            if dead {
                self.idc.counters.peer_died();
                return Err(self.fail(Error::PeerDied { peer: self.peer }));
            }
            let now = self.idc.platform.now();
            if now >= deadline.0 {
                return Err(Error::TimedOut);
            }
            if self.useless >= STORM {
                self.idc.platform.sleep_until(now.saturating_add(STORM_SLICE).min(deadline.0));
            }
            if self.event.wait(now.saturating_add(SLICE).min(deadline.0))? {
                self.useless += 1;
                if self.useless == STORM {
                    self.idc.counters.storm();
                }
            } else {
                // Nobody bound to the port of a server means nothing before its client has come.
                let status = self.event.status()?;
                dead = self.connected && status == PortStatus::Unbound;
            }
        }
    }
}

impl<P: Platform> Drop for Vchan<P>
where
    P::Memory: Fields,
{
    fn drop(&mut self) {
        if self.broken.is_none() {
            self.close();
        }
    }
}

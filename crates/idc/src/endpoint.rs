//! Making rings and connecting to them: the paper's Init, Create and Connect, and the duplex handshake.
//!
//! # A one-way channel
//! The writer calls [`Idc::create`] and passes the grant reference on by whatever means; the reader calls
//! [`Idc::connect`] with it and the writer's domain id. Nothing else is needed.
//!
//! # A duplex channel
//! Each side makes the ring that it writes, out of its own pages, so that neither can exhaust the other's memory.
//! Both rings use one event channel. One side, the client, starts:
//!
//! 1. The client makes its ring with the feature `DUPLEX` and an unbound port, and passes the grant reference
//!    of the setup page on ([`Idc::offer`]).
//! 2. The service maps it, binds to the port, and makes its own ring for that domain with the feature
//!    `SHARED_PORT` ([`Idc::answer`]). It leaves the grant reference of that ring in its control page of the
//!    client's ring, stores the state *open* there, and sends an event.
//! 3. The client reads that grant reference and connects to the ring ([`Pending::complete_by`]).
//!
//! The service waits for nothing in this, so a slow or hostile client cannot hold it up. It knows the client's
//! domain from Xen: a grant can be mapped only if that very domain granted it to us.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::channel::Channel;
use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::{Access, Event, Granted, Native, Platform};
use crate::reader::Reader;
use crate::ring::{Consumer, Producer, RingMemory};
use crate::setup::{
    FIRST_GRANT, MAX_PAGES, MAX_POOL, PAGE_SIZE, SLOTS, Setup, SetupError, State, control, features,
};
use crate::shm::Memory;
use crate::stats::Counters;
use crate::wait::{Deadline, EventCost, Link, Spin};
use crate::writer::Writer;
use crate::{DomId, GrantRef};

/// Properties of one end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Data pages of the ring that this side writes, 1 to 256.
    pub pages: usize,
    /// Slots in the data page, of which there must be one then: 8, 32 or 128. 0 for a ring without slots, which is
    /// faster in every respect; slots are the geometry of the paper ([`Config::paper`]).
    pub slots: usize,
    /// Pool pages for messages that do not go into the ring in one piece, 0 to 256. Without them such a message is
    /// cut, which a ring of the default size does not make slower.
    pub pool: usize,
    /// Most data and pool pages of the peer's ring that this side maps.
    pub max_peer_pages: usize,
    /// Longest message that this side receives, in bytes. It is also the most memory that the peer can make it
    /// use for one message.
    pub max_message: usize,
    /// Whether to spin before sleeping.
    pub spin: Spin,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            pages: 64,
            slots: 0,
            pool: 0,
            max_peer_pages: MAX_PAGES + MAX_POOL,
            max_message: 16 << 20,
            spin: Spin::default(),
        }
    }
}

impl Config {
    /// This configuration with so many data pages.
    pub const fn with_pages(self, pages: usize) -> Config {
        Config { pages, ..self }
    }

    /// The geometry of the paper: one page in 8, 32 or 128 slots for small messages, of which one is always empty,
    /// and pages of their own for those that are longer than a slot but for one byte.
    pub fn paper(slots: usize) -> Config {
        Config { pages: 1, slots, pool: 32, ..Config::default() }
    }

    /// This configuration with so many pool pages.
    pub const fn with_pool(self, pool: usize) -> Config {
        Config { pool, ..self }
    }

    /// This configuration with or without spinning.
    pub const fn with_spin(self, spin: Spin) -> Config {
        Config { spin, ..self }
    }

    /// This configuration with this limit for received messages.
    pub const fn with_max_message(self, max_message: usize) -> Config {
        Config { max_message, ..self }
    }

    fn check(&self) -> Result<()> {
        let bad = |what| Err(Error::BadConfig(what));
        match *self {
            Config { pages, .. } if !(1..=MAX_PAGES).contains(&pages) => {
                bad("a ring has 1 to 256 data pages")
            }
            Config { pool, .. } if pool > MAX_POOL => bad("a ring has at most 256 pool pages"),
            Config { slots: 0, .. } => Ok(()),
            Config { pages: 1, slots, .. } if SLOTS.contains(&slots) => Ok(()),
            _ => bad("a ring with slots has one data page with 8, 32 or 128 of them"),
        }
    }
}

/// Access to inter-domain communication: the paper's *Init*. Dropping it is *Close*; channels that are open
/// stay so.
#[derive(Debug)]
pub struct Idc<P: Platform = Native> {
    pub(crate) platform: P,
    pub(crate) counters: Arc<Counters>,
}

impl<P: Platform> Clone for Idc<P> {
    fn clone(&self) -> Self {
        Idc { platform: self.platform.clone(), counters: Arc::clone(&self.counters) }
    }
}

impl<P: Platform> Idc<P> {
    /// Uses this platform.
    pub fn with_platform(platform: P) -> Idc<P> {
        Idc { platform, counters: Arc::new(Counters::default()) }
    }

    /// The platform below, for programs that need it by itself: tests of peers that do not keep to the protocol.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Id of this domain.
    ///
    /// # Errors
    /// The system's.
    pub fn domid(&self) -> Result<DomId> {
        self.platform.domid()
    }

    /// Counters of all channels together.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        Deadline::after(self.platform.now(), timeout)
    }

    /// Pages of ours that `peer`, or anybody, still has mapped although their channels are closed: they cannot be used
    /// before it lets go of them. Where the system keeps such pages by itself (Linux) it is 0.
    pub fn quarantined(&self, peer: Option<DomId>) -> usize {
        self.platform.quarantined(peer)
    }

    /// The paper's *Create*: makes a ring that `peer` may read. It connects with the grant reference.
    ///
    /// # Errors
    /// [`Error::BadConfig`], or no memory, grant entries or ports are left. [`Error::Quarantined`]: the peer has not
    /// unmapped pages of closed channels. It may only be slow: see [`create_by`](Self::create_by).
    pub fn create(&self, peer: DomId, config: &Config) -> Result<(Writer<P>, GrantRef)> {
        self.create_by(peer, config, Deadline::PAST)
    }

    /// As [`create`](Self::create); waits until the deadline for a peer that has yet to unmap pages of closed channels.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_by(
        &self,
        peer: DomId,
        config: &Config,
        deadline: Deadline,
    ) -> Result<(Writer<P>, GrantRef)> {
        let writer = self.make_ring(peer, config, 0, None, deadline)?;
        let gref = writer.grant_ref();
        Ok((writer, gref))
    }

    /// The paper's *Connect*: reads the ring that `peer` made.
    ///
    /// # Errors
    /// [`Error::BadGrant`], [`Error::PeerMisbehaved`], [`Error::Incompatible`] or the system's.
    pub fn connect(&self, peer: DomId, gref: GrantRef) -> Result<Reader<P>> {
        self.connect_with(peer, gref, &Config::default())
    }

    /// As [`connect`](Self::connect); the `pages` of the configuration are not used.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_with(&self, peer: DomId, gref: GrantRef, config: &Config) -> Result<Reader<P>> {
        let mut half = self.attach(peer, gref, config, None)?;
        if half.setup.features & features::DUPLEX != 0 {
            half.reader.abandon(CloseReason::Refused);
            return Err(Error::Incompatible { peer, what: "it is one half of a duplex channel; answer it" });
        }
        half.open(GrantRef(0))
    }

    /// Starts a duplex channel; `peer` answers it with the grant reference ([`Pending::grant_ref`]).
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn offer(&self, peer: DomId, config: &Config) -> Result<Pending<P>> {
        self.offer_by(peer, config, Deadline::PAST)
    }

    /// As [`offer`](Self::offer); waits until the deadline for a peer that has yet to unmap pages of closed channels.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn offer_by(&self, peer: DomId, config: &Config, deadline: Deadline) -> Result<Pending<P>> {
        let writer = self.make_ring(peer, config, features::DUPLEX, None, deadline)?;
        Ok(Pending { idc: self.clone(), writer, config: *config })
    }

    /// Completes a duplex channel that `peer` has started, without waiting.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect) and [`create`](Self::create). The peer is told, but for
    /// [`Error::Quarantined`]: its offer stands, and can be answered when it has unmapped old pages.
    pub fn answer(&self, peer: DomId, gref: GrantRef, config: &Config) -> Result<Channel<P>> {
        self.platform.admit(peer)?;
        let mut half = self.attach(peer, gref, config, None)?;
        if half.setup.features & features::DUPLEX == 0 {
            half.reader.abandon(CloseReason::Refused);
            return Err(Error::Incompatible { peer, what: "it is a one-way channel; connect to it" });
        }
        let port = Arc::clone(&half.reader.link.event);
        let writer = self
            .make_ring(peer, config, features::SHARED_PORT, Some(port), Deadline::PAST)
            .inspect_err(|_| half.reader.abandon(CloseReason::Resources))?;
        let reader = half.open(writer.grant_ref())?;
        Ok(Channel::new(writer, reader))
    }

    /// Tells a client that it is not wanted.
    pub(crate) fn refuse(&self, peer: DomId, gref: GrantRef) {
        self.counters.refusal();
        // If its ring cannot even be mapped there is nobody to tell.
        if let Ok(mut half) = self.attach(peer, gref, &Config::default(), None) {
            half.reader.abandon(CloseReason::Refused);
        }
    }

    fn link(&self, peer: DomId, event: Arc<P::Event>) -> Link<P> {
        Link {
            platform: self.platform.clone(),
            event,
            peer,
            counters: Arc::clone(&self.counters),
            cost: Arc::new(EventCost::new()),
            ticket: None,
        }
    }

    /// Grants pages. A peer that has not unmapped old ones yet may be hostile or just slow: it has until the deadline.
    fn grant_by(
        &self,
        peer: DomId,
        pages: usize,
        access: Access,
        deadline: Deadline,
    ) -> Result<Granted<P::Memory>> {
        let mut pause = 500_000;
        loop {
            let result = self.platform.grant(peer, pages, access);
            let now = self.platform.now();
            if !matches!(result, Err(Error::Quarantined { .. })) || now >= deadline.0 {
                return result;
            }
            // Xen tells nobody when a page is unmapped, so we have to look.
            self.platform.sleep_until(now.saturating_add(pause).min(deadline.0));
            pause = (pause * 2).min(20_000_000);
        }
    }

    /// Makes a ring that this side writes. Its pages: setup, writer's control, data; and the reader's control.
    fn make_ring(
        &self,
        peer: DomId,
        config: &Config,
        features: u64,
        port: Option<Arc<P::Event>>,
        deadline: Deadline,
    ) -> Result<Writer<P>> {
        config.check()?;
        const CONTROL: usize = PAGE_SIZE;
        const DATA: usize = 2 * PAGE_SIZE;
        let own_port = port.is_none();
        let event = match port {
            Some(event) => event,
            None => Arc::new(self.platform.alloc_unbound(peer)?),
        };
        let pages = self.grant_by(peer, config.pages + 2, Access::ReadOnly, deadline)?;
        let reader_page = self.grant_by(peer, 1, Access::ReadWrite, deadline)?;
        let missing = Error::OutOfMemory("grant references");
        let (&[gref, writer_ref], data_refs) = pages.refs.split_first_chunk::<2>().ok_or(missing)?;
        let reader_ref = *reader_page.refs.first().ok_or(missing)?;
        let (pool, pool_refs) = match config.pool {
            0 => (None, Vec::new()),
            pages => {
                let Granted { memory, refs } = self.grant_by(peer, pages, Access::ReadOnly, deadline)?;
                (Some(memory), refs)
            }
        };
        let nonce = self.platform.nonce();
        let setup = Setup {
            features,
            epoch: 0,
            nonce,
            port: own_port.then(|| event.port()),
            writer_ref,
            reader_ref,
            slots: config.slots,
            data_refs: Vec::from(data_refs),
            pool_refs,
        };
        let (capacity, slot) = (setup.capacity(), setup.slot());
        pages.memory.store(CONTROL + control::ALIVE, 1, core::sync::atomic::Ordering::Relaxed);
        self.platform.announce_death(&pages.memory, CONTROL + control::ALIVE, &event)?;
        pages.memory.write(0, &setup.encode());
        let ring = Producer::new(RingMemory {
            writer: pages.memory,
            control: CONTROL,
            data: DATA,
            capacity,
            slot,
            reader: reader_page.memory,
            pool,
        });
        ring.set_state(State::Open);
        ring.memory().writer.fence();
        Ok(Writer::new(ring, self.link(peer, event), gref, nonce, config.spin))
    }

    /// Maps a ring that `peer` writes. The peer sees nothing of it before [`Half::open`].
    fn attach(
        &self,
        peer: DomId,
        gref: GrantRef,
        config: &Config,
        port: Option<Arc<P::Event>>,
    ) -> Result<Half<P>> {
        let setup = self.read_setup(peer, gref).map_err(|error| self.note(error))?;
        if setup.data_refs.len() + setup.pool_refs.len() > config.max_peer_pages {
            return Err(Error::Incompatible { peer, what: "its ring has more pages than this side maps" });
        }
        let event = match (port, setup.port) {
            (Some(event), None) => event,
            (None, Some(port)) => Arc::new(self.platform.bind_interdomain(peer, port)?),
            _ => {
                let reason = Violation::SetupPort;
                return Err(self.note(Error::PeerMisbehaved { peer, reason }));
            }
        };
        let mut refs = Vec::with_capacity(1 + setup.data_refs.len());
        refs.push(setup.writer_ref);
        refs.extend_from_slice(&setup.data_refs);
        let writer = self.platform.map(peer, &refs, Access::ReadOnly)?;
        let reader = self.platform.map(peer, &[setup.reader_ref], Access::ReadWrite)?;
        if reader.load(control::STATE, core::sync::atomic::Ordering::Acquire) != State::Absent.encode() {
            return Err(Error::AlreadyConnected { peer, gref });
        }
        let pool = match setup.pool_refs.as_slice() {
            [] => None,
            refs => Some(self.platform.map(peer, refs, Access::ReadOnly)?),
        };
        let (capacity, slot) = (setup.capacity(), setup.slot());
        let ring =
            Consumer::new(RingMemory { writer, control: 0, data: PAGE_SIZE, capacity, slot, reader, pool });
        ring.set_word(control::ALIVE, 1);
        self.platform.announce_death(&ring.memory().reader, control::ALIVE, &event)?;
        let limit = config.max_message as u64;
        Ok(Half { reader: Reader::new(ring, self.link(peer, event), limit, config.spin), setup, limit })
    }

    /// Copies the setup page once and checks the copy.
    fn read_setup(&self, peer: DomId, gref: GrantRef) -> Result<Setup> {
        let mut copy = Box::new([0; PAGE_SIZE]);
        self.platform.map(peer, &[gref], Access::ReadOnly)?.read(0, copy.as_mut_slice());
        Setup::decode(&copy).map_err(|error: SetupError| error.blame(peer))
    }

    fn note(&self, error: Error) -> Error {
        if let Error::PeerMisbehaved { reason, .. } = &error {
            self.counters.violation(*reason);
        }
        error
    }
}

/// A ring that is mapped, but not yet opened.
struct Half<P: Platform> {
    reader: Reader<P>,
    setup: Setup,
    limit: u64,
}

impl<P: Platform> Half<P> {
    /// Tells the writer that this end is there.
    fn open(mut self, reply: GrantRef) -> Result<Reader<P>> {
        let ring = self.reader.ring();
        ring.set_word(control::MAX_MESSAGE, self.limit);
        ring.set_word(control::NONCE, self.setup.nonce);
        ring.set_word(control::REPLY_REF, reply.0.into());
        ring.set_word(control::FEATURES, 0);
        ring.set_state(State::Open);
        self.reader.announce()?;
        Ok(self.reader)
    }
}

/// A duplex channel that waits for its answer.
#[derive(Debug)]
pub struct Pending<P: Platform> {
    idc: Idc<P>,
    pub(crate) writer: Writer<P>,
    config: Config,
}

impl<P: Platform> Pending<P> {
    /// A ring that has been made ready for another reader.
    pub(crate) fn from_writer(idc: &Idc<P>, writer: Writer<P>, config: &Config) -> Pending<P> {
        Pending { idc: idc.clone(), writer, config: *config }
    }

    /// What the peer needs for its answer.
    pub fn grant_ref(&self) -> GrantRef {
        self.writer.grant_ref()
    }

    /// The domain that should answer.
    pub fn peer(&self) -> DomId {
        self.writer.peer()
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        self.idc.deadline(timeout)
    }

    /// Waits until the peer has answered; [`complete_by`](Self::complete_by) does not wait then. The offer outlives
    /// a deadline that passes.
    ///
    /// # Errors
    /// As for [`complete_by`](Self::complete_by).
    pub fn wait_answered_by(&mut self, deadline: Deadline) -> Result<()> {
        let result = self.writer.wait_connected_by(deadline);
        if self.answered_and_gone(&result) { Ok(()) } else { result }
    }

    /// The peer, if it has answered.
    ///
    /// # Errors
    /// How the channel ended.
    pub fn is_answered(&mut self) -> Result<bool> {
        let result = self.writer.is_connected();
        if self.answered_and_gone(&result) { Ok(true) } else { result }
    }

    /// Whether the peer has answered and closed already: what it said in between is still there for us.
    fn answered_and_gone<T>(&self, result: &Result<T>) -> bool {
        matches!(result, Err(Error::PeerClosed { .. })) && self.writer.has_reply()
    }

    /// Waits until the peer has answered. If it has closed again by then, that is no error yet: what it had sent comes
    /// first, if its listener still runs.
    ///
    /// # Errors
    /// [`Error::PeerNotConnected`] when the deadline passes; [`Error::PeerClosed`] when the peer does not want
    /// the channel; [`Error::PeerMisbehaved`], [`Error::PeerDied`], or the system's.
    pub fn complete_by(mut self, deadline: Deadline) -> Result<Channel<P>> {
        self.wait_answered_by(deadline)?;
        self.complete()
    }

    /// The peer has answered. It may have closed its ends since then; the channel says so when it is used.
    pub(crate) fn complete(mut self) -> Result<Channel<P>> {
        let word = self.writer.reader_word(control::REPLY_REF);
        let gref = match u32::try_from(word) {
            Ok(number) if number >= FIRST_GRANT => GrantRef(number),
            _ => return Err(self.writer.blame(Violation::ReplyGrant)),
        };
        let port = Arc::clone(&self.writer.link.event);
        let half = match self.idc.attach(self.writer.peer(), gref, &self.config, Some(port)) {
            // The pages went with the peer: it was no listener, which keeps them for us.
            Err(error @ Error::BadGrant { .. }) => {
                self.writer.is_connected()?;
                return Err(error);
            }
            other => other?,
        };
        let reader = half.open(GrantRef(0))?;
        Ok(Channel::new(self.writer, reader))
    }
}

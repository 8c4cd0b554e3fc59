//! A channel as a side has it that does not keep to the protocol: pages in which everything can be stored.

use alloc::{boxed::Box, format, sync::Arc, vec, vec::Vec};
use core::{
    cell::Cell,
    sync::atomic::Ordering::{Relaxed, SeqCst},
};

use idc::{
    DomId, GrantRef,
    platform::{Access, Event, Platform, PortStatus},
    record::{Kind, Record},
    setup::{PAGE_SIZE, Setup, State, control, features},
    shm::Memory,
};

use crate::{Outcome, attack::Attack};

/// Offset of our control page in our pages; the setup page is in front of it.
pub const CONTROL: usize = PAGE_SIZE;
/// Offset of our data.
pub const DATA: usize = 2 * PAGE_SIZE;
/// Our data pages, enough for what an attack sends: it never wraps.
const PAGES: usize = 4;
/// Our pool pages.
const POOL: usize = 4;

/// The ring that we write.
#[derive(Debug)]
pub struct Ours<P: Platform> {
    /// Setup page, our control page, data, pool.
    pub own: P::Memory,
    /// The honest reader's control page. We have allocated it, so we can write there too.
    pub reader: P::Memory,
    /// Of the setup page.
    pub gref: GrantRef,
}

/// The ring that the honest side writes.
#[derive(Debug)]
pub struct Theirs<P: Platform> {
    /// Its control page, and its data.
    pub writer: P::Memory,
    /// The reader's control page, which is ours to write.
    pub own: P::Memory,
    /// Its pool.
    pub pool: Option<P::Memory>,
    /// What its setup page says.
    pub setup: Setup,
}

/// A channel.
#[derive(Debug)]
pub struct Session<P: Platform> {
    /// Below it.
    pub platform: P,
    /// Its port.
    pub event: Arc<P::Event>,
    /// The ring that we write.
    pub ours: Ours<P>,
    /// Missing if the honest side has not answered.
    pub theirs: Option<Theirs<P>>,
    /// Until when to wait for the honest side.
    pub deadline: u64,
    /// Bytes that have been written into the data.
    head: Cell<usize>,
}

impl<P: Platform> Ours<P> {
    /// Makes a ring as an honest writer would, but for what the attack spoils.
    pub fn make(
        platform: &P,
        peer: DomId,
        event: Option<&P::Event>,
        attack: &Attack<P>,
    ) -> idc::Result<Self> {
        let pages = platform.grant(peer, 2 + PAGES + POOL, Access::ReadOnly)?;
        let reader = platform.grant(peer, 1, Access::ReadWrite)?;
        let refs = |from, to| pages.refs.get(from..to).unwrap_or_default().to_vec();
        let first = |refs: &[GrantRef]| refs.first().copied().unwrap_or_default();
        let setup = Setup {
            features: if event.is_some() { features::DUPLEX } else { features::SHARED_PORT },
            epoch: 0,
            nonce: platform.nonce(),
            port: event.map(Event::port),
            writer_ref: first(&refs(1, 2)),
            reader_ref: first(&reader.refs),
            slots: 0,
            data_refs: refs(2, 2 + PAGES),
            pool_refs: refs(2 + PAGES, 2 + PAGES + POOL),
        };
        let mut page = setup.encode();
        for (offset, word) in attack.setup {
            if let Some(target) = page.get_mut(*offset..offset + 4) {
                target.copy_from_slice(&word.to_le_bytes());
            }
        }
        pages.memory.write(0, &page);
        pages.memory.store(CONTROL + control::ALIVE, 1, SeqCst);
        pages.memory.store(CONTROL + control::STATE, State::Open.encode(), SeqCst);
        Ok(Ours { own: pages.memory, reader: reader.memory, gref: first(&pages.refs) })
    }
}

impl<P: Platform> Theirs<P> {
    /// Maps a ring of the honest side.
    pub fn map(platform: &P, peer: DomId, gref: GrantRef) -> Outcome<Self> {
        let fail = |error: idc::Error| format!("mapping what the honest side granted: {error}");
        let mut copy = Box::new([0; PAGE_SIZE]);
        platform.map(peer, &[gref], Access::ReadOnly).map_err(fail)?.read(0, copy.as_mut_slice());
        let setup = Setup::decode(&copy).map_err(|error| format!("its setup page: {error:?}"))?;
        let mut refs = vec![setup.writer_ref];
        refs.extend_from_slice(&setup.data_refs);
        let writer = platform.map(peer, &refs, Access::ReadOnly).map_err(fail)?;
        let own = platform.map(peer, &[setup.reader_ref], Access::ReadWrite).map_err(fail)?;
        let pool = match setup.pool_refs.as_slice() {
            [] => None,
            refs => Some(platform.map(peer, refs, Access::ReadOnly).map_err(fail)?),
        };
        Ok(Theirs { writer, own, pool, setup })
    }

    /// Connects as an honest reader would, but for what the attack spoils.
    pub fn open(&self, reply: GrantRef, attack: &Attack<P>) {
        let honest = [
            (control::ALIVE, 1),
            (control::MAX_MESSAGE, 100_000),
            (control::NONCE, self.setup.nonce),
            (control::REPLY_REF, reply.0.into()),
            (control::STATE, State::Open.encode()),
        ];
        for (offset, word) in honest {
            let spoilt = attack.answer.iter().find(|(at, _)| *at == offset);
            self.own.store(offset, spoilt.map_or(word, |(_, xor)| word ^ xor), SeqCst);
        }
    }
}

impl<P: Platform> Session<P> {
    /// A channel whose parts are there.
    pub fn new(platform: &P, event: Arc<P::Event>, ours: Ours<P>, deadline: u64) -> Self {
        Session { platform: platform.clone(), event, ours, theirs: None, deadline, head: Cell::new(0) }
    }

    /// Stores a word in our pages and sends an event.
    pub fn store(&self, offset: usize, word: u64) {
        self.ours.own.store(offset, word, SeqCst);
        self.notify();
    }

    /// Stores a word in our page of their ring and sends an event.
    pub fn reply(&self, offset: usize, word: u64) {
        if let Some(theirs) = &self.theirs {
            theirs.own.store(offset, word, SeqCst);
        }
        self.notify();
    }

    /// Sends an event.
    pub fn notify(&self) {
        // The honest side may have closed the port.
        let _ = self.event.notify();
    }

    /// Publishes a record whose payload begins with these words.
    pub fn record(&self, record: Record, words: &[u64]) {
        let at = self.head.get();
        for (index, word) in words.iter().enumerate() {
            self.ours.own.store(DATA + at + 8 + index * 8, *word, Relaxed);
        }
        let next = at + record.span();
        if next + 8 <= PAGES * PAGE_SIZE {
            self.ours.own.store(DATA + next, 0, Relaxed);
            self.head.set(next);
        }
        self.store(DATA + at, record.encode());
    }

    /// Sends honest messages.
    pub fn messages(&self, count: usize, len: usize) {
        (0..count).for_each(|_| self.record(Record::new(Kind::Data, len), &[]));
    }

    /// The word at the start of the data, or at an offset there, of the honest side.
    pub fn their_header(&self, offset: usize) -> u64 {
        self.theirs.as_ref().map_or(0, |theirs| theirs.writer.load(PAGE_SIZE + offset, SeqCst))
    }

    /// Waits until something holds: whether it does.
    pub fn wait(&self, holds: impl Fn(&Self) -> bool) -> bool {
        loop {
            if holds(self) {
                return true;
            }
            let now = self.platform.now();
            if now >= self.deadline || self.event.status() == Ok(PortStatus::Unbound) {
                return holds(self);
            }
            let _ = self.event.wait(now.saturating_add(5_000_000).min(self.deadline));
        }
    }

    /// Whether the honest side has closed either direction.
    pub fn has_closed(&self) -> bool {
        let closed = |word: u64| word & 0xff == State::Closed(idc::CloseReason::Dropped).encode();
        closed(self.ours.reader.load(control::STATE, SeqCst))
            || self.theirs.as_ref().is_some_and(|theirs| closed(theirs.writer.load(control::STATE, SeqCst)))
    }

    /// Ends it as if this side had dropped it.
    pub fn close(&self) {
        let closed = State::Closed(idc::CloseReason::Dropped).encode();
        self.reply(control::STATE, closed);
        self.store(CONTROL + control::STATE, closed);
    }

    /// Number of words that can be spoilt: all of ours, and our page of their ring.
    pub fn words(&self) -> usize {
        self.ours.own.size() / 8 + self.theirs.as_ref().map_or(0, |theirs| theirs.own.size() / 8)
    }

    /// Spoils one of them.
    pub fn spoil(&self, index: usize, word: u64) {
        let own = self.ours.own.size() / 8;
        match &self.theirs {
            Some(theirs) if index >= own => theirs.own.store((index - own) * 8, word, SeqCst),
            _ => self.ours.own.store(index % own * 8, word, SeqCst),
        }
    }
}

/// Pages that a hostile side keeps mapped.
#[derive(Debug)]
pub struct Kept<P: Platform>(pub Vec<Theirs<P>>);

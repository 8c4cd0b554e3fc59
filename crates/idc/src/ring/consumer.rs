//! The reading half of a ring.

use core::sync::atomic::Ordering;

use super::{PeerState, PeerWords, RingMemory, peer_state, wrap};
use crate::error::Violation;
use crate::record::{HEADER_LEN, Kind, Record};
use crate::setup::{PAGE_SIZE, State, control};
use crate::shm::Memory;

/// The reading half.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: RingMemory<M>,
    peer: PeerWords,
    /// Position of the next record, and its offset in the ring.
    tail: u64,
    offset: usize,
    /// Position that the writer has been told.
    published: u64,
    /// Pool pages that have been consumed since the ring was made, and what of that the writer has been told.
    pool_tail: u64,
    pool_published: u64,
    /// The record at the position: its header has been loaded and is not loaded again.
    pending: Option<Record>,
    /// If that one is a descriptor: its first pool page, checked.
    page: usize,
}

impl<M: Memory> Consumer<M> {
    /// Takes a ring at its beginning.
    pub fn new(memory: RingMemory<M>) -> Consumer<M> {
        let peer = PeerWords { state: State::Open, armed: 0 };
        Consumer {
            memory,
            peer,
            tail: 0,
            offset: 0,
            published: 0,
            pool_tail: 0,
            pool_published: 0,
            pending: None,
            page: 0,
        }
    }

    /// The pages.
    pub fn memory(&self) -> &RingMemory<M> {
        &self.memory
    }

    /// Stores a word of this side's control page.
    pub fn set_word(&self, offset: usize, word: u64) {
        self.memory.reader.store(offset, word, Ordering::Release);
    }

    /// Stores this side's state word.
    pub fn set_state(&self, state: State) {
        self.set_word(control::STATE, state.encode());
    }

    /// Loads the writer's state.
    ///
    /// # Errors
    /// [`Violation::StateUnknown`] or [`Violation::StateBack`].
    pub fn writer_state(&mut self) -> Result<PeerState, Violation> {
        peer_state(&self.memory.writer, self.memory.control, &mut self.peer)
    }

    /// The next record that is not filler, if the writer has published one. It stays until [`pop`](Self::pop).
    ///
    /// # Errors
    /// [`Violation::RecordHeader`], [`Violation::RecordLength`], [`Violation::RecordFiller`] or
    /// [`Violation::PoolPage`].
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record>, Violation> {
        if self.pending.is_none() {
            self.accept(self.load_header())?;
        }
        Ok(self.pending)
    }

    /// The usual case in one go: if the next record is there, and is a whole message in the ring that fits into `buf`,
    /// copies it there and goes on behind it: its length. `None`: see [`peek`](Self::peek) for what it is.
    ///
    /// # Errors
    /// As for [`peek`](Self::peek).
    #[inline]
    pub fn take(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Violation> {
        if self.pending.is_some() || self.memory.slot != 0 {
            return Ok(None);
        }
        let word = self.load_header();
        if let Some(len) = Record::data_len(word)
            && len <= self.memory.room(self.offset)
            && let Some(part) = buf.get_mut(..len)
        {
            self.memory.writer.read(self.memory.payload(self.offset), part);
            self.advance(Record::new(Kind::Data, len));
            return Ok(Some(len));
        }
        self.accept(word)?;
        Ok(None)
    }

    /// Notes the record at the position, whose header has been loaded.
    fn accept(&mut self, word: u64) -> Result<(), Violation> {
        let Some(mut record) = self.parse(word)? else { return Ok(()) };
        if record.kind == Kind::Filler {
            // A filler ends where the ring ends, and its successor is at the start: no second one can follow. There
            // is none in a ring with slots.
            let end = self.offset + HEADER_LEN + record.len;
            if self.memory.slot != 0 || self.offset == 0 || end != self.memory.capacity {
                return Err(Violation::RecordFiller);
            }
            self.advance(record);
            match self.parse(self.load_header())? {
                None => return Ok(()),
                Some(next) if next.kind == Kind::Filler => return Err(Violation::RecordFiller),
                Some(next) => record = next,
            }
        }
        if record.pooled {
            let at = self.memory.payload(self.offset) + if record.kind == Kind::First { 8 } else { 0 };
            let (page, _) = self.memory.pool_pages(self.pool_tail, record.len);
            if self.memory.writer.load(at, Ordering::Relaxed) != page as u64 {
                return Err(Violation::PoolPage);
            }
            self.page = page;
        }
        self.pending = Some(record);
        Ok(())
    }

    /// Copies payload of the record at the position, from byte `skip` on (a multiple of eight).
    #[inline]
    pub fn read(&self, skip: usize, buf: &mut [u8]) {
        debug_assert!(self.pending.is_some_and(|record| skip + buf.len() <= record.len));
        let (memory, start) = match &self.memory.pool {
            Some(pool) if self.pending.is_some_and(|record| record.pooled) => (pool, self.page * PAGE_SIZE),
            _ => (&self.memory.writer, self.memory.payload(self.offset)),
        };
        memory.read(start + skip, buf);
    }

    /// Loads the first word in the ring of the record at the position: the total length of a [`Kind::First`].
    pub fn first_word(&self) -> u64 {
        self.memory.writer.load(self.memory.payload(self.offset), Ordering::Relaxed)
    }

    /// Goes on to the next record.
    #[inline]
    pub fn pop(&mut self) {
        if let Some(record) = self.pending.take() {
            self.advance(record);
        }
    }

    /// Whether a quarter of the ring or of the pool has been consumed and the writer has not been told.
    #[inline]
    pub fn publish_due(&self) -> bool {
        let pages = self.pool_tail - self.pool_published;
        self.tail - self.published >= self.memory.capacity as u64 / 4
            || (pages > 0 && pages * 4 * PAGE_SIZE as u64 >= self.memory.pool_len() as u64)
    }

    /// Tells the writer what has been consumed: whether it is owed an event.
    ///
    /// # Errors
    /// [`Violation::ArmedIndex`].
    pub fn publish(&mut self) -> Result<bool, Violation> {
        let (old, new) = (self.published, self.tail);
        if old == new {
            return Ok(false);
        }
        self.published = new;
        // `Release`: the bytes have been copied out.
        if self.pool_published != self.pool_tail {
            self.pool_published = self.pool_tail;
            self.set_word(control::POOL_CONSUMED, self.pool_tail);
        }
        self.set_word(control::CONSUMED, new);
        // Pairs with the fence in `Producer::arm_at`.
        self.memory.reader.fence();
        let word = self.memory.writer.load(self.memory.control + control::ARMED, Ordering::Relaxed);
        // The writer waits for at most its own head, which is at most one ring ahead of us.
        let armed = self.peer.armed(word, new + self.memory.capacity as u64)?;
        Ok(old < armed && armed <= new)
    }

    /// Asks for an event when something is published behind the position. Look once more after this, and only
    /// then sleep.
    pub fn arm(&self) {
        self.set_word(control::ARMED, self.tail + 1);
        // Pairs with the fence in `Producer::flush`.
        self.memory.reader.fence();
    }

    #[inline]
    fn load_header(&self) -> u64 {
        self.memory.writer.load(self.memory.header(self.offset), Ordering::Acquire)
    }

    /// The record at the position, if its header says that there is one.
    fn parse(&self, word: u64) -> Result<Option<Record>, Violation> {
        if word == 0 {
            return Ok(None);
        }
        Record::parse(word, self.memory.room(self.offset), self.memory.pool_len()).map(Some)
    }

    #[inline]
    fn advance(&mut self, record: Record) {
        let span = self.memory.span(record);
        self.tail += span as u64;
        self.offset = wrap(self.offset + span, self.memory.capacity);
        if record.pooled {
            self.pool_tail += self.memory.pool_pages(self.pool_tail, record.len).1;
        }
    }
}

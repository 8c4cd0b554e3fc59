//! One ring: positions, records, and the two halves of its protocol. No waiting and no platform.
//!
//! # Positions
//! A position is a byte count since the ring was made: 64 bits, a multiple of eight, never wraps. Each half
//! keeps its own position in private memory; what it stores in shared memory is for the other half only and
//! is never read back.
//!
//! # Publication
//! The header at the writer's position is always zero. To publish, the writer stores zero into the header that
//! will be next, writes the payload, and then stores this record's header with `Release`. The reader polls the
//! header at its position with `Acquire`: for a small message that is the only shared cache line it touches.
//! A record does not wrap: a filler record takes up the rest of the ring if the next one does not fit there.
//!
//! # Slots
//! A ring with slots is one page of 8, 32 or 128 of them, each for one record, as in the paper. The headers lie in
//! the writer's control page, so a message may be as long as a slot but for one byte. The header behind the last
//! record must be zero here too, so one slot is always empty.
//!
//! # Pool
//! A ring may have pool pages: granted once, for the life of the channel. A record may be a descriptor of its payload
//! there. Pages are taken in order and given back in order, as are bytes of the ring, so the reader knows which
//! page comes next and a descriptor that says otherwise is refused; there is nothing to be given back twice. A
//! payload does not wrap: if it does not fit behind the last one, the rest of the pool is skipped.
//!
//! # Events
//! A half that is about to sleep stores in its `ARMED` word the position that it waits for, executes a full
//! fence, and looks once more. The other half stores its news, executes a full fence, and loads that word: it
//! owes an event exactly if the armed position is above the position of its last check and not above the new
//! one. Whatever the order of the four accesses, one of the two sees the other (Dekker), so no wake-up is lost;
//! a stale armed position costs at most one useless event and needs no clearing.
//!
//! # Hostile peer
//! Each word of the peer is loaded once and checked against what an honest peer could have stored: positions
//! and states only go up and stay within one ring's length. Nothing else of the peer is trusted.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::error::Violation;
use crate::record::{HEADER_LEN, Kind, Record};
use crate::setup::{PAGE_SIZE, State, control};
use crate::shm::Memory;

/// The pages of a ring as one side has mapped them.
#[derive(Debug)]
pub struct RingMemory<M> {
    /// The pages that the writer writes: its control page at `control`, the data from `data` on.
    pub writer: M,
    /// Offset of the writer's control page in `writer`.
    pub control: usize,
    /// Offset of the data pages in `writer`.
    pub data: usize,
    /// Bytes of data.
    pub capacity: usize,
    /// Bytes of a slot; 0 for a ring without slots.
    pub slot: usize,
    /// The reader's control page.
    pub reader: M,
    /// The pool, if there is one.
    pub pool: Option<M>,
}

impl<M: Memory> RingMemory<M> {
    /// Where the header of a record at this offset of the ring is, in `writer`.
    #[inline]
    fn header(&self, offset: usize) -> usize {
        match self.slot {
            0 => self.data + offset,
            slot => self.control + control::SLOTS + offset / slot * 8,
        }
    }

    /// Where its payload is.
    #[inline]
    fn payload(&self, offset: usize) -> usize {
        self.data + offset + if self.slot == 0 { HEADER_LEN } else { 0 }
    }

    /// Bytes from this record to the next one.
    #[inline]
    fn span(&self, record: Record) -> usize {
        if self.slot == 0 { record.span() } else { self.slot }
    }

    /// Bytes that a record at this offset may have behind its header.
    #[inline]
    fn room(&self, offset: usize) -> usize {
        match self.slot {
            0 => self.capacity - offset - HEADER_LEN,
            slot => slot - 1,
        }
    }

    /// Bytes that have to be free behind a record, for the header that becomes zero.
    #[inline]
    fn behind(&self) -> usize {
        if self.slot == 0 { HEADER_LEN } else { self.slot }
    }

    fn pool_len(&self) -> usize {
        self.pool.as_ref().map_or(0, Memory::size)
    }

    /// The pool pages for a payload, if `head` have been taken so far: the first, and how many are taken with
    /// those that are skipped.
    fn pool_pages(&self, head: u64, len: usize) -> (usize, u64) {
        let all = (self.pool_len() / PAGE_SIZE).max(1);
        let count = len.div_ceil(PAGE_SIZE);
        let at = (head % all as u64) as usize;
        if at + count <= all { (at, count as u64) } else { (0, (all - at + count) as u64) }
    }
}

/// The checks on the words that a peer keeps in its control page, and what was last accepted of them.
#[derive(Debug)]
struct PeerWords {
    state: State,
    armed: u64,
}

impl PeerWords {
    /// Accepts an armed position that did not go back and is not above `limit`.
    fn armed(&mut self, word: u64, limit: u64) -> Result<u64, Violation> {
        if word < self.armed || word > limit {
            return Err(Violation::ArmedIndex);
        }
        self.armed = word;
        Ok(word)
    }

    /// Accepts a state that did not go down.
    fn state(&mut self, word: u64) -> Result<State, Violation> {
        let state = State::decode(word)?;
        if state.rank() < self.state.rank() || (state.rank() == self.state.rank() && state != self.state) {
            return Err(Violation::StateBack);
        }
        self.state = state;
        Ok(state)
    }
}

/// The offset behind a record, which ends at the end of the ring or before it.
fn wrap(end: usize, capacity: usize) -> usize {
    if end == capacity { 0 } else { end }
}

/// State of the peer as found in its control page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its state word.
    pub state: State,
    /// Its kernel says that the process is gone.
    pub dead: bool,
}

/// Reads the peer's state and whether it lives. The state before the liveness: a peer that is coming sets its
/// liveness first. And once more behind it: what a process that has died stored last is seen too.
fn peer_state<M: Memory>(memory: &M, at: usize, words: &mut PeerWords) -> Result<PeerState, Violation> {
    let mut load_state = || words.state(memory.load(at + control::STATE, Ordering::Acquire));
    let state = load_state()?;
    if state == State::Absent || memory.load(at + control::ALIVE, Ordering::Acquire) != 0 {
        return Ok(PeerState { state, dead: false });
    }
    Ok(PeerState { state: load_state()?, dead: true })
}

/// The writing half.
#[derive(Debug)]
pub struct Producer<M> {
    /// Shared with a listener that keeps the pages for a client which has not connected to them yet.
    memory: Arc<RingMemory<M>>,
    peer: PeerWords,
    /// Position of the next record, and its offset in the ring.
    head: u64,
    offset: usize,
    /// Last accepted position of the reader.
    consumed: u64,
    /// Pool pages that have been taken since the ring was made, and the reader's last accepted count.
    pool_head: u64,
    pool_consumed: u64,
    /// Position at the last check whether the reader wants an event.
    checked: u64,
    /// Position of the reader that we wait for, or waited for last.
    armed: u64,
    /// Position of the reader when we armed.
    armed_seen: u64,
}

/// Room for a record that has been found, and not been published.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    record: Record,
    total: Option<u64>,
    /// Offset of the record, and of the bytes of filler in front of it.
    start: usize,
    filler: usize,
    /// First pool page, and pages taken.
    page: usize,
    pages: u64,
}

impl Place {
    /// Bytes of payload that have room.
    pub fn len(&self) -> usize {
        self.record.len - if self.total.is_some() && !self.record.pooled { 8 } else { 0 }
    }

    /// Whether there is no room for any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Longest payload of a record in a ring without slots.
const MAX_INLINE: usize = 16 * 1024;

impl<M: Memory> Producer<M> {
    /// Takes a ring of zeroed pages.
    pub fn new(memory: RingMemory<M>) -> Producer<M> {
        let peer = PeerWords { state: State::Absent, armed: 0 };
        Producer {
            memory: Arc::new(memory),
            peer,
            head: 0,
            offset: 0,
            consumed: 0,
            pool_head: 0,
            pool_consumed: 0,
            checked: 0,
            armed: 0,
            armed_seen: 0,
        }
    }

    /// Back to the beginning, for another reader. The words that are shared are zeroed; nobody reads the ring.
    pub(crate) fn reset(&mut self) {
        let RingMemory { writer, control, capacity, reader, .. } = &*self.memory;
        for offset in (0..PAGE_SIZE).step_by(8) {
            reader.store(offset, 0, Ordering::Relaxed);
            // The word of life is the kernel's, and we live.
            if offset != control::ALIVE {
                writer.store(control + offset, 0, Ordering::Relaxed);
            }
        }
        for offset in (0..*capacity).step_by(8) {
            self.data_store(offset, 0);
        }
        if let Some(pool) = &self.memory.pool {
            (0..pool.size()).step_by(8).for_each(|offset| pool.store(offset, 0, Ordering::Relaxed));
        }
        self.peer = PeerWords { state: State::Absent, armed: 0 };
        (self.head, self.offset, self.consumed, self.checked) = (0, 0, 0, 0);
        (self.pool_head, self.pool_consumed, self.armed, self.armed_seen) = (0, 0, 0, 0);
    }

    /// Longest payload of a record in the ring: a quarter of the ring, so that a filler and a record fit at any
    /// offset, and at most 16 KiB, so that the reader works on one fragment while the next is written. In a ring
    /// with slots a byte less than a slot.
    pub fn max_payload(&self) -> usize {
        match self.memory.slot {
            0 => (self.memory.capacity / 4 - HEADER_LEN).min(MAX_INLINE),
            slot => slot - 1,
        }
    }

    /// Longest payload of a record in the pool: a quarter of it, for the same reasons. 0 without a pool.
    pub fn max_pooled(&self) -> usize {
        match self.memory.pool_len() {
            0 => 0,
            len => (len / PAGE_SIZE).div_ceil(4) * PAGE_SIZE,
        }
    }

    /// The pages.
    pub fn memory(&self) -> &RingMemory<M> {
        &self.memory
    }

    /// The pages, to keep them when this half is gone.
    pub(crate) fn share(&self) -> Arc<RingMemory<M>> {
        Arc::clone(&self.memory)
    }

    /// Stores this side's state word.
    pub fn set_state(&self, state: State) {
        self.memory.writer.store(self.memory.control + control::STATE, state.encode(), Ordering::Release);
    }

    /// Loads the reader's state.
    ///
    /// # Errors
    /// [`Violation::StateUnknown`] or [`Violation::StateBack`].
    #[inline]
    pub fn reader_state(&mut self) -> Result<PeerState, Violation> {
        peer_state(&self.memory.reader, 0, &mut self.peer)
    }

    /// Loads a word of the reader's page that is valid once its state is open.
    pub fn reader_word(&self, offset: usize) -> u64 {
        self.memory.reader.load(offset, Ordering::Acquire)
    }

    /// Finds room for a record with so many bytes of payload, in the pool or in the ring. `total` is a word in front
    /// of the payload. Nothing has happened before [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`Violation::ConsumedBack`], [`Violation::ConsumedAhead`] or [`Violation::PoolReturn`].
    #[inline]
    pub fn reserve(
        &mut self,
        kind: Kind,
        total: Option<u64>,
        len: usize,
        pooled: bool,
    ) -> Result<Option<Place>, Violation> {
        let prefix = if total.is_some() && !pooled { 8 } else { 0 };
        let record = Record { kind, len: prefix + len, pooled };
        debug_assert!(len <= if pooled { self.max_pooled() } else { self.max_payload() });
        let span = self.memory.span(record);
        let rest = self.memory.capacity - self.offset;
        let (start, filler) = if span <= rest { (self.offset, 0) } else { (0, rest) };
        let (page, pages) = if pooled { self.memory.pool_pages(self.pool_head, len) } else { (0, 0) };
        // The header behind the record must be free too: it is about to become zero.
        if !self.has_room(filler + span + self.memory.behind(), pages)? {
            return Ok(None);
        }
        Ok(Some(Place { record, total, start, filler, page, pages }))
    }

    /// Copies bytes to offset `at` of the payload (a multiple of eight).
    #[inline]
    pub fn fill(&self, place: &Place, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= place.len());
        let (memory, start) = match &self.memory.pool {
            Some(pool) if place.record.pooled => (pool, place.page * PAGE_SIZE),
            _ => {
                let prefix = if place.total.is_some() { 8 } else { 0 };
                (&self.memory.writer, self.memory.payload(place.start) + prefix)
            }
        };
        memory.write(start + at, bytes);
    }

    /// Publishes a record of which `len` bytes have been filled in.
    #[inline]
    pub fn commit(&mut self, place: Place, len: usize) {
        let Place { mut record, total, start, filler, page, pages } = place;
        debug_assert!(len <= place.len());
        record.len -= place.len() - len;
        let span = self.memory.span(record);
        let next = wrap(start + span, self.memory.capacity);
        self.store(self.memory.header(next), 0, Ordering::Relaxed);
        let mut at = self.memory.payload(start);
        if let Some(word) = total {
            self.store(at, word, Ordering::Relaxed);
            at += 8;
        }
        if record.pooled {
            self.store(at, page as u64, Ordering::Relaxed);
            // A descriptor is always filled in as long as it was reserved.
            self.pool_head += pages;
        }
        self.store(self.memory.header(start), record.encode(), Ordering::Release);
        if filler > 0 {
            // The record behind the filler is complete; this makes both visible.
            let filling = Record::new(Kind::Filler, filler - HEADER_LEN);
            self.store(self.memory.header(self.offset), filling.encode(), Ordering::Release);
        }
        self.head += (filler + span) as u64;
        self.offset = next;
    }

    /// Writes and publishes a record, unless there is no room: [`reserve`](Self::reserve), [`fill`](Self::fill)
    /// and [`commit`](Self::commit).
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    #[inline]
    pub fn try_push(
        &mut self,
        kind: Kind,
        total: Option<u64>,
        payload: &[u8],
        pooled: bool,
    ) -> Result<bool, Violation> {
        let Some(place) = self.reserve(kind, total, payload.len(), pooled)? else { return Ok(false) };
        self.fill(&place, 0, payload);
        self.commit(place, payload.len());
        Ok(true)
    }

    /// Whether a record with this payload would find room now.
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    pub fn has_room_for(&mut self, len: usize) -> Result<bool, Violation> {
        let need = self.need(len);
        self.has_room(need, 0)
    }

    /// Free bytes in the ring, with what the reader has given back so far.
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    pub fn free(&mut self) -> Result<usize, Violation> {
        self.refresh()?;
        Ok(self.memory.capacity - (self.head - self.consumed) as usize)
    }

    /// Whether so many bytes of the ring and so many pages of the pool are free.
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    pub fn has_space(&mut self, bytes: usize, pages: usize) -> Result<bool, Violation> {
        self.has_room(bytes, pages as u64)
    }

    /// Asks for an event when so many bytes of the ring are free; see [`arm`](Self::arm).
    pub fn arm_space(&mut self, bytes: usize) {
        self.arm_at((self.head + bytes as u64).saturating_sub(self.memory.capacity as u64).min(self.head));
    }

    /// Pages in the pool.
    pub fn pool_capacity(&self) -> usize {
        self.memory.pool_len() / PAGE_SIZE
    }

    /// Bytes of the ring that a record with so much behind its header takes.
    pub fn record_room(&self, len: usize) -> usize {
        self.memory.span(Record::new(Kind::Data, len))
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Whether the reader has given everything back.
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    pub fn drained(&mut self) -> Result<bool, Violation> {
        self.refresh()?;
        Ok(self.consumed == self.head)
    }

    /// Position of the next record.
    pub(crate) fn position(&self) -> u64 {
        self.head
    }

    /// Whether a quarter of the ring has been published since the last [`flush`](Self::flush).
    pub fn flush_due(&self) -> bool {
        self.head - self.checked >= self.memory.capacity as u64 / 4
    }

    /// Ends a batch: whether the reader is owed an event for what was published since the last call.
    ///
    /// # Errors
    /// [`Violation::ArmedIndex`].
    #[inline]
    pub fn flush(&mut self) -> Result<bool, Violation> {
        let (old, new) = (self.checked, self.head);
        if old == new {
            return Ok(false);
        }
        self.checked = new;
        // Pairs with the fence in `Consumer::arm`: the headers above are visible, or the armed word is.
        self.memory.writer.fence();
        let word = self.memory.reader.load(control::ARMED, Ordering::Relaxed);
        // The reader waits for the byte behind its position, which is at most our head.
        let armed = self.peer.armed(word, new + 1)?;
        Ok(old < armed && armed <= new)
    }

    /// Asks for an event when a record with this payload has room in the ring. The reader gives back a quarter of the
    /// ring at a time, unless it stops to read; so this costs no event for each record. Look once more after this,
    /// and only then sleep.
    pub fn arm(&mut self, len: usize) {
        let need = self.head + self.need(len) as u64;
        self.arm_at(need.saturating_sub(self.memory.capacity as u64));
    }

    /// Asks for an event when the reader gives back anything; for room in the pool. Look once more after this, and
    /// sleep only if [`moved`](Self::moved) says that nothing has been given back.
    pub fn arm_any(&mut self) {
        self.arm_at((self.consumed + 1).min(self.head));
    }

    /// Whether the reader has been seen to give something back since the last `arm`.
    pub fn moved(&self) -> bool {
        self.consumed != self.armed_seen
    }

    /// Asks for an event when everything has been consumed.
    pub fn arm_drained(&mut self) {
        self.arm_at(self.head);
    }

    fn arm_at(&mut self, position: u64) {
        self.armed_seen = self.consumed;
        // Never back: after a wait for much room that was given up, one for little may end a little later than
        // it could, but it ends: the reader passes every position up to our head.
        self.armed = self.armed.max(position);
        let at = self.memory.control + control::ARMED;
        self.memory.writer.store(at, self.armed, Ordering::Release);
        // Pairs with the fence in `Consumer::publish`.
        self.memory.writer.fence();
    }

    fn need(&self, len: usize) -> usize {
        let span = self.memory.span(Record::new(Kind::Data, len));
        let rest = self.memory.capacity - self.offset;
        self.memory.behind() + span + if span <= rest { 0 } else { rest }
    }

    #[inline]
    fn has_room(&mut self, need: usize, pages: u64) -> Result<bool, Violation> {
        let mut fresh = false;
        loop {
            let bytes = (self.head - self.consumed) as usize + need;
            let pool = (self.pool_head - self.pool_consumed + pages) as usize * PAGE_SIZE;
            if bytes <= self.memory.capacity && (pages == 0 || pool <= self.memory.pool_len()) {
                return Ok(true);
            }
            if fresh {
                return Ok(false);
            }
            self.refresh()?;
            fresh = true;
        }
    }

    /// Loads the reader's positions and checks them. `Acquire`: the reader is done with those bytes.
    fn refresh(&mut self) -> Result<(), Violation> {
        let word = self.memory.reader.load(control::CONSUMED, Ordering::Acquire);
        if word < self.consumed {
            return Err(Violation::ConsumedBack);
        }
        let unit = if self.memory.slot == 0 { 8 } else { self.memory.slot as u64 };
        if word > self.head || !word.is_multiple_of(unit) {
            return Err(Violation::ConsumedAhead);
        }
        self.consumed = word;
        if self.memory.pool.is_some() {
            let pages = self.memory.reader.load(control::POOL_CONSUMED, Ordering::Acquire);
            if pages < self.pool_consumed || pages > self.pool_head {
                return Err(Violation::PoolReturn);
            }
            self.pool_consumed = pages;
        }
        Ok(())
    }

    #[inline]
    fn store(&self, at: usize, word: u64, order: Ordering) {
        self.memory.writer.store(at, word, order);
    }

    fn data_store(&self, offset: usize, word: u64) {
        self.memory.writer.store(self.memory.data + offset, word, Ordering::Relaxed);
    }
}

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
        if self.pending.is_some() {
            return Ok(self.pending);
        }
        let Some(mut record) = self.load_header()? else { return Ok(None) };
        if record.kind == Kind::Filler {
            // A filler ends where the ring ends, and its successor is at the start: no second one can follow. There
            // is none in a ring with slots.
            let end = self.offset + HEADER_LEN + record.len;
            if self.memory.slot != 0 || self.offset == 0 || end != self.memory.capacity {
                return Err(Violation::RecordFiller);
            }
            self.advance(record);
            match self.load_header()? {
                None => return Ok(None),
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
        Ok(self.pending)
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
    fn load_header(&self) -> Result<Option<Record>, Violation> {
        let word = self.memory.writer.load(self.memory.header(self.offset), Ordering::Acquire);
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

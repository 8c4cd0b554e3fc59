//! The writing half of a ring.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{PeerState, PeerWords, RingMemory, peer_state, still_open, wrap};
use crate::error::Violation;
use crate::record::{HEADER_LEN, Kind, Record};
use crate::setup::{PAGE_SIZE, State, control};
use crate::shm::Memory;

/// The writing half.
#[derive(Debug)]
pub struct Producer<M> {
    /// Shared with a listener that keeps the pages for a client which has not connected to them yet.
    memory: Arc<RingMemory<M>>,
    peer: PeerWords,
    /// Position of the next record. What grows together with it stands apart: side by side a compiler adds both with one
    /// vector instruction, whose load waits for the two stores before it.
    head: u64,
    /// Last accepted position of the reader.
    consumed: u64,
    /// Offset of the next record in the ring.
    offset: usize,
    /// Longest payload of a record in the ring.
    longest: usize,
    /// Bytes from the offset on that are known to be free, up to the end of the ring; 0 in a ring with slots.
    ahead: usize,
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
        let longest = match memory.slot {
            0 => (memory.capacity / 4 - HEADER_LEN).min(MAX_INLINE),
            slot => slot - 1,
        };
        let mut producer = Producer {
            memory: Arc::new(memory),
            peer,
            head: 0,
            offset: 0,
            consumed: 0,
            ahead: 0,
            longest,
            pool_head: 0,
            pool_consumed: 0,
            checked: 0,
            armed: 0,
            armed_seen: 0,
        };
        producer.look_ahead();
        producer
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
        self.look_ahead();
    }

    /// Longest payload of a record in the ring: a quarter of the ring, so that a filler and a record fit at any
    /// offset, and at most 16 KiB, so that the reader works on one fragment while the next is written. In a ring
    /// with slots a byte less than a slot.
    #[inline]
    pub fn max_payload(&self) -> usize {
        self.longest
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
    pub(crate) fn shared(&self) -> &Arc<RingMemory<M>> {
        &self.memory
    }

    /// Stores this side's state word.
    pub fn set_state(&self, state: State) {
        self.memory.writer.store(self.memory.control + control::STATE, state.encode(), Ordering::Release);
    }

    /// Whether the reader is open, as it was, and lives. If not, [`reader_state`](Self::reader_state) says more.
    #[inline]
    pub fn reader_still_open(&self) -> bool {
        still_open(&self.memory.reader, 0, &self.peer)
    }

    /// Loads the reader's state.
    ///
    /// # Errors
    /// [`Violation::StateUnknown`] or [`Violation::StateBack`].
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
        self.look_ahead();
    }

    /// As [`try_push`](Self::try_push) for a whole message in the ring, not longer than
    /// [`max_payload`](Self::max_payload).
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> Result<bool, Violation> {
        debug_assert!(message.len() <= self.longest);
        let record = Record::new(Kind::Data, message.len());
        let span = record.span();
        // The usual case: the record and the header behind it are in one piece that is known to be free.
        if span + HEADER_LEN > self.ahead {
            return self.try_push(Kind::Data, None, message, false);
        }
        let at = self.memory.data + self.offset;
        self.store(at + span, 0, Ordering::Relaxed);
        self.memory.writer.write(at + HEADER_LEN, message);
        self.store(at, record.encode(), Ordering::Release);
        self.head += span as u64;
        self.offset += span;
        self.ahead -= span;
        Ok(true)
    }

    /// Writes and publishes a record, unless there is no room: [`reserve`](Self::reserve), [`fill`](Self::fill)
    /// and [`commit`](Self::commit).
    ///
    /// # Errors
    /// As for [`reserve`](Self::reserve).
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
        self.look_ahead();
        Ok(())
    }

    fn look_ahead(&mut self) {
        let RingMemory { capacity, slot, .. } = *self.memory;
        let free = capacity - (self.head - self.consumed) as usize;
        self.ahead = if slot == 0 { free.min(capacity - self.offset) } else { 0 };
    }

    #[inline]
    fn store(&self, at: usize, word: u64, order: Ordering) {
        self.memory.writer.store(at, word, order);
    }

    fn data_store(&self, offset: usize, word: u64) {
        self.memory.writer.store(self.memory.data + offset, word, Ordering::Relaxed);
    }
}

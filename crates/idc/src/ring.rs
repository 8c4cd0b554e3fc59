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

use core::sync::atomic::Ordering;

use crate::error::Violation;
use crate::record::{HEADER_LEN, Kind, Record};
use crate::setup::{State, control};
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
    /// The reader's control page.
    pub reader: M,
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
    memory: RingMemory<M>,
    peer: PeerWords,
    /// Position of the next record, and its offset in the ring.
    head: u64,
    offset: usize,
    /// Last accepted position of the reader.
    consumed: u64,
    /// Position at the last check whether the reader wants an event.
    checked: u64,
    /// Position of the reader that we wait for, or waited for last.
    armed: u64,
}

impl<M: Memory> Producer<M> {
    /// Takes a ring of zeroed pages.
    pub fn new(memory: RingMemory<M>) -> Producer<M> {
        let peer = PeerWords { state: State::Absent, armed: 0 };
        Producer { memory, peer, head: 0, offset: 0, consumed: 0, checked: 0, armed: 0 }
    }

    /// Longest payload of a record: a quarter of the ring, so that a filler and a record fit at any offset,
    /// and at most 16 KiB, so that the reader works on one fragment while the next is written.
    pub fn max_payload(&self) -> usize {
        (self.memory.capacity / 4 - HEADER_LEN).min(16 * 1024)
    }

    /// The pages.
    pub fn memory(&self) -> &RingMemory<M> {
        &self.memory
    }

    /// Stores this side's state word.
    pub fn set_state(&self, state: State) {
        self.memory.writer.store(self.memory.control + control::STATE, state.encode(), Ordering::Release);
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

    /// Writes and publishes a record, unless there is no room. `prefix` is a word in front of the payload;
    /// together they have at most [`max_payload`](Self::max_payload) bytes.
    ///
    /// # Errors
    /// [`Violation::ConsumedBack`] or [`Violation::ConsumedAhead`].
    pub fn try_push(&mut self, kind: Kind, prefix: Option<u64>, payload: &[u8]) -> Result<bool, Violation> {
        let prefix_len = if prefix.is_some() { 8 } else { 0 };
        let record = Record { kind, len: prefix_len + payload.len() };
        debug_assert!(record.len <= self.max_payload(), "the caller cuts messages into fragments");
        let span = record.span();
        let rest = self.memory.capacity - self.offset;
        let (start, filler) = if span <= rest { (self.offset, 0) } else { (0, rest) };
        // The header behind the record must be free too: it is about to become zero.
        if !self.has_room(filler + span + HEADER_LEN)? {
            return Ok(false);
        }
        let next = wrap(start + span, self.memory.capacity);
        self.data_store(next, 0, Ordering::Relaxed);
        if let Some(word) = prefix {
            self.data_store(start + HEADER_LEN, word, Ordering::Relaxed);
        }
        self.memory.writer.write(self.memory.data + start + HEADER_LEN + prefix_len, payload);
        self.data_store(start, record.encode(), Ordering::Release);
        if filler > 0 {
            // The record behind the filler is complete; this makes both visible.
            let filling = Record { kind: Kind::Filler, len: filler - HEADER_LEN };
            self.data_store(self.offset, filling.encode(), Ordering::Release);
        }
        self.head += (filler + span) as u64;
        self.offset = next;
        Ok(true)
    }

    /// Whether a record with this payload would find room now.
    ///
    /// # Errors
    /// As for [`try_push`](Self::try_push).
    pub fn has_room_for(&mut self, len: usize) -> Result<bool, Violation> {
        let need = self.need(len);
        self.has_room(need)
    }

    /// Free bytes in the ring, with what the reader has given back so far.
    ///
    /// # Errors
    /// As for [`try_push`](Self::try_push).
    pub fn free(&mut self) -> Result<usize, Violation> {
        self.refresh()?;
        Ok(self.memory.capacity - (self.head - self.consumed) as usize)
    }

    /// Bytes in the ring.
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Whether the reader has given everything back.
    ///
    /// # Errors
    /// As for [`try_push`](Self::try_push).
    pub fn drained(&mut self) -> Result<bool, Violation> {
        self.refresh()?;
        Ok(self.consumed == self.head)
    }

    /// Whether a quarter of the ring has been published since the last [`flush`](Self::flush).
    pub fn flush_due(&self) -> bool {
        self.head - self.checked >= self.memory.capacity as u64 / 4
    }

    /// Ends a batch: whether the reader is owed an event for what was published since the last call.
    ///
    /// # Errors
    /// [`Violation::ArmedIndex`].
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

    /// Asks for an event when a record with this payload has room. The reader gives back a quarter of the ring at
    /// a time, unless it stops to read; so this costs no event for each record. Look once more after this, and
    /// only then sleep.
    pub fn arm(&mut self, len: usize) {
        let need = self.head + self.need(len) as u64;
        self.arm_at(need.saturating_sub(self.memory.capacity as u64));
    }

    /// Asks for an event when everything has been consumed.
    pub fn arm_drained(&mut self) {
        self.arm_at(self.head);
    }

    fn arm_at(&mut self, position: u64) {
        // Never back: after a wait for much room that was given up, one for little may end a little later than
        // it could, but it ends: the reader passes every position up to our head.
        self.armed = self.armed.max(position);
        let at = self.memory.control + control::ARMED;
        self.memory.writer.store(at, self.armed, Ordering::Release);
        // Pairs with the fence in `Consumer::publish`.
        self.memory.writer.fence();
    }

    fn need(&self, len: usize) -> usize {
        let span = HEADER_LEN + len.next_multiple_of(8);
        let rest = self.memory.capacity - self.offset;
        HEADER_LEN + span + if span <= rest { 0 } else { rest }
    }

    fn has_room(&mut self, need: usize) -> Result<bool, Violation> {
        let fits = |ring: &Self| (ring.head - ring.consumed) as usize + need <= ring.memory.capacity;
        if fits(self) {
            return Ok(true);
        }
        self.refresh()?;
        Ok(fits(self))
    }

    /// Loads the reader's position and checks it. `Acquire`: the reader is done with those bytes.
    fn refresh(&mut self) -> Result<(), Violation> {
        let word = self.memory.reader.load(control::CONSUMED, Ordering::Acquire);
        if word < self.consumed {
            return Err(Violation::ConsumedBack);
        }
        if word > self.head || !word.is_multiple_of(8) {
            return Err(Violation::ConsumedAhead);
        }
        self.consumed = word;
        Ok(())
    }

    fn data_store(&self, offset: usize, word: u64, order: Ordering) {
        self.memory.writer.store(self.memory.data + offset, word, order);
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
    /// The record at the position: its header has been loaded and is not loaded again.
    pending: Option<Record>,
}

impl<M: Memory> Consumer<M> {
    /// Takes a ring at its beginning.
    pub fn new(memory: RingMemory<M>) -> Consumer<M> {
        let peer = PeerWords { state: State::Open, armed: 0 };
        Consumer { memory, peer, tail: 0, offset: 0, published: 0, pending: None }
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
    /// [`Violation::RecordHeader`], [`Violation::RecordLength`] or [`Violation::RecordFiller`].
    pub fn peek(&mut self) -> Result<Option<Record>, Violation> {
        if self.pending.is_some() {
            return Ok(self.pending);
        }
        let Some(mut record) = self.load_header()? else { return Ok(None) };
        if record.kind == Kind::Filler {
            // A filler ends where the ring ends, and its successor is at the start: no second one can follow.
            if self.offset == 0 || self.offset + HEADER_LEN + record.len != self.memory.capacity {
                return Err(Violation::RecordFiller);
            }
            self.advance(record);
            match self.load_header()? {
                None => return Ok(None),
                Some(next) if next.kind == Kind::Filler => return Err(Violation::RecordFiller),
                Some(next) => record = next,
            }
        }
        self.pending = Some(record);
        Ok(self.pending)
    }

    /// Copies payload of the record at the position, from byte `skip` on (a multiple of eight).
    pub fn read(&self, skip: usize, buf: &mut [u8]) {
        debug_assert!(self.pending.is_some_and(|record| skip + buf.len() <= record.len));
        self.memory.writer.read(self.memory.data + self.offset + HEADER_LEN + skip, buf);
    }

    /// Loads the first word of the payload of the record at the position.
    pub fn first_word(&self) -> u64 {
        self.memory.writer.load(self.memory.data + self.offset + HEADER_LEN, Ordering::Relaxed)
    }

    /// Goes on to the next record.
    pub fn pop(&mut self) {
        if let Some(record) = self.pending.take() {
            self.advance(record);
        }
    }

    /// Whether a quarter of the ring has been consumed and the writer has not been told.
    pub fn publish_due(&self) -> bool {
        self.tail - self.published >= self.memory.capacity as u64 / 4
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

    fn load_header(&self) -> Result<Option<Record>, Violation> {
        let word = self.memory.writer.load(self.memory.data + self.offset, Ordering::Acquire);
        if word == 0 {
            return Ok(None);
        }
        Record::parse(word, self.memory.capacity - self.offset - HEADER_LEN).map(Some)
    }

    fn advance(&mut self, record: Record) {
        self.tail += record.span() as u64;
        self.offset = wrap(self.offset + record.span(), self.memory.capacity);
    }
}

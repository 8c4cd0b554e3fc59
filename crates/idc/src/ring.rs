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

use core::sync::atomic::Ordering;

pub use self::consumer::Consumer;
pub use self::producer::{Place, Producer};
use crate::error::Violation;
use crate::record::{HEADER_LEN, Record};
use crate::setup::{PAGE_SIZE, State, control};
use crate::shm::Memory;

mod consumer;
mod producer;

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
    #[inline]
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

/// Whether the peer is open, as it was, and lives. If not, [`peer_state`] looks anew, and only what that finds counts.
#[inline]
fn still_open<M: Memory>(memory: &M, at: usize, words: &PeerWords) -> bool {
    words.state == State::Open
        && memory.load(at + control::STATE, Ordering::Acquire) == State::Open.encode()
        && memory.load(at + control::ALIVE, Ordering::Acquire) != 0
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

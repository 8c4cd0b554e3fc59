//! The reading end of a channel.
//!
//! Everything is copied out of the ring before anybody looks at it. A long message is put together from its
//! fragments; memory for it grows with what has really arrived, never with what the peer only announces, and
//! stops at the limit that was published when this end connected.

use alloc::vec::Vec;
use core::time::Duration;

use crate::DomId;
use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::Platform;
use crate::record::{Kind, Record};
use crate::ring::Consumer;
use crate::setup::State;
use crate::stats::Stats;
use crate::wait::{Deadline, Link, Phase, Spin, Step, Waiter};

/// Records that one call takes before it looks at the clock again.
const BURST: usize = 4096;

/// Reads messages from a peer.
#[derive(Debug)]
pub struct Reader<P: Platform> {
    // The pages are unmapped before the port is closed: the kernel may still have to send an event for them.
    ring: Consumer<P::Memory>,
    pub(crate) link: Link<P>,
    waiter: Waiter,
    stats: Stats,
    /// Longest message that is taken.
    max_message: u64,
    chain: Option<Chain>,
    ended: bool,
    failed: Option<Error>,
}

/// A long message of which some has arrived.
#[derive(Debug)]
struct Chain {
    total: usize,
    got: usize,
    /// What arrived during calls that did not complete the message; all of it, or (while a call copies into
    /// the caller's buffer) nothing.
    kept: Vec<u8>,
}

/// Where a message goes.
enum Sink<'a> {
    Vec(&'a mut Vec<u8>),
    Buf(&'a mut [u8]),
}

/// What [`Reader::step`] found.
enum Found {
    /// A message of so many bytes is in the sink.
    Message(usize),
    /// A part of one, or a record without contents.
    Part,
    Nothing,
    End,
}

impl<P: Platform> Reader<P> {
    pub(crate) fn new(ring: Consumer<P::Memory>, link: Link<P>, max_message: u64, spin: Spin) -> Reader<P> {
        let waiter = Waiter::new(spin, link.platform.can_spin());
        let stats = Stats::default();
        Reader { ring, link, waiter, stats, max_message, chain: None, ended: false, failed: None }
    }

    /// The domain that writes.
    pub fn peer(&self) -> DomId {
        self.link.peer
    }

    /// What this end has done.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        Deadline::after(self.link.platform.now(), timeout)
    }

    /// Receives a message; waits for one. `None` is the end of the stream.
    ///
    /// # Errors
    /// As for [`recv_by`](Self::recv_by).
    pub fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        self.recv_by(Deadline::NEVER)
    }

    /// Receives a message; waits for one until the deadline. `None` is the end of the stream.
    ///
    /// # Errors
    /// [`Error::TimedOut`] (nothing is lost, not even a part of a long message), and how the channel ended:
    /// [`Error::PeerClosed`], [`Error::PeerDied`], [`Error::PeerMisbehaved`]. What the peer had sent before it
    /// closed or died comes first.
    pub fn recv_by(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        let len = self.recv_to(&mut Sink::Vec(&mut message), Some(deadline))?;
        Ok(len.map(|_| message))
    }

    /// Receives a message into the front of `buf`: its length. `None` is the end of the stream.
    ///
    /// # Errors
    /// As for [`recv_by`](Self::recv_by), and [`Error::BufferTooSmall`]: the message can still be received.
    pub fn recv_into(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        self.recv_into_by(buf, Deadline::NEVER)
    }

    /// As [`recv_into`](Self::recv_into), until the deadline.
    ///
    /// # Errors
    /// As for [`recv_into`](Self::recv_into).
    pub fn recv_into_by(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<Option<usize>> {
        self.recv_to(&mut Sink::Buf(buf), Some(deadline))
    }

    /// Receives a message that is there already. `None` is the end of the stream.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], and as for [`recv_by`](Self::recv_by).
    pub fn try_recv(&mut self) -> Result<Option<Vec<u8>>> {
        let mut message = Vec::new();
        let len = self.recv_to(&mut Sink::Vec(&mut message), None)?;
        Ok(len.map(|_| message))
    }

    /// As [`recv_into`](Self::recv_into), without waiting.
    ///
    /// # Errors
    /// [`Error::WouldBlock`], and as for [`recv_into`](Self::recv_into).
    pub fn try_recv_into(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        self.recv_to(&mut Sink::Buf(buf), None)
    }

    /// Length of the next message, if it (or the beginning of a long one) is there already.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn peek_len(&mut self) -> Result<Option<usize>> {
        self.usable()?;
        if let Some(chain) = &self.chain {
            return Ok(Some(chain.total));
        }
        let Some(record) = self.checked(Consumer::peek)? else { return Ok(None) };
        match record.kind {
            Kind::Data => Ok(Some(record.len)),
            Kind::First => {
                let total = self.begin_chain(record)?;
                Ok(Some(total))
            }
            Kind::Fragment | Kind::Abort | Kind::Filler => Err(self.violation(Violation::Fragment)),
        }
    }

    /// Ends the channel for a reason of our own.
    pub(crate) fn abandon(&mut self, reason: CloseReason) {
        if self.failed.is_none() {
            self.fail(Error::PeerClosed { peer: self.link.peer, reason }, reason);
        }
    }

    /// The ring, for the handshake.
    pub(crate) fn ring(&self) -> &Consumer<P::Memory> {
        &self.ring
    }

    /// Tells the writer that something in our control page is new.
    pub(crate) fn announce(&mut self) -> Result<()> {
        self.link.notify(&mut self.stats)
    }

    /// Gives back what has been consumed, so that the writer can go on although this end does not read on.
    pub(crate) fn give_back(&mut self) -> Result<()> {
        if self.failed.is_none() && self.checked(Consumer::publish)? {
            self.link.notify(&mut self.stats)?;
        }
        Ok(())
    }

    /// `deadline` of `None`: do not wait.
    fn recv_to(&mut self, sink: &mut Sink<'_>, deadline: Option<Deadline>) -> Result<Option<usize>> {
        self.usable()?;
        if self.ended {
            return Ok(None);
        }
        self.resume_chain(sink)?;
        let result = self.recv_loop(sink, deadline);
        if let Err(error) = &result {
            self.keep_chain(sink);
            if matches!(error, Error::PeerDied { .. } | Error::PeerClosed { .. }) {
                self.failed = Some(*error);
            }
        }
        match result? {
            Found::Message(len) => {
                self.stats.messages += 1;
                self.stats.bytes += len as u64;
                Ok(Some(len))
            }
            _ => {
                self.ended = true;
                self.chain = None;
                self.give_back()?;
                Ok(None)
            }
        }
    }

    fn recv_loop(&mut self, sink: &mut Sink<'_>, deadline: Option<Deadline>) -> Result<Found> {
        // The usual case: the message is there, or the parts of a long one come as fast as they are taken.
        if let found @ (Found::Message(_) | Found::End) = self.steps(sink)? {
            return Ok(found);
        }
        let Some(deadline) = deadline else {
            self.give_back()?;
            return Err(Error::WouldBlock);
        };
        let link = self.link.share();
        let mut waiter = core::mem::replace(&mut self.waiter, Waiter::new(Spin::Never, false));
        let mut stats = Stats::default();
        let mut found = Found::Nothing;
        let result = link.block(&mut waiter, &mut stats, deadline, &mut |phase| {
            if phase == Phase::Arm {
                self.give_back()?;
                self.ring.arm();
            }
            found = self.steps(sink)?;
            Ok(match found {
                Found::Part => Step::Again,
                Found::Nothing => Step::Wait { bound: true },
                Found::Message(_) | Found::End => Step::Done,
            })
        });
        self.waiter = waiter;
        self.stats = self.stats + stats;
        result.map(|()| found)
    }

    /// Takes records while a long message is under way, but not for ever: they may be of one byte each.
    fn steps(&mut self, sink: &mut Sink<'_>) -> Result<Found> {
        for _ in 0..BURST {
            match self.step(sink)? {
                Found::Part if self.chain.is_some() => {}
                found => return Ok(found),
            }
        }
        Ok(Found::Part)
    }

    /// Takes at most one record.
    fn step(&mut self, sink: &mut Sink<'_>) -> Result<Found> {
        let record = match self.checked(Consumer::peek)? {
            Some(record) => record,
            None => match self.writer_gone()? {
                None => return Ok(Found::Nothing),
                // The writer's state was loaded after the header: what it published before may be there now.
                Some(ending) => match self.checked(Consumer::peek)? {
                    Some(record) => record,
                    None => return ending.map(|()| Found::End),
                },
            },
        };
        match (record.kind, self.chain.is_some()) {
            (Kind::Data, false) => self.take_message(record, sink).map(Found::Message),
            (Kind::First, _) => {
                // Begun and nothing taken: an earlier call looked at its length only.
                let total = match &self.chain {
                    Some(chain) if chain.got == 0 => chain.total,
                    Some(_) => return Err(self.violation(Violation::Fragment)),
                    None => self.begin_chain(record)?,
                };
                sink.check(total)?;
                self.take_fragment(record, 8, sink)
            }
            (Kind::Fragment, true) => self.take_fragment(record, 0, sink),
            (Kind::Abort, true) if record.len == 0 => {
                self.chain = None;
                sink.clear();
                self.pop()?;
                Ok(Found::Part)
            }
            _ => Err(self.violation(Violation::Fragment)),
        }
    }

    fn take_message(&mut self, record: Record, sink: &mut Sink<'_>) -> Result<usize> {
        if record.len as u64 > self.max_message {
            return Err(self.violation(Violation::MessageTooLarge));
        }
        sink.check(record.len)?;
        self.ring.read(0, sink.part(0, record.len)?);
        self.pop()?;
        Ok(record.len)
    }

    /// Checks the first record of a long message and notes its length. The record stays where it is.
    fn begin_chain(&mut self, record: Record) -> Result<usize> {
        if record.len <= 8 {
            return Err(self.violation(Violation::Fragment));
        }
        let total = self.ring.first_word();
        if total > self.max_message {
            return Err(self.violation(Violation::MessageTooLarge));
        }
        // A message that fits into its first record is no chain. `total` is at most `max_message`, a `usize`.
        let total = total as usize;
        if total <= record.len - 8 {
            return Err(self.violation(Violation::Fragment));
        }
        self.chain = Some(Chain { total, got: 0, kept: Vec::new() });
        Ok(total)
    }

    fn take_fragment(&mut self, record: Record, skip: usize, sink: &mut Sink<'_>) -> Result<Found> {
        let len = record.len - skip;
        let Some(chain) = &mut self.chain else { return Ok(Found::Nothing) };
        let start = chain.got;
        let (end, total) = (start + len, chain.total);
        if len == 0 || end > total {
            return Err(self.violation(Violation::Fragment));
        }
        self.ring.read(skip, sink.part(start, len)?);
        chain.got = end;
        if end == total {
            self.chain = None;
        }
        self.pop()?;
        Ok(if end == total { Found::Message(total) } else { Found::Part })
    }
}

/// Parts of a message across calls.
impl<P: Platform> Reader<P> {
    /// A call begins while a long message is under way: hand over what an earlier call kept.
    fn resume_chain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        sink.check(chain.total)?;
        let kept = core::mem::take(&mut chain.kept);
        match sink {
            Sink::Vec(message) => **message = kept,
            Sink::Buf(buf) => {
                // `check` has compared the lengths.
                if let Some(front) = buf.get_mut(..kept.len()) {
                    front.copy_from_slice(&kept);
                }
            }
        }
        Ok(())
    }

    /// A call ends without the whole message: keep its parts for the next one.
    fn keep_chain(&mut self, sink: &mut Sink<'_>) {
        let Some(chain) = &mut self.chain else { return };
        match sink {
            Sink::Vec(message) => chain.kept = core::mem::take(*message),
            Sink::Buf(buf) => chain.kept.extend_from_slice(buf.get(..chain.got).unwrap_or(&[])),
        }
    }
}

/// States and failures.
impl<P: Platform> Reader<P> {
    /// `None` while the writer may write; else how the stream ends once the ring is empty.
    fn writer_gone(&mut self) -> Result<Option<Result<()>>> {
        let peer = self.link.peer;
        let found = self.checked(Consumer::writer_state)?;
        Ok(match found.state {
            State::Finished => Some(Ok(())),
            State::Closed(reason) => Some(Err(Error::PeerClosed { peer, reason })),
            State::Absent => return Err(self.violation(Violation::StateBack)),
            State::Open if found.dead => {
                self.link.counters.peer_died();
                Some(Err(Error::PeerDied { peer }))
            }
            State::Open => None,
        })
    }

    fn pop(&mut self) -> Result<()> {
        self.ring.pop();
        if self.ring.publish_due() {
            self.give_back()?;
        }
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    fn checked<T>(&mut self, op: impl FnOnce(&mut Consumer<P::Memory>) -> Result<T, Violation>) -> Result<T> {
        op(&mut self.ring).map_err(|reason| self.violation(reason))
    }

    pub(crate) fn violation(&mut self, reason: Violation) -> Error {
        self.link.counters.violation(reason);
        let error = Error::PeerMisbehaved { peer: self.link.peer, reason };
        self.fail(error, CloseReason::Misbehaved);
        error
    }

    fn fail(&mut self, error: Error, reason: CloseReason) {
        self.failed = Some(error);
        self.chain = None;
        self.ring.set_state(State::Closed(reason));
        // The peer is told if that is possible; this end is closed either way.
        let _ = self.link.notify(&mut self.stats);
    }
}

impl<P: Platform> Drop for Reader<P> {
    fn drop(&mut self) {
        self.abandon(CloseReason::Dropped);
    }
}

impl Sink<'_> {
    /// Whether a message of this length fits.
    fn check(&self, needed: usize) -> Result<()> {
        match self {
            Sink::Buf(buf) if buf.len() < needed => Err(Error::BufferTooSmall { needed, len: buf.len() }),
            _ => Ok(()),
        }
    }

    /// Room for bytes `start..start + len` of the message. A vector grows by doubling, so it has at most twice
    /// the size of what has arrived.
    fn part(&mut self, start: usize, len: usize) -> Result<&mut [u8]> {
        let end = start + len;
        let found = match self {
            Sink::Vec(message) => {
                message
                    .try_reserve(end.saturating_sub(message.len()))
                    .map_err(|_| Error::OutOfMemory("a message"))?;
                message.resize(end, 0);
                message.get_mut(start..end)
            }
            Sink::Buf(buf) => {
                let len = buf.len();
                buf.get_mut(start..end).ok_or(Error::BufferTooSmall { needed: end, len }).map(Some)?
            }
        };
        found.ok_or(Error::OutOfMemory("a message"))
    }

    fn clear(&mut self) {
        if let Sink::Vec(message) = self {
            message.clear();
        }
    }
}

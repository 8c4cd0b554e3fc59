//! The writing end of a channel.
//!
//! A message up to [`Producer::max_payload`] bytes is one record. A longer one is a chain: a `First` record
//! with the total length, then `Fragment` records. The receiver's limit is asked for before the first byte of a
//! chain is written, so a message that is too long fails here and costs nothing there.
//!
//! If the deadline passes in the middle of a chain, the rest of it is not sent: an `Abort` record takes its
//! place, at the latest before the next message, and the reader drops what it has.

use core::time::Duration;

use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::Platform;
use crate::record::{HEADER_LEN, Kind};
use crate::ring::Producer;
use crate::setup::{State, control};
use crate::stats::Stats;
use crate::wait::{Deadline, Link, Phase, Spin, Step, Waiter};
use crate::{DomId, GrantRef};

/// Writes messages to a peer.
///
/// Dropping it without [`close`](Self::close) tells the reader that the stream is incomplete: it reads what is
/// there and then gets [`Error::PeerClosed`].
#[derive(Debug)]
pub struct Writer<P: Platform> {
    // The pages are given back before the port is closed: the kernel may still have to send an event for them.
    ring: Producer<P::Memory>,
    pub(crate) link: Link<P>,
    waiter: Waiter,
    stats: Stats,
    gref: GrantRef,
    nonce: u64,
    /// Longest message that the reader takes, once it has connected.
    reader_takes: Option<u64>,
    abort_owed: bool,
    finished: bool,
    failed: Option<Error>,
}

impl<P: Platform> Writer<P> {
    pub(crate) fn new(
        ring: Producer<P::Memory>,
        link: Link<P>,
        gref: GrantRef,
        nonce: u64,
        spin: Spin,
    ) -> Writer<P> {
        let waiter = Waiter::new(spin, link.platform.can_spin());
        Writer {
            ring,
            link,
            waiter,
            stats: Stats::default(),
            gref,
            nonce,
            reader_takes: None,
            abort_owed: false,
            finished: false,
            failed: None,
        }
    }

    /// The domain that reads.
    pub fn peer(&self) -> DomId {
        self.link.peer
    }

    /// Grant reference of the setup page: what the reader needs to connect.
    pub fn grant_ref(&self) -> GrantRef {
        self.gref
    }

    /// What this end has done.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Longest message that is sent in one piece; longer ones are cut.
    pub fn max_inline(&self) -> usize {
        self.ring.max_payload()
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        Deadline::after(self.link.platform.now(), timeout)
    }

    /// Sends a message; waits for room if there is none.
    ///
    /// # Errors
    /// As for [`send_by`](Self::send_by).
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_by(message, Deadline::NEVER)
    }

    /// Sends a message; waits for room until the deadline.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or [`Error::PeerNotConnected`] when the reader has never been there: the message
    /// has not been and will not be delivered. [`Error::MessageTooLarge`]; [`Error::Finished`]; and how the
    /// channel ended.
    pub fn send_by(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.send_with(message, deadline, &mut || Ok(()))
    }

    /// As [`send_by`](Self::send_by); calls `before_sleep` before it sleeps.
    pub(crate) fn send_with(
        &mut self,
        message: &[u8],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.usable()?;
        // Before and not after: what has been published may have been read and answered already.
        self.reader_gone()?;
        self.put(message, deadline, before_sleep)?;
        self.flush()
    }

    /// Sends messages, with one fence and at most one event for all of them if there is room for them.
    ///
    /// # Errors
    /// As for [`send_by`](Self::send_by). The messages before the one that failed have been sent.
    pub fn send_batch(&mut self, messages: &[&[u8]]) -> Result<()> {
        self.usable()?;
        self.reader_gone()?;
        let sent = messages.iter().try_for_each(|message| self.put(message, Deadline::NEVER, &mut || Ok(())));
        self.flush()?;
        sent
    }

    /// Sends a message if there is room for all of it now.
    ///
    /// # Errors
    /// [`Error::WouldBlock`]: nothing has been sent. [`Error::MessageTooLarge`]: the message could never be
    /// sent without waiting. Otherwise as for [`send_by`](Self::send_by).
    pub fn try_send(&mut self, message: &[u8]) -> Result<()> {
        self.usable()?;
        self.reader_gone()?;
        if !self.settle_abort()? {
            return Err(Error::WouldBlock);
        }
        let piece = self.ring.max_payload();
        if message.len() > piece {
            let Some(max) = self.reader_takes else { return Err(Error::WouldBlock) };
            // The first record carries eight bytes more; a filler takes less than the longest record.
            let pieces = (message.len() + 8).div_ceil(piece);
            let need = message.len() + 8 + pieces * 2 * HEADER_LEN + piece + 2 * HEADER_LEN;
            let overhead = need - message.len();
            let max = max.min(self.ring.capacity().saturating_sub(overhead) as u64);
            if message.len() as u64 > max {
                return Err(Error::MessageTooLarge { len: message.len() as u64, max });
            }
            let free = self.checked(|ring| ring.free())?;
            if need > free {
                return Err(Error::WouldBlock);
            }
            // There is room for all of it, so this does not wait.
            self.put(message, Deadline(0), &mut || Ok(()))?;
            return self.flush();
        }
        if !self.checked(|ring| ring.try_push(Kind::Data, None, message))? {
            return Err(Error::WouldBlock);
        }
        self.count(message.len());
        self.flush()
    }

    /// Whether the reader has connected; [`Error::PeerClosed`] and the like if it has gone again.
    ///
    /// # Errors
    /// How the channel ended.
    pub fn is_connected(&mut self) -> Result<bool> {
        self.usable()?;
        self.reader_gone()?;
        Ok(self.reader_takes.is_some())
    }

    /// Waits until the reader has connected.
    ///
    /// # Errors
    /// [`Error::PeerNotConnected`] when the deadline passes, or how the channel ended.
    pub fn wait_connected_by(&mut self, deadline: Deadline) -> Result<()> {
        self.usable()?;
        self.wait(deadline, &mut || Ok(()), &mut |writer, _| {
            writer.reader_gone()?;
            Ok(if writer.reader_takes.is_some() { Step::Done } else { Step::Wait { bound: false } })
        })
    }

    /// Waits until the reader has taken everything out of the ring.
    ///
    /// # Errors
    /// [`Error::TimedOut`] or [`Error::PeerNotConnected`], or how the channel ended.
    pub fn wait_drained_by(&mut self, deadline: Deadline) -> Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.wait(deadline, &mut || Ok(()), &mut |writer, phase| {
            if phase == Phase::Arm {
                writer.ring.arm_drained();
            }
            if writer.checked(|ring| ring.drained())? {
                return Ok(Step::Done);
            }
            writer.reader_gone()?;
            Ok(Step::Wait { bound: writer.reader_takes.is_some() })
        })
    }

    /// Sends the end mark: the reader reads what is there and then gets the end of the stream. The other
    /// direction of a duplex channel goes on.
    ///
    /// # Errors
    /// As for [`send`](Self::send), apart from [`Error::MessageTooLarge`].
    pub fn finish(&mut self) -> Result<()> {
        self.usable()?;
        // An unfinished chain needs no `Abort` record: the end of the stream drops it just as well.
        self.finished = true;
        self.ring.set_state(State::Finished);
        self.link.notify(&mut self.stats)
    }

    /// Sends the end mark and gives this end up. A reader that has connected still gets everything; to one
    /// that has not, everything is lost: see [`wait_drained_by`](Self::wait_drained_by).
    ///
    /// # Errors
    /// As for [`finish`](Self::finish).
    pub fn close(mut self) -> Result<()> {
        if self.finished { Ok(()) } else { self.finish() }
    }

    /// Ends the channel for a reason of our own.
    pub(crate) fn abandon(&mut self, reason: CloseReason) {
        if self.failed.is_none() {
            self.fail(Error::PeerClosed { peer: self.link.peer, reason }, reason);
        }
    }

    /// A word that the reader left for us when it connected.
    pub(crate) fn reader_word(&self, offset: usize) -> u64 {
        self.ring.reader_word(offset)
    }

    /// Reports that what the reader left for us is wrong.
    pub(crate) fn blame(&mut self, reason: Violation) -> Error {
        self.violation(reason)
    }

    /// Puts a message into the ring, whole or in pieces, and asks for events only when it has to wait.
    fn put(
        &mut self,
        message: &[u8],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let piece = self.ring.max_payload();
        if self.abort_owed {
            self.wait(deadline, before_sleep, &mut |writer, phase| {
                if phase == Phase::Arm {
                    writer.ring.arm(0);
                }
                if writer.settle_abort()? {
                    return Ok(Step::Done);
                }
                writer.no_room()
            })?;
        }
        if message.len() <= piece {
            self.push(Kind::Data, None, message, deadline, before_sleep)?;
        } else {
            self.put_chain(message, piece, deadline, before_sleep)?;
        }
        self.count(message.len());
        Ok(())
    }

    fn put_chain(
        &mut self,
        message: &[u8],
        piece: usize,
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let len = message.len() as u64;
        if self.reader_takes.is_none() {
            self.flush()?;
            self.wait_connected_by(deadline)?;
        }
        let max = self.reader_takes.unwrap_or(0);
        if len > max {
            return Err(Error::MessageTooLarge { len, max });
        }
        let (first, rest) = message.split_at_checked(piece - 8).unwrap_or((message, &[]));
        self.push(Kind::First, Some(len), first, deadline, before_sleep)?;
        for part in rest.chunks(piece) {
            // The reader may start on what is there already. One that is awake sees it without being told.
            if self.ring.flush_due() {
                self.flush()?;
            }
            if let Err(error) = self.push(Kind::Fragment, None, part, deadline, before_sleep) {
                self.abort_owed = self.failed.is_none();
                return Err(error);
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        kind: Kind,
        prefix: Option<u64>,
        payload: &[u8],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        if self.checked(|ring| ring.try_push(kind, prefix, payload))? {
            return Ok(());
        }
        let len = payload.len() + if prefix.is_some() { 8 } else { 0 };
        self.flush()?;
        self.wait(deadline, before_sleep, &mut |writer, phase| {
            if phase == Phase::Arm {
                writer.ring.arm(len);
            }
            if writer.checked(|ring| ring.try_push(kind, prefix, payload))? {
                return Ok(Step::Done);
            }
            writer.no_room()
        })
    }

    /// There is no room: is there still somebody who will make some?
    fn no_room(&mut self) -> Result<Step> {
        self.reader_gone()?;
        Ok(Step::Wait { bound: self.reader_takes.is_some() })
    }

    /// Sends the `Abort` record that is owed, if there is room.
    fn settle_abort(&mut self) -> Result<bool> {
        if self.abort_owed {
            self.abort_owed = !self.checked(|ring| ring.try_push(Kind::Abort, None, &[]))?;
        }
        Ok(!self.abort_owed)
    }

    /// Fails if the reader is gone, and notes when it has connected.
    fn reader_gone(&mut self) -> Result<()> {
        let found = self.checked(|ring| ring.reader_state())?;
        let peer = self.link.peer;
        match found.state {
            State::Closed(reason) => {
                let error = Error::PeerClosed { peer, reason };
                self.failed = Some(error);
                return Err(error);
            }
            // The writer's word; a reader has no end mark.
            State::Finished => return Err(self.violation(Violation::StateUnknown)),
            State::Open if self.reader_takes.is_none() => {
                if self.ring.reader_word(control::NONCE) != self.nonce {
                    return Err(self.violation(Violation::Nonce));
                }
                self.reader_takes = Some(self.ring.reader_word(control::MAX_MESSAGE));
            }
            State::Open | State::Absent => {}
        }
        if found.dead {
            self.link.counters.peer_died();
            let error = Error::PeerDied { peer };
            self.failed = Some(error);
            return Err(error);
        }
        Ok(())
    }

    /// Lets the reader know of what has been published, if it sleeps.
    fn flush(&mut self) -> Result<()> {
        if self.checked(|ring| ring.flush())? {
            self.link.notify(&mut self.stats)?;
        }
        Ok(())
    }

    fn wait(
        &mut self,
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
        step: &mut dyn FnMut(&mut Self, Phase) -> Result<Step>,
    ) -> Result<()> {
        let link = self.link.share();
        let mut waiter = core::mem::replace(&mut self.waiter, Waiter::new(Spin::Never, false));
        let mut stats = Stats::default();
        let result = link.block(&mut waiter, &mut stats, deadline, &mut |phase| {
            if phase == Phase::Arm {
                before_sleep()?;
            }
            step(self, phase)
        });
        self.waiter = waiter;
        self.stats = self.stats + stats;
        match result {
            Err(Error::TimedOut) if self.reader_takes.is_none() => {
                Err(Error::PeerNotConnected { peer: self.link.peer })
            }
            Err(error @ Error::PeerDied { .. }) => {
                self.failed = Some(error);
                Err(error)
            }
            other => other,
        }
    }

    fn usable(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(*error),
            None if self.finished => Err(Error::Finished),
            None => Ok(()),
        }
    }

    fn checked<T>(&mut self, op: impl FnOnce(&mut Producer<P::Memory>) -> Result<T, Violation>) -> Result<T> {
        op(&mut self.ring).map_err(|reason| self.violation(reason))
    }

    fn violation(&mut self, reason: Violation) -> Error {
        self.link.counters.violation(reason);
        let error = Error::PeerMisbehaved { peer: self.link.peer, reason };
        self.fail(error, CloseReason::Misbehaved);
        error
    }

    fn fail(&mut self, error: Error, reason: CloseReason) {
        self.failed = Some(error);
        self.ring.set_state(State::Closed(reason));
        // The peer is told if that is possible; this end is closed either way.
        let _ = self.link.notify(&mut self.stats);
    }

    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
    }
}

impl<P: Platform> Drop for Writer<P> {
    fn drop(&mut self) {
        if !self.finished && self.failed.is_none() {
            self.abandon(CloseReason::Dropped);
        }
    }
}

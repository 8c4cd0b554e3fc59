//! The writing end of a channel.
//!
//! A message up to [`Producer::max_payload`] bytes is one record in the ring. With a pool, a longer one up to
//! [`Producer::max_pooled`] bytes is one descriptor. One that is longer still is a chain: a `First` record with the
//! total length, then `Fragment` records, each as long as it can be but for the last. The receiver's limit is asked
//! for before the first byte of a chain is written, so a message that is too long fails here and costs nothing there.
//!
//! If the deadline passes in the middle of a chain, the rest of it is not sent: an `Abort` record takes its
//! place, at the latest before the next message, and the reader drops what it has.

use alloc::sync::Arc;
use core::time::Duration;

use crate::error::{CloseReason, Error, Result, Violation};
use crate::loan::{Loan, Suspended};
use crate::platform::Platform;
use crate::platform::{Event, PortStatus};
use crate::record::Kind;
use crate::ring::{Producer, RingMemory};
use crate::setup::{State, control};
use crate::stats::Stats;
use crate::wait::{Deadline, Link, Phase, Spin, Step, Waiter};
use crate::{DomId, GrantRef};

mod life;
mod pieces;

/// Writes messages to a peer.
///
/// Dropping it without [`close`](Self::close) tells the reader that the stream is incomplete: it reads what is
/// there and then gets [`Error::PeerClosed`].
#[derive(Debug)]
pub struct Writer<P: Platform> {
    // The pages are given back before the port is closed: the kernel may still have to send an event for them.
    pub(crate) ring: Producer<P::Memory>,
    pub(crate) link: Link<P>,
    waiter: Waiter,
    stats: Stats,
    gref: GrantRef,
    nonce: u64,
    epoch: u32,
    corked: bool,
    /// Longest message that the reader takes, once it has connected.
    reader_takes: Option<u64>,
    abort_owed: bool,
    finished: bool,
    failed: Option<Error>,
    /// A loan that was put aside.
    pub(crate) suspended: Option<Suspended>,
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
            epoch: 0,
            corked: false,
            reader_takes: None,
            abort_owed: false,
            finished: false,
            failed: None,
            suspended: None,
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
    #[inline]
    pub(crate) fn send_with(
        &mut self,
        message: &[u8],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.usable()?;
        // Before and not after: what has been published may have been read and answered already.
        self.reader_gone()?;
        if !self.put_small(message)? {
            self.put(message, deadline, before_sleep)?;
        }
        self.flush_unless_corked()
    }

    /// Sends messages, with one fence and at most one event for all of them if there is room for them.
    ///
    /// # Errors
    /// As for [`send_by`](Self::send_by). The messages before the one that failed have been sent.
    pub fn send_batch(&mut self, messages: &[&[u8]]) -> Result<()> {
        self.send_batch_by(messages, Deadline::NEVER)
    }

    /// As [`send_batch`](Self::send_batch), until the deadline.
    ///
    /// # Errors
    /// As for [`send_by`](Self::send_by). The messages before the one that failed have been sent.
    pub fn send_batch_by(&mut self, messages: &[&[u8]], deadline: Deadline) -> Result<()> {
        self.send_batch_with(messages, deadline, &mut || Ok(()))
    }

    pub(crate) fn send_batch_with(
        &mut self,
        messages: &[&[u8]],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        self.usable()?;
        self.reader_gone()?;
        let sent = messages.iter().try_for_each(|message| match self.put_small(message)? {
            true => Ok(()),
            false => self.put(message, deadline, before_sleep),
        });
        self.flush_unless_corked()?;
        sent
    }

    /// Sends as many messages as there is room for now: how many.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send) of the first one that failed for another reason than the lack of room.
    pub fn try_send_batch(&mut self, messages: &[&[u8]]) -> Result<usize> {
        self.usable()?;
        self.reader_gone()?;
        let mut sent = Ok(messages.len());
        for (index, message) in messages.iter().enumerate() {
            match self.try_put(message) {
                Ok(()) => {}
                Err(Error::WouldBlock) => sent = Ok(index),
                Err(error) => sent = Err(error),
            }
            if sent != Ok(messages.len()) {
                break;
            }
        }
        self.flush_unless_corked()?;
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
        self.try_put(message)?;
        self.flush_unless_corked()
    }

    /// From now on messages are published, but a reader that sleeps is not woken, until [`flush`](Self::flush),
    /// [`uncork`](Self::uncork), or a send that has to wait for room. For programs that know better than a send when
    /// the reader should start.
    pub fn cork(&mut self) {
        self.corked = true;
    }

    /// Ends [`cork`](Self::cork), and wakes the reader if it sleeps and there is something new.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`] or the system's.
    pub fn uncork(&mut self) -> Result<()> {
        self.corked = false;
        self.flush()
    }

    /// Wakes the reader if it sleeps and there is something new.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`] or the system's.
    #[inline]
    pub fn flush(&mut self) -> Result<()> {
        self.flush_here()
    }

    #[inline(always)]
    fn flush_here(&mut self) -> Result<()> {
        if self.checked(|ring| ring.flush())? { self.tell() } else { Ok(()) }
    }

    /// The peer sleeps.
    #[cold]
    fn tell(&mut self) -> Result<()> {
        self.link.notify(&mut self.stats)
    }

    #[inline(always)]
    fn flush_unless_corked(&mut self) -> Result<()> {
        if self.corked { Ok(()) } else { self.flush_here() }
    }

    /// Room in the ring for a message of at most `len` bytes, which is not more than
    /// [`max_inline`](Self::max_inline): waits for it. The message is written there directly, and sent by
    /// [`Loan::commit`].
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn reserve(&mut self, len: usize) -> Result<Loan<'_, P>> {
        self.reserve_by(len, Deadline::NEVER)
    }

    /// As [`reserve`](Self::reserve), until the deadline.
    ///
    /// # Errors
    /// As for [`send_by`](Self::send_by).
    pub fn reserve_by(&mut self, len: usize, deadline: Deadline) -> Result<Loan<'_, P>> {
        self.loan(len, Some(deadline))
    }

    /// As [`reserve`](Self::reserve), without waiting.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send).
    pub fn try_reserve(&mut self, len: usize) -> Result<Loan<'_, P>> {
        self.loan(len, None)
    }

    fn loan(&mut self, len: usize, deadline: Option<Deadline>) -> Result<Loan<'_, P>> {
        self.usable()?;
        self.reader_gone()?;
        let max = self.ring.max_payload();
        if len > max {
            return Err(Error::MessageTooLarge { len: len as u64, max: max as u64 });
        }
        let mut place = None;
        let mut find = |writer: &mut Self| -> Result<bool> {
            if writer.settle_abort()? {
                place = writer.checked(|ring| ring.reserve(Kind::Data, None, len, false))?;
            }
            Ok(place.is_some())
        };
        if !find(self)? {
            self.flush()?;
            let deadline = deadline.ok_or(Error::WouldBlock)?;
            self.wait(deadline, &mut || Ok(()), &mut |writer, phase| {
                if phase == Phase::Arm {
                    writer.ring.arm(len);
                }
                if find(writer)? { Ok(Step::Done) } else { writer.no_room(phase) }
            })?;
        }
        place.map(|place| Loan::new(self, place)).ok_or(Error::WouldBlock)
    }

    /// Publishes a loan.
    pub(crate) fn commit(&mut self, place: crate::ring::Place, len: usize) -> Result<()> {
        self.ring.commit(place, len);
        self.count(len);
        self.flush_unless_corked()
    }

    /// For a program that waits by itself ([`AsFd`](std::os::fd::AsFd)): asks for an event when a message of `len`
    /// bytes has room. `true`: it has room now, or the channel has ended; do not wait, but try again.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn arm(&mut self, len: usize) -> Result<bool> {
        if self.usable().is_err() {
            return Ok(true);
        }
        self.flush()?;
        let chain = self.chain_need(len);
        match chain {
            Some((bytes, 0, _)) => self.ring.arm_space(bytes),
            Some(_) => self.ring.arm_any(),
            None => self.arm_for(len),
        }
        let (pooled, _) = self.cut(len);
        let fits = self.checked(|ring| {
            let fits = match chain {
                Some((bytes, pages, _)) => ring.has_space(bytes, pages)?,
                None => ring.reserve(Kind::Data, None, len, pooled)?.is_some(),
            };
            Ok(fits || (pooled && ring.moved()))
        })?;
        // A chain waits for the reader to connect, too; that sends an event.
        Ok(self.reader_gone().is_err() || (fits && (chain.is_none() || self.reader_takes.is_some())))
    }

    /// As [`arm`](Self::arm), for the next piece of a message of which `sent` bytes have been sent.
    #[cfg(all(feature = "tokio", not(any(casemate, loom))))]
    pub(crate) fn arm_part(&mut self, len: usize, sent: usize) -> Result<bool> {
        self.flush()?;
        let (pooled, piece) = self.cut(len);
        self.arm_for(if len <= piece { len } else { len - sent });
        let next = (len - sent).min(piece.saturating_sub(8));
        let fits =
            self.checked(|ring| Ok(ring.reserve(Kind::Data, None, next, pooled)?.is_some() || ring.moved()))?;
        let waits = len > piece && self.reader_takes.is_none();
        Ok(self.reader_gone().is_err() || (fits && !waits) || (waits && self.reader_takes.is_some()))
    }

    /// Looks whether the peer is still there, which a program that waits by itself has to do from time to time.
    ///
    /// # Errors
    /// [`Error::PeerDied`] if not, or how the channel ended before.
    pub fn check_peer(&mut self) -> Result<()> {
        self.usable()?;
        self.reader_gone()?;
        if self.reader_takes.is_some() && self.link.event.status()? == PortStatus::Unbound {
            // It may have said something before it went.
            self.reader_gone()?;
            self.link.counters.peer_died();
            let error = Error::PeerDied { peer: self.link.peer };
            self.failed = Some(error);
            return Err(error);
        }
        Ok(())
    }

    /// Fails if the reader is gone, and notes when it has connected.
    #[inline]
    fn reader_gone(&mut self) -> Result<()> {
        let as_before = self.reader_takes.is_some() && self.ring.reader_still_open();
        if as_before { Ok(()) } else { self.reader_news() }
    }

    #[cold]
    fn reader_news(&mut self) -> Result<()> {
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

    #[inline]
    fn usable(&self) -> Result<()> {
        if self.failed.is_none() && !self.finished { Ok(()) } else { self.why_unusable() }
    }

    #[cold]
    fn why_unusable(&self) -> Result<()> {
        match &self.failed {
            // What it had to say was said; that the reader has left since is no news to who says more.
            Some(Error::PeerClosed { .. }) if self.finished => Err(Error::Finished),
            Some(error) => Err(*error),
            None if self.finished => Err(Error::Finished),
            None => Ok(()),
        }
    }

    #[inline]
    fn checked<T>(&mut self, op: impl FnOnce(&mut Producer<P::Memory>) -> Result<T, Violation>) -> Result<T> {
        op(&mut self.ring).map_err(|reason| self.violation(reason))
    }

    #[cold]
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

    #[inline]
    fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
    }
}

/// As for [`Reader`](crate::Reader), with [`Writer::arm`] and [`Writer::take_event`]. The two ends of a
/// channel have the same descriptor.
#[cfg(feature = "std")]
impl<P: Platform> std::os::fd::AsFd for Writer<P>
where
    P::Event: std::os::fd::AsFd,
{
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.link.event.as_fd()
    }
}

impl<P: Platform> Writer<P> {
    /// Takes the event that made the descriptor readable: whether there was one.
    ///
    /// # Errors
    /// The system's.
    pub fn take_event(&mut self) -> Result<bool> {
        self.link.take_event(&mut self.stats)
    }
}

impl<P: Platform> Drop for Writer<P> {
    fn drop(&mut self) {
        if !self.finished && self.failed.is_none() {
            self.abandon(CloseReason::Dropped);
        }
        retire(&self.link.platform, self.ring.shared());
    }
}

/// Hands a ring to the platform if nobody but the caller has it. Two who let go of it at the same moment may each leave it
/// to the other: then its pages are given back in the ordinary way.
pub(crate) fn retire<P: Platform>(platform: &P, ring: &Arc<RingMemory<P::Memory>>) {
    if Arc::strong_count(ring) == 1 {
        platform.retire(ring);
    }
}

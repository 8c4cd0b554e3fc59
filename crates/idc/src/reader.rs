//! The reading end of a channel.
//!
//! Everything is copied out of the ring before anybody looks at it. A long message is put together from its
//! fragments; memory for it grows with what has really arrived, never with what the peer only announces, and
//! stops at the limit that was published when this end connected.

use alloc::vec::Vec;
use core::time::Duration;

use self::take::{Chain, Found, Sink};
use crate::DomId;
use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::{Event, Platform, PortStatus};
use crate::record::Kind;
use crate::ring::Consumer;
use crate::setup::State;
use crate::stats::Stats;
use crate::wait::{Deadline, Link, Phase, Spin, Step, Waiter};

mod take;

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
    /// A message that has been looked at, and not been received.
    peeked: Option<Vec<u8>>,
    ended: bool,
    failed: Option<Error>,
}

impl<P: Platform> Reader<P> {
    pub(crate) fn new(ring: Consumer<P::Memory>, link: Link<P>, max_message: u64, spin: Spin) -> Reader<P> {
        let waiter = Waiter::new(spin, link.platform.can_spin());
        let stats = Stats::default();
        Reader {
            ring,
            link,
            waiter,
            stats,
            max_message,
            chain: None,
            peeked: None,
            ended: false,
            failed: None,
        }
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
        self.recv_buf(buf, Some(deadline))
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
        self.recv_buf(buf, None)
    }

    /// Waits for the next message and shows a private copy of it; it can still be received. `None` is the end of the
    /// stream.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn peek(&mut self) -> Result<Option<&[u8]>> {
        self.peek_by(Deadline::NEVER)
    }

    /// As [`peek`](Self::peek), until the deadline.
    ///
    /// # Errors
    /// As for [`recv_by`](Self::recv_by).
    pub fn peek_by(&mut self, deadline: Deadline) -> Result<Option<&[u8]>> {
        self.look(Some(deadline))
    }

    /// As [`peek`](Self::peek), without waiting.
    ///
    /// # Errors
    /// As for [`try_recv`](Self::try_recv).
    pub fn try_peek(&mut self) -> Result<Option<&[u8]>> {
        self.look(None)
    }

    /// What is shown is copied out of the ring once and kept: the peer cannot change it between a look and the
    /// receiving.
    fn look(&mut self, deadline: Option<Deadline>) -> Result<Option<&[u8]>> {
        if self.peeked.is_none() {
            let mut message = Vec::new();
            let len = self.recv_to(&mut Sink::Vec(&mut message), deadline)?;
            self.peeked = len.map(|_| message);
        }
        Ok(self.peeked.as_deref())
    }

    /// Waits for a message and appends it to `messages`, and as many more as are there already, up to `most`: how
    /// many. 0 is the end of the stream.
    ///
    /// # Errors
    /// As for [`recv_by`](Self::recv_by). What has been appended has been received.
    pub fn recv_batch(
        &mut self,
        messages: &mut Vec<Vec<u8>>,
        most: usize,
        deadline: Deadline,
    ) -> Result<usize> {
        let mut count = 0;
        while count < most {
            let next = if count == 0 { self.recv_by(deadline) } else { self.try_recv() };
            match next {
                Ok(Some(message)) => messages.push(message),
                // The next call says so again.
                Ok(None) => break,
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
            count += 1;
        }
        Ok(count)
    }

    /// For a program that waits by itself ([`AsFd`](std::os::fd::AsFd)): gives back what has been consumed, and asks
    /// for an event when there is something to receive. `true`: there is something now; do not wait, but receive.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`] or the system's.
    pub fn arm(&mut self) -> Result<bool> {
        if self.failed.is_some() || self.ended || self.peeked.is_some() {
            return Ok(true);
        }
        self.give_back()?;
        self.ring.arm();
        Ok(self.checked(Consumer::peek)?.is_some() || self.writer_gone()?.is_some())
    }

    /// Looks whether the peer is still there, which a program that waits by itself has to do from time to time.
    ///
    /// # Errors
    /// [`Error::PeerDied`] if not, and nothing that it has sent is left; or how the channel ended before.
    pub fn check_peer(&mut self) -> Result<()> {
        self.usable()?;
        if self.ended || self.peeked.is_some() || self.link.event.status()? != PortStatus::Unbound {
            return Ok(());
        }
        if self.checked(Consumer::peek)?.is_none() && self.writer_gone()?.is_none() {
            self.link.counters.peer_died();
            let error = Error::PeerDied { peer: self.link.peer };
            self.failed = Some(error);
            return Err(error);
        }
        Ok(())
    }

    /// Length of the next message, if it (or the beginning of a long one) is there already.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`].
    pub fn peek_len(&mut self) -> Result<Option<usize>> {
        if let Some(message) = &self.peeked {
            return Ok(Some(message.len()));
        }
        self.usable()?;
        if let Some(chain) = &self.chain {
            return Ok(Some(chain.total));
        }
        let Some(record) = self.checked(Consumer::peek)? else { return Ok(None) };
        match record.kind {
            // Who makes room for as much as this says must be able to.
            Kind::Data if record.len as u64 > self.max_message => {
                Err(self.violation(Violation::MessageTooLarge))
            }
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
    #[inline]
    fn recv_buf(&mut self, buf: &mut [u8], deadline: Option<Deadline>) -> Result<Option<usize>> {
        // The usual case: a message in one piece, and it is there.
        let plain = self.failed.is_none() && !self.ended && self.chain.is_none() && self.peeked.is_none();
        if plain {
            // A message that is longer than it may be does not fit, and is refused below.
            let most = (buf.len() as u64).min(self.max_message) as usize;
            let taken = self.checked(|ring| ring.take(buf.get_mut(..most).unwrap_or_default()))?;
            if let Some(len) = taken {
                self.give_back_if_due()?;
                self.count(len);
                return Ok(taken);
            }
        }
        self.recv_to(&mut Sink::Buf(buf), deadline)
    }

    /// `deadline` of `None`: do not wait.
    fn recv_to(&mut self, sink: &mut Sink<'_>, deadline: Option<Deadline>) -> Result<Option<usize>> {
        self.usable()?;
        if let Some(message) = self.peeked.take() {
            if let Err(error) = sink.check(message.len()) {
                self.peeked = Some(message);
                return Err(error);
            }
            let len = message.len();
            match sink {
                Sink::Vec(target) => **target = message,
                Sink::Buf(buf) => buf.iter_mut().zip(message).for_each(|(to, from)| *to = from),
            }
            return Ok(Some(len));
        }
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
            Found::Message(len) => Ok(Some(len)),
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
        waiter.let_peer_get_ahead(self.stats.messages, || link.platform.now());
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

    #[inline]
    fn pop(&mut self) -> Result<()> {
        self.ring.pop();
        self.give_back_if_due()
    }

    #[inline]
    fn give_back_if_due(&mut self) -> Result<()> {
        if self.ring.publish_due() {
            self.give_back()?;
        }
        Ok(())
    }

    #[inline]
    fn usable(&self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    #[inline]
    fn checked<T>(&mut self, op: impl FnOnce(&mut Consumer<P::Memory>) -> Result<T, Violation>) -> Result<T> {
        op(&mut self.ring).map_err(|reason| self.violation(reason))
    }

    #[cold]
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

/// Readable when there may be something to receive, or when the peer may be gone. The way to wait for it together
/// with other descriptors:
///
/// 1. [`Reader::arm`] (and [`Writer::arm`](crate::Writer::arm) if there is something to send); if it returns `true`,
///    receive without waiting.
/// 2. Poll the descriptor for input, for 50 ms at most.
/// 3. If it is readable, [`Reader::take_event`]; if not, [`Reader::check_peer`].
/// 4. [`Reader::try_recv`] until [`Error::WouldBlock`]; back to 1.
#[cfg(feature = "std")]
impl<P: Platform> std::os::fd::AsFd for Reader<P>
where
    P::Event: std::os::fd::AsFd,
{
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.link.event.as_fd()
    }
}

impl<P: Platform> Reader<P> {
    /// Takes the event that made the descriptor readable: whether there was one.
    ///
    /// # Errors
    /// The system's.
    pub fn take_event(&mut self) -> Result<bool> {
        self.link.take_event(&mut self.stats)
    }
}

impl<P: Platform> Drop for Reader<P> {
    fn drop(&mut self) {
        if self.failed.is_none() {
            // The writer may wait for its last message to be taken. A bad index of its is its own affair now.
            let _ = self.ring.publish();
        }
        self.abandon(CloseReason::Dropped);
    }
}

//! The writing end of a channel.
//!
//! A message up to [`Producer::max_payload`] bytes is one record in the ring. With a pool, a longer one up to
//! [`Producer::max_pooled`] bytes is one descriptor. One that is longer still is a chain: a `First` record with the
//! total length, then `Fragment` records, each as long as it can be but for the last. The receiver's limit is asked
//! for before the first byte of a chain is written, so a message that is too long fails here and costs nothing there.
//!
//! If the deadline passes in the middle of a chain, the rest of it is not sent: an `Abort` record takes its
//! place, at the latest before the next message, and the reader drops what it has.

use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::error::{CloseReason, Error, Result, Violation};
use crate::loan::{Loan, Suspended};
use crate::platform::Platform;
use crate::platform::{Event, PortStatus};
use crate::record::Kind;
use crate::ring::Producer;
use crate::setup::{self, PAGE_SIZE, State, control};
use crate::shm::Memory;
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
        if self.checked(|ring| ring.flush())? {
            self.link.notify(&mut self.stats)?;
        }
        Ok(())
    }

    #[inline]
    fn flush_unless_corked(&mut self) -> Result<()> {
        if self.corked { Ok(()) } else { self.flush() }
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

    /// Makes the ring ready for another reader in the same domain, after the last one has closed or died: nothing is
    /// allocated, the grant reference stays the same, and the epoch of the setup page goes up. Not for the ring that
    /// a service answered with.
    ///
    /// What was in the ring is lost. An old reader that is still there after all finds an empty ring.
    ///
    /// # Errors
    /// [`Error::AlreadyConnected`] while a reader is bound to the channel: see [`renew_by`](Self::renew_by).
    /// [`Error::Finished`] for the ring of an
    /// answer.
    pub fn renew(&mut self) -> Result<()> {
        let setup = &self.ring.memory().writer;
        let word = setup.load(setup::PORT, Ordering::Relaxed);
        if word as u32 == 0 {
            return Err(Error::Finished);
        }
        if self.link.event.status()? == PortStatus::Bound {
            return Err(Error::AlreadyConnected { peer: self.link.peer, gref: self.gref });
        }
        self.link.event.reset();
        self.ring.reset();
        self.epoch = self.epoch.wrapping_add(1);
        self.nonce = self.link.platform.nonce();
        let setup = &self.ring.memory().writer;
        setup.store(setup::NONCE, self.nonce, Ordering::Relaxed);
        let version = u64::from(setup::VERSION) | u64::from(self.epoch) << 32;
        setup.store(setup::VERSION_AND_EPOCH, version, Ordering::Relaxed);
        (self.reader_takes, self.failed, self.finished) = (None, None, false);
        (self.abort_owed, self.corked, self.suspended) = (false, false, None);
        self.ring.set_state(State::Open);
        setup_done(&self.ring.memory().writer);
        Ok(())
    }

    /// As [`renew`](Self::renew); waits until the deadline for the last reader to be gone altogether. One that has
    /// said that it closes lets go of its port a little later, and that sends no event.
    ///
    /// # Errors
    /// As for [`renew`](Self::renew).
    pub fn renew_by(&mut self, deadline: Deadline) -> Result<()> {
        const STEP: u64 = 1_000_000;
        loop {
            let now = self.link.platform.now();
            match self.renew() {
                Err(Error::AlreadyConnected { .. }) if now < deadline.0 => {
                    self.link.platform.sleep_until(now.saturating_add(STEP).min(deadline.0));
                }
                other => return other,
            }
        }
    }

    /// How often [`renew`](Self::renew) has been called.
    pub fn epoch(&self) -> u32 {
        self.epoch
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

    /// Whether something can be sent at all.
    #[cfg(all(feature = "tokio", not(any(casemate, loom))))]
    pub(crate) fn check_open(&mut self) -> Result<()> {
        self.usable()?;
        self.reader_gone()
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

    /// Whether the reader has left a ring of its own for us.
    pub(crate) fn has_reply(&self) -> bool {
        self.reader_word(control::NONCE) == self.nonce && self.reader_word(control::REPLY_REF) != 0
    }

    /// Reports that what the reader left for us is wrong.
    pub(crate) fn blame(&mut self, reason: Violation) -> Error {
        self.violation(reason)
    }

    /// The usual case: the message is one record in the ring, and there is room for it.
    #[inline]
    fn put_small(&mut self, message: &[u8]) -> Result<bool> {
        // Not in a domain, whose image is to be small.
        if cfg!(casemate) || self.abort_owed || message.len() > self.ring.max_payload() {
            return Ok(false);
        }
        let pushed = self.checked(|ring| ring.try_push(Kind::Data, None, message, false))?;
        if pushed {
            self.count(message.len());
        }
        Ok(pushed)
    }

    /// Whether a message of this length goes through the pool, and the longest piece of it.
    fn cut(&self, len: usize) -> (bool, usize) {
        let (inline, pooled) = (self.ring.max_payload(), self.ring.max_pooled());
        if len > inline && pooled > inline { (true, pooled) } else { (false, inline) }
    }

    /// Puts a message into the ring, whole or in pieces, and asks for events only when it has to wait.
    fn put(
        &mut self,
        message: &[u8],
        deadline: Deadline,
        before_sleep: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let mut sent = 0;
        let mut done = self.advance(message, &mut sent)?;
        if !done {
            self.flush()?;
            let result = self.wait(deadline, before_sleep, &mut |writer, phase| {
                if phase == Phase::Arm {
                    // All of it, or what is left of a chain.
                    writer.arm_for(message.len() - sent);
                }
                let before = sent;
                done = writer.advance(message, &mut sent)?;
                match done {
                    true => Ok(Step::Done),
                    false if sent == before => writer.no_room(phase),
                    false => {
                        writer.flush()?;
                        Ok(Step::Again)
                    }
                }
            });
            if let Err(error) = result {
                self.give_up(sent);
                return Err(error);
            }
        }
        Ok(())
    }

    /// A message will not be completed, of which so many bytes have been sent.
    pub(crate) fn give_up(&mut self, sent: usize) {
        self.abort_owed |= sent > 0 && self.failed.is_none();
    }

    fn arm_for(&mut self, len: usize) {
        let (pooled, piece) = self.cut(len);
        if pooled {
            self.ring.arm_any();
        } else {
            // The first piece of a chain has eight bytes more.
            self.ring.arm((len + 8).min(piece));
        }
    }

    /// Puts as much of a message into the ring as there is room for: whether it is complete. `sent` goes along.
    pub(crate) fn advance(&mut self, message: &[u8], sent: &mut usize) -> Result<bool> {
        if !self.settle_abort()? {
            return Ok(false);
        }
        let (pooled, piece) = self.cut(message.len());
        let len = message.len();
        if len <= piece {
            let done = self.checked(|ring| ring.try_push(Kind::Data, None, message, pooled))?;
            if done {
                *sent = len;
                self.count(len);
            }
            return Ok(done);
        }
        let Some(max) = self.reader_takes else {
            self.reader_gone()?;
            if self.reader_takes.is_none() {
                return Ok(false);
            }
            return self.advance(message, sent);
        };
        if len as u64 > max {
            return Err(Error::MessageTooLarge { len: len as u64, max });
        }
        while let Some(rest) = message.get(*sent..).filter(|rest| !rest.is_empty()) {
            let (kind, total, most) = match *sent {
                0 => (Kind::First, Some(len as u64), if pooled { piece } else { piece - 8 }),
                _ => (Kind::Fragment, None, piece),
            };
            let part = rest.get(..most).unwrap_or(rest);
            if !self.checked(|ring| ring.try_push(kind, total, part, pooled))? {
                return Ok(false);
            }
            *sent += part.len();
            // The reader may start on what is there already. One that is awake sees it without being told.
            if *sent < len && (pooled || self.ring.flush_due()) {
                self.flush()?;
            }
        }
        self.count(len);
        Ok(true)
    }

    /// What a message that is sent as a chain takes: at most so many bytes of the ring and pages of the pool; and how
    /// long one can be that fits. `None` for one that is not sent as a chain.
    fn chain_need(&self, len: usize) -> Option<(usize, usize, usize)> {
        let (pooled, piece) = self.cut(len);
        if len <= piece {
            return None;
        }
        // The first record has eight bytes more, and what is skipped at the end is less than a record.
        let pieces = (len + 8).div_ceil(piece) + 1;
        Some(if pooled {
            let pages = piece / PAGE_SIZE;
            let record = self.ring.record_room(16);
            let most = (self.ring.pool_capacity() / pages).min(self.ring.capacity() / record);
            ((pieces + 1) * record, pieces * pages, most.saturating_sub(2) * piece)
        } else {
            let record = self.ring.record_room(piece);
            let most = self.ring.capacity() / record;
            ((pieces + 1) * record, 0, (most.saturating_sub(2) * piece).saturating_sub(8))
        })
    }

    /// Puts a message into the ring if there is room for all of it.
    fn try_put(&mut self, message: &[u8]) -> Result<()> {
        if !self.settle_abort()? {
            return Err(Error::WouldBlock);
        }
        let len = message.len();
        if let Some((bytes, pages, max)) = self.chain_need(len) {
            let Some(takes) = self.reader_takes else { return Err(Error::WouldBlock) };
            let max = takes.min(max as u64);
            if len as u64 > max {
                return Err(Error::MessageTooLarge { len: len as u64, max });
            }
            if !self.checked(|ring| ring.has_space(bytes, pages))? {
                return Err(Error::WouldBlock);
            }
        }
        let mut sent = 0;
        if self.advance(message, &mut sent)? {
            return Ok(());
        }
        // There was room for all of it, so this does not happen for a chain.
        self.give_up(sent);
        Err(Error::WouldBlock)
    }

    /// There is no room: is there still somebody who will make some?
    fn no_room(&mut self, phase: Phase) -> Result<Step> {
        self.reader_gone()?;
        if phase == Phase::Arm && self.ring.moved() {
            // Something was given back since we asked for an event, but not enough: ask anew.
            return Ok(Step::Again);
        }
        Ok(Step::Wait { bound: self.reader_takes.is_some() })
    }

    /// Sends the `Abort` record that is owed, if there is room.
    fn settle_abort(&mut self) -> Result<bool> {
        if self.abort_owed {
            self.abort_owed = !self.checked(|ring| ring.try_push(Kind::Abort, None, &[], false))?;
        }
        Ok(!self.abort_owed)
    }

    /// Fails if the reader is gone, and notes when it has connected.
    #[inline]
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
        match &self.failed {
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

/// Everything in the setup page before anybody can be told of it.
fn setup_done<M: Memory>(setup: &M) {
    setup.fence();
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
    }
}

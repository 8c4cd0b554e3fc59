//! From one reader to the next: connecting, draining, the end, and beginning anew.

use core::sync::atomic::Ordering;

use super::Writer;
use crate::error::{CloseReason, Error, Result, Violation};
use crate::platform::{Event, Platform, PortStatus};
use crate::setup::{self, State, control};
use crate::shm::Memory;
use crate::wait::{Deadline, Phase, Step};

impl<P: Platform> Writer<P> {
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
            if let Err(gone) = writer.reader_gone() {
                // A reader that has taken everything may leave at once, also between the two looks. Its state was
                // loaded before this one, so what it took is seen now.
                let took_all =
                    matches!(gone, Error::PeerClosed { .. }) && writer.checked(|ring| ring.drained())?;
                return if took_all { Ok(Step::Done) } else { Err(gone) };
            }
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
}

/// Everything in the setup page before anybody can be told of it.
fn setup_done<M: Memory>(setup: &M) {
    setup.fence();
}

//! How a message goes into the ring: whole, through the pool, or in pieces.

use super::Writer;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::record::Kind;
use crate::setup::PAGE_SIZE;
use crate::wait::{Deadline, Phase, Step};

impl<P: Platform> Writer<P> {
    /// The usual case: the message is one record in the ring, and there is room for it. In images too, which are built
    /// for size, this and the flush are part of the function that sends: no calls for a short message
    /// (`checked` would be one).
    #[inline(always)]
    pub(super) fn put_small(&mut self, message: &[u8]) -> Result<bool> {
        if self.abort_owed || message.len() > self.ring.max_payload() {
            return Ok(false);
        }
        let pushed = self.ring.push(message).map_err(|reason| self.violation(reason))?;
        if pushed {
            self.count(message.len());
        }
        Ok(pushed)
    }

    /// Whether a message of this length goes through the pool, and the longest piece of it.
    pub(super) fn cut(&self, len: usize) -> (bool, usize) {
        let (inline, pooled) = (self.ring.max_payload(), self.ring.max_pooled());
        if len > inline && pooled > inline { (true, pooled) } else { (false, inline) }
    }

    /// Puts a message into the ring, whole or in pieces, and asks for events only when it has to wait.
    pub(super) fn put(
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

    pub(super) fn arm_for(&mut self, len: usize) {
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
    pub(super) fn chain_need(&self, len: usize) -> Option<(usize, usize, usize)> {
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
    pub(super) fn try_put(&mut self, message: &[u8]) -> Result<()> {
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
    pub(super) fn no_room(&mut self, phase: Phase) -> Result<Step> {
        self.reader_gone()?;
        if phase == Phase::Arm && self.ring.moved() {
            // Something was given back since we asked for an event, but not enough: ask anew.
            return Ok(Step::Again);
        }
        Ok(Step::Wait { bound: self.reader_takes.is_some() })
    }

    /// Sends the `Abort` record that is owed, if there is room.
    pub(super) fn settle_abort(&mut self) -> Result<bool> {
        if self.abort_owed {
            self.abort_owed = !self.checked(|ring| ring.try_push(Kind::Abort, None, &[], false))?;
        }
        Ok(!self.abort_owed)
    }
}

//! Taking records out of the ring and putting messages together from them.

use alloc::vec::Vec;

use super::Reader;
use crate::error::{Error, Result, Violation};
use crate::platform::Platform;
use crate::record::{Kind, Record};
use crate::ring::Consumer;

/// Bytes that a piece of a long message has at least, in any geometry, but for the last one: 31 in the smallest slot.
const PIECE_MIN: usize = 16;

/// Records that one call takes before it looks at the clock again.
const BURST: usize = 4096;

/// A long message of which some has arrived.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) total: usize,
    pub(super) got: usize,
    /// Records so far.
    pieces: usize,
    /// What arrived during calls that did not complete the message; all of it, or (while a call copies into
    /// the caller's buffer) nothing.
    kept: Vec<u8>,
}

/// Where a message goes.
pub(super) enum Sink<'a> {
    Vec(&'a mut Vec<u8>),
    Buf(&'a mut [u8]),
}

/// What [`Reader::step`] found.
pub(super) enum Found {
    /// A message of so many bytes is in the sink.
    Message(usize),
    /// A part of one, or a record without contents.
    Part,
    Nothing,
    End,
}

impl<P: Platform> Reader<P> {
    /// Takes records while a long message is under way, but not for ever: they may be of one byte each. `Nothing`
    /// only if nothing was taken: whoever has armed before this and took something must arm anew before he sleeps,
    /// since the event for the position that he armed may have been sent, or passed over, already.
    pub(super) fn steps(&mut self, sink: &mut Sink<'_>) -> Result<Found> {
        for taken in 0..BURST {
            match self.step(sink)? {
                Found::Part if self.chain.is_some() => {}
                Found::Nothing if taken > 0 => break,
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
                self.take_fragment(record, if record.pooled { 0 } else { 8 }, sink)
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

    #[inline]
    pub(super) fn take_message(&mut self, record: Record, sink: &mut Sink<'_>) -> Result<usize> {
        if record.len as u64 > self.max_message {
            return Err(self.violation(Violation::MessageTooLarge));
        }
        sink.check(record.len)?;
        self.ring.read(0, sink.part(0, record.len)?);
        self.pop()?;
        self.count(record.len);
        Ok(record.len)
    }

    #[inline]
    pub(super) fn count(&mut self, len: usize) {
        self.stats.messages += 1;
        self.stats.bytes += len as u64;
    }

    /// Checks the first record of a long message and notes its length. The record stays where it is.
    pub(super) fn begin_chain(&mut self, record: Record) -> Result<usize> {
        let prefix = if record.pooled { 0 } else { 8 };
        if record.len <= prefix {
            return Err(self.violation(Violation::Fragment));
        }
        let total = self.ring.first_word();
        if total > self.max_message {
            return Err(self.violation(Violation::MessageTooLarge));
        }
        // A message that fits into its first record is no chain. `total` is at most `max_message`, a `usize`.
        let total = total as usize;
        if total <= record.len - prefix {
            return Err(self.violation(Violation::Fragment));
        }
        self.chain = Some(Chain { total, got: 0, pieces: 0, kept: Vec::new() });
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
        chain.pieces += 1;
        if chain.pieces > total / PIECE_MIN + 2 {
            return Err(self.violation(Violation::FragmentCount));
        }
        self.ring.read(skip, sink.part(start, len)?);
        chain.got = end;
        if end == total {
            self.chain = None;
        }
        self.pop()?;
        if end == total {
            self.count(total);
        }
        Ok(if end == total { Found::Message(total) } else { Found::Part })
    }
}

/// Parts of a message across calls.
impl<P: Platform> Reader<P> {
    /// A call begins while a long message is under way: hand over what an earlier call kept.
    pub(super) fn resume_chain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
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
    pub(super) fn keep_chain(&mut self, sink: &mut Sink<'_>) {
        let Some(chain) = &mut self.chain else { return };
        match sink {
            Sink::Vec(message) => chain.kept = core::mem::take(*message),
            Sink::Buf(buf) => chain.kept.extend_from_slice(buf.get(..chain.got).unwrap_or(&[])),
        }
    }
}

impl Sink<'_> {
    /// Whether a message of this length fits.
    pub(super) fn check(&self, needed: usize) -> Result<()> {
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

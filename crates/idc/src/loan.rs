//! A message that is written where the reader will find it.
//!
//! The room belongs to the reader's view of memory, so there is no slice of it: bytes are appended by copying, each
//! once, and nothing can be read back. Bytes that do not fill a word wait in private memory.

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::ring::Place;
use crate::writer::Writer;

/// Room in a ring for one message; see [`Writer::reserve`]. Dropped without [`commit`](Self::commit), it was never
/// there.
#[derive(Debug)]
pub struct Loan<'a, P: Platform> {
    writer: &'a mut Writer<P>,
    place: Place,
    /// Bytes appended so far; those of the last, incomplete word are in `word`.
    len: usize,
    word: [u8; 8],
}

/// A loan without its writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspended {
    /// Where the writer was.
    at: u64,
    place: Place,
    len: usize,
    word: [u8; 8],
}

impl<P: Platform> Writer<P> {
    /// The loan that was put aside ([`Loan::suspend`]); `None` if there is none, or if something has been sent since
    /// then, whose place it had.
    pub fn resume(&mut self) -> Option<Loan<'_, P>> {
        let Suspended { at, place, len, word } = self.suspended.take()?;
        (at == self.ring.position()).then_some(Loan { writer: self, place, len, word })
    }
}

impl<'a, P: Platform> Loan<'a, P> {
    pub(crate) fn new(writer: &'a mut Writer<P>, place: Place) -> Loan<'a, P> {
        Loan { writer, place, len: 0, word: [0; 8] }
    }

    /// Bytes that have been appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that can still be appended.
    pub fn room(&self) -> usize {
        self.place.len() - self.len
    }

    /// Appends bytes to the message.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`] if there is not enough room; nothing has been appended.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() > self.room() {
            let (len, max) = (self.len + bytes.len(), self.place.len());
            return Err(Error::MessageTooLarge { len: len as u64, max: max as u64 });
        }
        let held = self.len % 8;
        let (head, rest) = bytes.split_at(if held == 0 { 0 } else { bytes.len().min(8 - held) });
        for (to, from) in self.word.iter_mut().skip(held).zip(head) {
            *to = *from;
        }
        self.len += head.len();
        if held != 0 && self.len.is_multiple_of(8) {
            self.writer.ring.fill(&self.place, self.len - 8, &self.word);
        }
        if !rest.is_empty() {
            let (whole, tail) = rest.split_at(rest.len() / 8 * 8);
            self.writer.ring.fill(&self.place, self.len, whole);
            for (to, from) in self.word.iter_mut().zip(tail) {
                *to = *from;
            }
            self.len += rest.len();
        }
        Ok(())
    }

    /// Puts the loan aside: [`Writer::resume`] gives it back, unless something else is sent in between. For languages
    /// that cannot hold a borrow.
    pub fn suspend(self) {
        let at = self.writer.ring.position();
        self.writer.suspended = Some(Suspended { at, place: self.place, len: self.len, word: self.word });
    }

    /// Sends what has been appended.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaved`] or the system's.
    pub fn commit(self) -> Result<()> {
        let held = self.len % 8;
        if let Some(bytes) = self.word.get(..held).filter(|bytes| !bytes.is_empty()) {
            self.writer.ring.fill(&self.place, self.len - held, bytes);
        }
        self.writer.commit(self.place, self.len)
    }
}

//! Record headers of the data ring.
//!
//! A record is one 64-bit little-endian header and its payload, padded with zeros to a multiple of eight
//! bytes. The header:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | bytes of payload, without the padding |
//! | 32..40 | [`Kind`], never 0 |
//! | 40..48 | flags, zero in this version |
//! | 48..64 | zero |
//!
//! A header of zero means *not yet written*. Type 6 is set aside for descriptors of pool pages.

use crate::error::Violation;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

/// Type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A whole message.
    Data = 1,
    /// Nothing; fills the ring up to its end.
    Filler = 2,
    /// Beginning of a long message: eight bytes with its total length, then its first bytes.
    First = 3,
    /// More bytes of a long message; the one that completes the total length is the last.
    Fragment = 4,
    /// The sender gave the long message up; what came of it is to be dropped. No payload.
    Abort = 5,
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        [Kind::Data, Kind::Filler, Kind::First, Kind::Fragment, Kind::Abort]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A header that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its type.
    pub kind: Kind,
    /// Bytes of payload.
    pub len: usize,
}

impl Record {
    /// Checks a header that was loaded once. `room` is the number of bytes between the header and the end of
    /// the ring.
    ///
    /// # Errors
    /// [`Violation::RecordHeader`] or [`Violation::RecordLength`].
    pub fn parse(word: u64, room: usize) -> Result<Record, Violation> {
        let [l0, l1, l2, l3, kind, flags, r0, r1] = word.to_le_bytes();
        if (flags, r0, r1) != (0, 0, 0) {
            return Err(Violation::RecordHeader);
        }
        let kind = Kind::from_number(kind).ok_or(Violation::RecordHeader)?;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > room {
            return Err(Violation::RecordLength);
        }
        Ok(Record { kind, len })
    }

    /// The header as it is stored. `len` is below 2^32: a ring has at most a megabyte.
    pub fn encode(self) -> u64 {
        self.len as u64 | (self.kind as u64) << 32
    }

    /// Bytes that the record takes in the ring.
    pub fn span(self) -> usize {
        HEADER_LEN + self.len.next_multiple_of(8)
    }
}

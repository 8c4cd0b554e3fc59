//! Record headers of the data ring.
//!
//! A record is one 64-bit little-endian header and its payload, padded with zeros to a multiple of eight
//! bytes. The header:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..32 | bytes of payload, without the padding |
//! | 32..40 | [`Kind`], never 0 |
//! | 40 | 1: the payload is in pool pages, and this record is a descriptor |
//! | 41..64 | zero |
//!
//! A header of zero means *not yet written*.
//!
//! # Descriptors
//! With bit 40 the length is that of the payload in the pool. In the place of the payload the record has the number
//! of the first pool page (a word, behind the total length if it is a [`Kind::First`]). The payload takes whole
//! pages, one behind the other, in the order of the pool: see [`crate::ring`].

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
    /// The payload is in the pool.
    pub pooled: bool,
}

const POOLED: u8 = 1;

impl Record {
    /// A record with its payload in the ring.
    pub const fn new(kind: Kind, len: usize) -> Record {
        Record { kind, len, pooled: false }
    }

    /// Reads a header that was loaded once as that of a whole message in the ring: its length, if it is one. Its
    /// length has not been checked.
    #[inline]
    pub fn data_len(word: u64) -> Option<usize> {
        (word >> 32 == Kind::Data as u64).then_some(word as u32 as usize)
    }

    /// Checks a header that was loaded once. `room` is the number of bytes that the record may take behind its
    /// header, and `pool` the number of bytes in the pool.
    ///
    /// # Errors
    /// [`Violation::RecordHeader`] or [`Violation::RecordLength`].
    pub fn parse(word: u64, room: usize, pool: usize) -> Result<Record, Violation> {
        let [l0, l1, l2, l3, kind, flags, r0, r1] = word.to_le_bytes();
        if (r0, r1) != (0, 0) || flags & !POOLED != 0 {
            return Err(Violation::RecordHeader);
        }
        let kind = Kind::from_number(kind).ok_or(Violation::RecordHeader)?;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let record = Record { kind, len, pooled: flags == POOLED };
        if record.pooled {
            if !matches!(kind, Kind::Data | Kind::First | Kind::Fragment) || len == 0 {
                return Err(Violation::RecordHeader);
            }
            if len > pool {
                return Err(Violation::RecordLength);
            }
        }
        if record.inline_len() > room {
            return Err(Violation::RecordLength);
        }
        Ok(record)
    }

    /// The header as it is stored. `len` is below 2^32: a ring or a pool has at most a megabyte.
    #[inline]
    pub fn encode(self) -> u64 {
        self.len as u64 | (self.kind as u64) << 32 | u64::from(self.pooled) << 40
    }

    /// Bytes in the ring behind the header, without padding.
    #[inline]
    pub fn inline_len(self) -> usize {
        match (self.pooled, self.kind) {
            (false, _) => self.len,
            (true, Kind::First) => 16,
            (true, _) => 8,
        }
    }

    /// Bytes that the record takes in a ring without slots.
    #[inline]
    pub fn span(self) -> usize {
        HEADER_LEN + self.inline_len().next_multiple_of(8)
    }
}

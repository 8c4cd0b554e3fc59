//! Index arithmetic of Xen's byte rings (console and xenstore).
//!
//! A ring of 2^n bytes has two free-running `u32` indices: the producer's (`prod`) and the consumer's
//! (`cons`). `prod - cons`, modulo 2^32, is the number of unread bytes; the index modulo the size is the
//! position. Each side writes only its own index, so the other's is an allegation: when it says that more than
//! the ring's size is unread, the peer has broken the protocol. Keep the own index in private memory, read the
//! peer's once, and use only what these functions return.
//!
//! To produce: read the peer's `cons`; [`Ring::free`]; copy into the one or two spans of
//! [`Ring::span`]; *release* barrier; store the advanced `prod`; notify. To consume: read the peer's `prod`;
//! *acquire* barrier; [`Ring::used`]; copy out; *full* barrier; store the advanced `cons`; notify.

use core::ops::Range;

/// A byte ring of a given size; holds no data and no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    size: u32,
}

/// The indices claim more unread bytes than the ring holds: the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "ring indices are impossible: {} bytes unread (producer {prod:#x}, consumer {cons:#x}) in a ring of {size}",
    prod.wrapping_sub(*cons)
)]
pub struct BadIndex {
    /// Producer's index.
    pub prod: u32,
    /// Consumer's index.
    pub cons: u32,
    /// Size of the ring in bytes.
    pub size: u32,
}

impl Ring {
    /// A ring of `size` bytes.
    ///
    /// # Panics
    /// When `size` is not a power of two. Meant for constants, where that is a compile-time error.
    pub const fn new(size: u32) -> Ring {
        assert!(size.is_power_of_two(), "the size of a byte ring is a power of two");
        Ring { size }
    }

    /// Bytes of the ring.
    pub const fn size(self) -> u32 {
        self.size
    }

    /// Position of `index` in the ring, below [`Ring::size`].
    pub const fn mask(self, index: u32) -> usize {
        (index & (self.size - 1)) as usize
    }

    /// Unread bytes, from 0 to [`Ring::size`].
    ///
    /// # Errors
    /// [`BadIndex`] when the indices cannot be.
    pub const fn used(self, prod: u32, cons: u32) -> Result<usize, BadIndex> {
        let used = prod.wrapping_sub(cons);
        if used > self.size { Err(BadIndex { prod, cons, size: self.size }) } else { Ok(used as usize) }
    }

    /// Bytes that can be written, from 0 to [`Ring::size`].
    ///
    /// # Errors
    /// [`BadIndex`] when the indices cannot be.
    pub const fn free(self, prod: u32, cons: u32) -> Result<usize, BadIndex> {
        match self.used(prod, cons) {
            Ok(used) => Ok(self.size as usize - used),
            Err(bad) => Err(bad),
        }
    }

    /// Positions of `len` bytes from `index` on: one range up to the end of the ring and one from its start
    /// (empty when there is no wrap). A `len` above the size is cut to the size.
    pub const fn span(self, index: u32, len: usize) -> (Range<usize>, Range<usize>) {
        let size = self.size as usize;
        let len = if len > size { size } else { len };
        let start = self.mask(index);
        let room = size - start;
        if len <= room { (start..start + len, 0..0) } else { (start..size, 0..len - room) }
    }
}

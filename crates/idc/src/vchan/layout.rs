//! The shared page of a vchan (`xen/io/libxenvchan.h`, `struct vchan_interface`), little-endian.
//!
//! | offset | type | content | written by |
//! |---|---|---|---|
//! | 0, 4 | u32 | left ring: consumed, produced | server, client |
//! | 8, 12 | u32 | right ring: consumed, produced | client, server |
//! | 16, 18 | u16 | orders of the left and the right ring | server, once |
//! | 20, 21 | u8 | state of the client and of the server | each its own; the client's first by the server |
//! | 22, 23 | u8 | notify bits for the client and for the server | both |
//! | 24 | u32 each | grant references of the left ring's pages, then of the right one's | server, once |
//!
//! Left carries bytes from the client to the server, right the other way. Indices run freely over 32 bits; the
//! place of a byte is its index modulo the ring's size, 1 << order. A ring of order 10 lies at offset 1024 of this
//! page and one of order 11 at 2048; larger ones have pages of their own.

use alloc::vec::Vec;

use crate::GrantRef;
use crate::error::Violation;
use crate::setup::{FIRST_GRANT, PAGE_SIZE};

/// Where the indices of the left and of the right ring begin.
pub(super) const LEFT: usize = 0;
pub(super) const RIGHT: usize = 8;
/// Orders, states and notify bits, as one word.
pub(super) const HEAD: usize = 16;
pub(super) const CLIENT_LIVE: usize = 20;
pub(super) const SERVER_LIVE: usize = 21;
/// Bits that the client looks at after it has done something.
pub(super) const CLIENT_NOTIFY: usize = 22;
/// Bits that the server looks at.
pub(super) const SERVER_NOTIFY: usize = 23;
const GRANTS: usize = 24;

/// State of a side: gone, there, or (the client) not there yet.
pub(super) const GONE: u8 = 0;
pub(super) const THERE: u8 = 1;
pub(super) const AWAITED: u8 = 2;

/// Notify bits: an event is wanted when something is written, and when something is read.
pub(super) const ON_WRITE: u8 = 1;
pub(super) const ON_READ: u8 = 2;

/// Orders of the rings inside the page.
const SMALL: u16 = 10;
const LARGE: u16 = 11;
const PAGE: u16 = 12;
/// libxenvchan's largest ring: 1 MiB.
const MOST: u16 = 20;

/// Largest ring in bytes.
pub const RING_MAX: usize = 1 << MOST;

/// Orders of a pair of rings that fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) left: u16,
    pub(super) right: u16,
}

impl Orders {
    /// Checks orders: each is possible, they are not both at one place, and the list of grants does not reach into
    /// a ring.
    pub(super) fn new(left: u16, right: u16) -> Option<Orders> {
        let each = |order| (SMALL..=MOST).contains(&order);
        if !each(left) || !each(right) || (left == right && left < PAGE) {
            return None;
        }
        let orders = Orders { left, right };
        let first_ring = [left, right].into_iter().filter_map(inside).min().unwrap_or(PAGE_SIZE);
        (GRANTS + 4 * orders.grants() <= first_ring).then_some(orders)
    }

    /// Orders of rings that hold at least so many bytes; `None` when that is more than can be.
    pub(super) fn for_sizes(left: usize, right: usize) -> Option<Orders> {
        let order = |size: usize| match size {
            0..=1024 => SMALL,
            1025..=2048 => LARGE,
            _ => size.checked_next_power_of_two().map_or(u16::MAX, |s| s.trailing_zeros() as u16),
        };
        let (left, right) = (order(left), order(right));
        // Where two do not fit together one of them is larger than it need be: 10 and 10 are 10 and 11, 11 and 11 are
        // 11 and 12, and the grants of 20 reach into 10.
        [(left, right), (left, right.saturating_add(1)), (left.saturating_add(1), right)]
            .into_iter()
            .find_map(|(left, right)| Orders::new(left, right))
    }

    /// From the word at [`HEAD`].
    pub(super) fn decode(word: u64) -> Result<Orders, Violation> {
        Orders::new(word as u16, (word >> 16) as u16).ok_or(Violation::VchanOrder)
    }

    /// The word at [`HEAD`] of a server whose client has not come yet. It wants to know when something is written.
    pub(super) fn encode(self) -> u64 {
        let live = u64::from(AWAITED) | u64::from(THERE) << 8;
        u64::from(self.left) | u64::from(self.right) << 16 | live << 32 | u64::from(ON_WRITE) << 48
    }

    /// Grants of both rings.
    fn grants(self) -> usize {
        pages(self.left) + pages(self.right)
    }
}

/// Pages of its own that a ring has.
pub(super) fn pages(order: u16) -> usize {
    if order < PAGE { 0 } else { 1 << (order - PAGE) }
}

/// Offset of a ring inside the shared page, if it is there.
pub(super) fn inside(order: u16) -> Option<usize> {
    (order < PAGE).then_some(1 << order)
}

/// The list of grants as bytes, and where it goes.
pub(super) fn encode_grants(left: &[GrantRef], right: &[GrantRef]) -> (usize, Vec<u8>) {
    (GRANTS, left.iter().chain(right).flat_map(|gref| gref.0.to_le_bytes()).collect())
}

/// Where the list of grants is, and its length in bytes.
pub(super) fn grants_at(orders: Orders) -> (usize, usize) {
    (GRANTS, 4 * orders.grants())
}

/// The grants of the left and of the right ring from a private copy of the list.
pub(super) fn decode_grants(
    orders: Orders,
    list: &[u8],
) -> Result<(Vec<GrantRef>, Vec<GrantRef>), Violation> {
    let (numbers, _) = list.as_chunks::<4>();
    let mut left: Vec<_> = numbers.iter().map(|bytes| GrantRef(u32::from_le_bytes(*bytes))).collect();
    if left.iter().any(|gref| gref.0 < FIRST_GRANT) {
        return Err(Violation::VchanGrant);
    }
    let right = left.split_off(pages(orders.left).min(left.len()));
    Ok((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_cannot_be_are_refused() {
        for left in 0..=u16::from(u8::MAX) {
            for right in 0..=u16::from(u8::MAX) {
                let possible = (10..=20).contains(&left)
                    && (10..=20).contains(&right)
                    && !(left == right && left < 12)
                    && !(left == 10 && right == 20 || left == 20 && right == 10);
                assert_eq!(Orders::new(left, right).is_some(), possible, "{left} {right}");
                let word = u64::from(left) | u64::from(right) << 16 | 0xffff_ffff << 32;
                assert_eq!(Orders::decode(word).is_ok(), possible);
            }
        }
        assert!(Orders::new(u16::MAX, 12).is_none() && Orders::new(12, 0x8000).is_none());
    }

    #[test]
    fn rings_are_as_large_as_asked_and_little_larger() {
        for left in [0, 1, 1024, 1025, 2048, 2049, 4096, 65_536, 1 << 20] {
            for right in [0, 1, 1024, 1025, 2048, 2049, 4096, 65_536, 1 << 20] {
                let orders = Orders::for_sizes(left, right).unwrap();
                let good =
                    |order: u16, size: usize| 1 << order >= size && (1usize << order) <= (4 * size).max(4096);
                assert!(good(orders.left, left) && good(orders.right, right), "{left} {right}: {orders:?}");
                assert_eq!(Orders::decode(orders.encode()), Ok(orders));
            }
        }
        assert_eq!(Orders::for_sizes((1 << 20) + 1, 1), None);
        assert_eq!(Orders::for_sizes(1, usize::MAX), None);
    }

    #[test]
    fn grants_go_left_then_right_and_reserved_ones_are_refused() {
        let orders = Orders::new(13, 12).unwrap();
        let grefs = [8, 9, 10].map(GrantRef);
        let (at, list) = encode_grants(&grefs[..2], &grefs[2..]);
        assert_eq!((at, list.len()), grants_at(orders));
        assert_eq!(decode_grants(orders, &list), Ok((grefs[..2].to_vec(), grefs[2..].to_vec())));
        let (_, list) = encode_grants(&[GrantRef(8), GrantRef(7)], &[GrantRef(9)]);
        assert_eq!(decode_grants(orders, &list), Err(Violation::VchanGrant));
    }
}

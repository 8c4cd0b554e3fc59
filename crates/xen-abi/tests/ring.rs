//! The index arithmetic of the byte rings, against a queue as the model and against a hostile peer.

use proptest::prelude::*;
use std::collections::VecDeque;
use xen_abi::ring::{BadIndex, Ring};
use xen_abi::{console, xenstore};

#[test]
fn the_four_rings_fit_their_pages() {
    for (ring, offset, limit) in [
        (console::IN, console::IN_OFFSET, console::OUT_OFFSET),
        (console::OUT, console::OUT_OFFSET, console::IN_CONS_OFFSET),
        (xenstore::REQ, xenstore::REQ_OFFSET, xenstore::RSP_OFFSET),
        (xenstore::RSP, xenstore::RSP_OFFSET, xenstore::REQ_CONS_OFFSET),
    ] {
        assert_eq!(offset + ring.size() as usize, limit);
    }
}

#[test]
fn indices_wrap() {
    let ring = Ring::new(1024);
    assert_eq!(ring.used(3, u32::MAX - 1), Ok(5));
    assert_eq!(ring.free(3, u32::MAX - 1), Ok(1019));
    assert_eq!(ring.used(1024, 0), Ok(1024));
    assert_eq!(ring.free(1024, 0), Ok(0));
    assert_eq!(ring.mask(u32::MAX), 1023);
    assert_eq!(ring.span(u32::MAX, 3), (1023..1024, 0..2));
    assert_eq!(ring.span(0, 1024), (0..1024, 0..0));
    assert_eq!(ring.span(5, usize::MAX), (5..1024, 0..5));
    assert_eq!(ring.span(1024, 0), (0..0, 0..0));
}

#[test]
fn impossible_indices_are_refused() {
    let ring = Ring::new(1024);
    assert_eq!(ring.used(1025, 0), Err(BadIndex { prod: 1025, cons: 0, size: 1024 }));
    // A consumer ahead of the producer looks like almost 2^32 unread bytes.
    assert_eq!(ring.used(0, 1), Err(BadIndex { prod: 0, cons: 1, size: 1024 }));
    assert_eq!(ring.free(0, 1), Err(BadIndex { prod: 0, cons: 1, size: 1024 }));
    assert_eq!(
        BadIndex { prod: 0, cons: 1, size: 1024 }.to_string(),
        "ring indices are impossible: 4294967295 bytes unread (producer 0x0, consumer 0x1) in a ring of 1024"
    );
}

fn rings() -> impl Strategy<Value = Ring> {
    (0u32..12).prop_map(|shift| Ring::new(1 << shift))
}

proptest! {
    #[test]
    fn whatever_the_peer_writes_stays_in_bounds(
        ring in rings(), prod: u32, cons: u32, index: u32, len: usize,
    ) {
        let size = ring.size() as usize;
        match (ring.used(prod, cons), ring.free(prod, cons)) {
            (Ok(used), Ok(free)) => {
                prop_assert_eq!(used + free, size);
                prop_assert_eq!(cons.wrapping_add(used as u32), prod);
            }
            (Err(bad), Err(also)) => {
                prop_assert_eq!(bad, also);
                prop_assert!(prod.wrapping_sub(cons) > ring.size());
            }
            other => prop_assert!(false, "used and free disagree: {other:?}"),
        }
        let (first, second) = ring.span(index, len);
        prop_assert!(first.end <= size && second.end <= size);
        prop_assert!(first.start <= first.end && second.start == 0);
        prop_assert!(second.end <= first.start, "the two ranges overlap");
        prop_assert_eq!(first.len() + second.len(), len.min(size));
    }

    #[test]
    fn a_ring_is_a_queue(
        shift in 0u32..7,
        start: u32,
        steps in prop::collection::vec((any::<bool>(), 0usize..100), 0..200),
    ) {
        let ring = Ring::new(1 << shift);
        let mut bytes = vec![0u8; ring.size() as usize];
        let (mut prod, mut cons) = (start, start);
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for (produce, count) in steps {
            if produce {
                let count = count.min(ring.free(prod, cons).unwrap());
                let (first, second) = ring.span(prod, count);
                for at in first.chain(second) {
                    bytes[at] = next;
                    model.push_back(next);
                    next = next.wrapping_add(1);
                }
                prod = prod.wrapping_add(count as u32);
            } else {
                let count = count.min(ring.used(prod, cons).unwrap());
                let (first, second) = ring.span(cons, count);
                for at in first.chain(second) {
                    prop_assert_eq!(Some(bytes[at]), model.pop_front());
                }
                cons = cons.wrapping_add(count as u32);
            }
            prop_assert_eq!(ring.used(prod, cons).unwrap(), model.len());
        }
    }
}

//! The codecs of what lies in shared memory: what goes in comes out, and nothing else is taken.
#![cfg(not(loom))]

use idc::record::{HEADER_LEN, Kind, Record};
use idc::setup::{MAX_PAGES, MAX_POOL, PAGE_SIZE, SLOTS, Setup, SetupError, State, features};
use idc::{CloseReason, EvtchnPort, GrantRef, Violation};
use proptest::collection::vec;
use proptest::prelude::*;

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Data),
        Just(Kind::Filler),
        Just(Kind::First),
        Just(Kind::Fragment),
        Just(Kind::Abort)
    ]
}

fn gref() -> impl Strategy<Value = GrantRef> {
    (8..=u32::MAX).prop_map(GrantRef)
}

fn setup() -> impl Strategy<Value = Setup> {
    let numbers = (any::<u32>(), any::<u64>(), 1..=u32::MAX, any::<bool>(), any::<bool>());
    let pages = (vec(gref(), 1..=MAX_PAGES), vec(gref(), 0..=MAX_POOL), 0..4usize);
    (numbers, gref(), gref(), pages).prop_map(
        |((epoch, nonce, port, shared, duplex), writer_ref, reader_ref, pages)| Setup {
            features: if shared { features::SHARED_PORT } else { 0 }
                | if duplex { features::DUPLEX } else { 0 },
            epoch,
            nonce,
            port: (!shared).then_some(EvtchnPort(port)),
            writer_ref,
            reader_ref,
            slots: if pages.2 > 0 { SLOTS[pages.2 - 1] } else { 0 },
            data_refs: if pages.2 > 0 { pages.0[..1].to_vec() } else { pages.0 },
            pool_refs: pages.1,
        },
    )
}

proptest! {
    #[test]
    fn headers_come_back(kind in kind(), len in 0usize..(1 << 20), more in 0usize..64) {
        let record = Record::new(kind, len);
        prop_assert_eq!(Record::parse(record.encode(), len + more, 0), Ok(record));
        prop_assert!(record.span() >= HEADER_LEN + len);
        prop_assert!(record.span().is_multiple_of(8) && record.span() < HEADER_LEN + len + 8);
    }

    #[test]
    fn descriptors_come_back(kind in 0usize..3, len in 1usize..(1 << 20), more in 0usize..64) {
        let kind = [Kind::Data, Kind::First, Kind::Fragment][kind];
        let record = Record { kind, len, pooled: true };
        let room = record.inline_len();
        prop_assert_eq!(Record::parse(record.encode(), room, len + more), Ok(record));
        prop_assert_eq!(Record::parse(record.encode(), room - 1, len), Err(Violation::RecordLength));
        prop_assert_eq!(Record::parse(record.encode(), room, len - 1), Err(Violation::RecordLength));
    }

    #[test]
    fn a_header_never_reaches_beyond_its_room(
        word in prop_oneof![any::<u64>(), (0u64..1 << 21, 0u64..8, 0u64..4).prop_map(|(l, k, f)| l | k << 32 | f << 40)],
        room in 0usize..(1 << 20),
        pool in 0usize..(1 << 20),
    ) {
        // Whatever a peer stores: either a reason, or a record that stays inside and means the same word.
        match Record::parse(word, room & !7, pool) {
            Ok(record) => {
                prop_assert!(!record.pooled || record.len <= pool);
                prop_assert!(record.span() <= HEADER_LEN + (room & !7));
                prop_assert_eq!(record.encode(), word);
            }
            Err(reason) => {
                prop_assert!(matches!(reason, Violation::RecordHeader | Violation::RecordLength));
            }
        }
    }

    #[test]
    fn headers_with_plausible_bits(len in any::<u32>(), kind in 0u8..8, junk in 0u64..4, room in 0usize..4096) {
        let word = u64::from(len) | u64::from(kind) << 32 | junk << 40;
        let good = (1..=5).contains(&kind) && junk == 0 && len as usize <= room;
        // Without a pool no descriptor is good.
        prop_assert_eq!(Record::parse(word, room, 0).is_ok(), good);
    }

    #[test]
    fn setup_pages_come_back(setup in setup()) {
        prop_assert_eq!(Setup::decode(&setup.encode()), Ok(setup));
    }

    #[test]
    fn a_setup_page_means_one_thing_only(setup in setup(), at in 0usize..PAGE_SIZE, bit in 0u8..8) {
        // A page with one bit changed is refused or means something else; and what it means is encoded as that
        // page again, so nothing in it was overlooked (bytes 24 to 31 are features that may be ignored).
        let mut page = setup.encode();
        page[at] ^= 1 << bit;
        if let Ok(other) = Setup::decode(&page) {
            let ignored = (24..32).contains(&at) || (64..128).contains(&at);
            prop_assert!(ignored || other != setup);
            prop_assert!(ignored || other.encode() == page);
            prop_assert!((1..=MAX_PAGES).contains(&other.data_refs.len()));
        }
    }

    #[test]
    fn any_bytes_are_judged(start in vec(any::<u8>(), 0..256), fill in any::<u8>()) {
        let mut page = [fill; PAGE_SIZE];
        page[..start.len()].copy_from_slice(&start);
        let _ = Setup::decode(&page);
        page[..8].copy_from_slice(b"CSMTIDC2");
        page[8..12].copy_from_slice(&2u32.to_le_bytes());
        let _ = Setup::decode(&page);
    }

    #[test]
    fn states(word in any::<u64>(), low in 0u64..8, reason in 0u64..8) {
        for word in [word, low | reason << 8] {
            if let Ok(state) = State::decode(word) {
                prop_assert_eq!(state.encode(), word);
            }
        }
    }
}

#[test]
fn every_fault_of_a_setup_page_has_its_reason() {
    let good = Setup {
        features: 0,
        epoch: 1,
        nonce: 2,
        port: Some(EvtchnPort(3)),
        writer_ref: GrantRef(8),
        reader_ref: GrantRef(9),
        slots: 0,
        data_refs: vec![GrantRef(10), GrantRef(11)],
        pool_refs: Vec::new(),
    };
    assert_eq!(Setup::decode(&good.encode()), Ok(good.clone()));
    let spoilt = |at: usize, bytes: &[u8]| {
        let mut page = good.encode();
        page[at..at + bytes.len()].copy_from_slice(bytes);
        Setup::decode(&page).expect_err("a page that is spoilt")
    };
    let word = |number: u32| number.to_le_bytes();
    assert_eq!(spoilt(0, b"X"), SetupError::Violation(Violation::SetupMagic));
    assert!(matches!(spoilt(8, &word(3)), SetupError::Incompatible(_)));
    assert!(matches!(spoilt(16, &word(16)), SetupError::Incompatible(_)));
    assert!(matches!(spoilt(23, &[0x80]), SetupError::Incompatible(_)));
    assert_eq!(spoilt(40, &word(0)), SetupError::Violation(Violation::SetupPort));
    assert_eq!(spoilt(16, &word(2)), SetupError::Violation(Violation::SetupPort));
    for count in [0, 257, u32::MAX] {
        assert_eq!(spoilt(44, &word(count)), SetupError::Violation(Violation::SetupGeometry));
    }
    // The last ones: features without what they announce.
    for (at, number) in
        [(56, 1), (60, 1), (60, 32), (128 + 8, 12), (2048, 12), (4092, 1), (44, 1), (16, 4), (16, 8)]
    {
        assert_eq!(spoilt(at, &word(number)), SetupError::Violation(Violation::SetupGeometry));
    }
    for (at, number) in [(48, 7), (52, 0), (128, 0), (132, 5), (44, 3)] {
        assert_eq!(spoilt(at, &word(number)), SetupError::Violation(Violation::SetupGrant));
    }
}

#[test]
fn every_fault_of_a_geometry_has_its_reason() {
    let good = Setup {
        features: 0,
        epoch: 0,
        nonce: 2,
        port: Some(EvtchnPort(3)),
        writer_ref: GrantRef(8),
        reader_ref: GrantRef(9),
        slots: 32,
        data_refs: vec![GrantRef(10)],
        pool_refs: vec![GrantRef(11), GrantRef(12)],
    };
    assert_eq!(Setup::decode(&good.encode()), Ok(good.clone()));
    let spoilt = |at: usize, number: u32| {
        let mut page = good.encode();
        page[at..at + 4].copy_from_slice(&number.to_le_bytes());
        Setup::decode(&page).expect_err("a page that is spoilt")
    };
    let geometry = SetupError::Violation(Violation::SetupGeometry);
    for slots in [0, 1, 7, 9, 16, 64, 256, 4096, u32::MAX] {
        assert_eq!(spoilt(60, slots), geometry);
    }
    for pool in [0, 1, 257, u32::MAX] {
        assert_eq!(spoilt(56, pool), geometry);
    }
    // A second data page; a feature less; a reserved reference; one that is missing.
    assert_eq!(spoilt(44, 2), geometry);
    assert_eq!(spoilt(16, 8), geometry);
    assert_eq!(spoilt(16, 4), geometry);
    assert_eq!(spoilt(2048, 7), SetupError::Violation(Violation::SetupGrant));
    assert_eq!(spoilt(56, 3), SetupError::Violation(Violation::SetupGrant));
}

#[test]
fn close_reasons_come_back() {
    for reason in
        [CloseReason::Dropped, CloseReason::Refused, CloseReason::Misbehaved, CloseReason::Resources]
    {
        assert_eq!(State::decode(State::Closed(reason).encode()), Ok(State::Closed(reason)));
    }
    assert_eq!(State::decode(3 | 4 << 8), Err(Violation::StateUnknown));
    assert_eq!(State::decode(1 | 1 << 8), Err(Violation::StateUnknown));
    assert_eq!(State::decode(4), Err(Violation::StateUnknown));
}

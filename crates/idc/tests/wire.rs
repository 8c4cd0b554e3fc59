//! The codecs of what lies in shared memory: what goes in comes out, and nothing else is taken.
#![cfg(not(loom))]

use idc::record::{HEADER_LEN, Kind, Record};
use idc::setup::{MAX_PAGES, PAGE_SIZE, Setup, SetupError, State, features};
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
    (numbers, gref(), gref(), vec(gref(), 1..=MAX_PAGES)).prop_map(
        |((epoch, nonce, port, shared, duplex), writer_ref, reader_ref, data_refs)| Setup {
            features: if shared { features::SHARED_PORT } else { 0 }
                | if duplex { features::DUPLEX } else { 0 },
            epoch,
            nonce,
            port: (!shared).then_some(EvtchnPort(port)),
            writer_ref,
            reader_ref,
            data_refs,
        },
    )
}

proptest! {
    #[test]
    fn headers_come_back(kind in kind(), len in 0usize..(1 << 20), more in 0usize..64) {
        let record = Record { kind, len };
        prop_assert_eq!(Record::parse(record.encode(), len + more), Ok(record));
        prop_assert!(record.span() >= HEADER_LEN + len);
        prop_assert!(record.span().is_multiple_of(8) && record.span() < HEADER_LEN + len + 8);
    }

    #[test]
    fn a_header_never_reaches_beyond_its_room(word in any::<u64>(), room in 0usize..(1 << 20)) {
        // Whatever a peer stores: either a reason, or a record that stays inside and means the same word.
        match Record::parse(word, room & !7) {
            Ok(record) => {
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
        prop_assert_eq!(Record::parse(word, room).is_ok(), good);
    }

    #[test]
    fn setup_pages_come_back(setup in setup()) {
        prop_assert_eq!(Setup::decode(&setup.encode()), Ok(setup));
    }

    #[test]
    fn a_setup_page_means_one_thing_only(setup in setup(), at in 0usize..2048, bit in 0u8..8) {
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
        data_refs: vec![GrantRef(10), GrantRef(11)],
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
    assert!(matches!(spoilt(16, &word(4)), SetupError::Incompatible(_)));
    assert!(matches!(spoilt(23, &[0x80]), SetupError::Incompatible(_)));
    assert_eq!(spoilt(40, &word(0)), SetupError::Violation(Violation::SetupPort));
    assert_eq!(spoilt(16, &word(2)), SetupError::Violation(Violation::SetupPort));
    for count in [0, 257, u32::MAX] {
        assert_eq!(spoilt(44, &word(count)), SetupError::Violation(Violation::SetupGeometry));
    }
    for (at, number) in [(56, 1), (60, 1), (128 + 8, 12), (44, 1)] {
        assert_eq!(spoilt(at, &word(number)), SetupError::Violation(Violation::SetupGeometry));
    }
    for (at, number) in [(48, 7), (52, 0), (128, 0), (132, 5), (44, 3)] {
        assert_eq!(spoilt(at, &word(number)), SetupError::Violation(Violation::SetupGrant));
    }
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

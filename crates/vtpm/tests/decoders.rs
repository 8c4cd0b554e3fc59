//! Every decoder takes whatever bytes come, and gives back what the encoder was given.

mod common;

use proptest::prelude::*;
use vtpm::command::{Command, Family};
use vtpm::frame::{Answer, CONTENTS_MAX, Kind, Request, Status};
use vtpm::link::{self, Ask, Lease, Refusal, Seed};
use vtpm::seal::{self, Header, NONCE_LEN};
use vtpm::state::{Secret, State, StateError, VALUE_MAX};
use vtpm::vault::Mark;
use vtpm::{Key, Peer, Uuid};
use zeroize::Zeroizing;

fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..len)
}

fn secret() -> impl Strategy<Value = Option<Secret>> {
    prop::option::of(bytes(100).prop_map(Secret::new))
}

/// Changes to bytes that a decoder would take: what a fuzzer does with a corpus.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A run of bytes from one place to another.
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let interesting = prop::sample::select(vec![0u8, 1, 2, 0x7f, 0x80, 0xff]);
    let change = prop_oneof![
        (index(), interesting).prop_map(|(at, value)| Change::Set(at, value)),
        (index(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (index(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, new)| Change::Insert(at, new)),
        (index(), 1usize..9).prop_map(|(at, count)| Change::Remove(at, count)),
        (index(), index(), 1usize..9).prop_map(|(from, to, count)| Change::Copy(from, to, count)),
    ];
    prop::collection::vec(change, 1..5)
}

fn change(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Change::Set(at, value) => bytes[at.index(len)] = *value,
            Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Change::Insert(at, new) => drop(bytes.splice(at.index(len)..at.index(len), new.iter().copied())),
            Change::Remove(at, count) => drop(bytes.drain(at.index(len)..(at.index(len) + count).min(len))),
            Change::Copy(from, to, count) => {
                let run = bytes[from.index(len)..(from.index(len) + count).min(len)].to_vec();
                let end = (to.index(len) + run.len()).min(len);
                bytes.splice(to.index(len)..end, run);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// What is taken is what would have been written: there are no two ways to say the same frame, lease or mark.
    #[test]
    fn almost_right_frames(changes in changes(), contents in bytes(40), kind in 0usize..Kind::ALL.len()) {
        let request = Request { kind: Kind::ALL[kind], locality: 0, sequence: 7, contents: &contents };
        let bytes = change(&request.to_bytes(), &changes);
        if let Ok(request) = Request::parse(&bytes) {
            prop_assert_eq!(request.to_bytes(), bytes);
        }
        let answer = Answer { kind: request.kind, status: Status::Ok, sequence: 7, contents: &contents };
        let bytes = change(&answer.to_bytes(), &changes);
        if let Ok(answer) = Answer::parse(&bytes, &request) {
            prop_assert_eq!(answer.to_bytes(), bytes);
        }
    }

    #[test]
    fn almost_right_states(changes in changes(), permanent in secret(), saved in secret(), volatile in secret()) {
        let state = State { family: Family::Tpm20, permanent, saved, volatile };
        let bytes = change(&state.to_bytes().unwrap(), &changes);
        if let Ok(state) = State::parse(&bytes) {
            prop_assert_eq!(State::parse(&state.to_bytes().unwrap()), Ok(state));
        }
        // Nothing that was changed is opened.
        let header = Header { uuid: common::UUID, epoch: 1, counter: 2 };
        let sealed = seal::seal(&common::master(), &header, &[3; NONCE_LEN], &state.to_bytes().unwrap()).unwrap();
        let changed = change(&sealed, &changes);
        if changed != sealed {
            prop_assert!(seal::open(&common::master(), &changed).is_err());
        }
    }

    #[test]
    fn almost_right_leases_and_requests(changes in changes(), domids in prop::collection::vec(any::<u16>(), 0..8)) {
        let lease = Lease {
            uuid: common::UUID,
            family: Family::Tpm20,
            fresh: true,
            epoch: 1,
            mark: Some(Mark { epoch: 1, counter: 2, hash: [4; 32] }),
            key: Key::new([5; 32]),
            seed: Seed(Zeroizing::new([6; 64])),
            peers: domids.into_iter().map(Peer::guest).collect(),
        };
        let bytes = change(&lease.to_bytes(), &changes);
        if let Ok(lease) = Lease::parse(&bytes) {
            // But that a mark which is not there may have any bytes.
            if lease.mark.is_some() {
                prop_assert_eq!(&*lease.to_bytes(), &bytes);
            }
        }
        let bytes = change(&link::request(Ask::Store, &[7; 20]), &changes);
        if let Ok((ask, contents)) = link::parse_request(&bytes) {
            prop_assert_eq!(link::request(ask, contents), bytes.clone());
        }
        let _ = link::parse_mark(&change(&link::mark_to_bytes(lease.mark), &changes));
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in bytes(300)) {
        let request = Request { kind: Kind::Info, locality: 0, sequence: 0, contents: &[] };
        let _ = Request::parse(&bytes);
        let _ = Answer::parse(&bytes, &request);
        let _ = Command::parse(&bytes, Family::Tpm20);
        let _ = Command::parse(&bytes, Family::Tpm12);
        let _ = State::parse(&bytes);
        let _ = seal::peek(&bytes);
        let _ = seal::open(&common::master(), &bytes);
        let _ = link::parse_request(&bytes);
        let _ = link::parse_answer(&bytes, Ask::Lease);
        let _ = Lease::parse(&bytes);
    }

    #[test]
    fn frames_come_back(locality in 0u8..=4, sequence: u32, contents in bytes(CONTENTS_MAX + 1)) {
        for kind in Kind::ALL {
            let request = Request { kind, locality, sequence, contents: &contents };
            let bytes = request.to_bytes();
            prop_assert_eq!(Request::parse(&bytes), Ok(request));
            let answer = Answer { kind, status: Status::Ok, sequence, contents: &contents };
            let bytes = answer.to_bytes();
            prop_assert_eq!(Answer::parse(&bytes, &request), Ok(answer));
            let other = Request { sequence: sequence.wrapping_add(1), ..request };
            prop_assert!(Answer::parse(&bytes, &other).is_err());
        }
    }

    #[test]
    fn states_come_back(permanent in secret(), saved in secret(), volatile in secret(), old: bool) {
        let family = if old { Family::Tpm12 } else { Family::Tpm20 };
        let state = State { family, permanent, saved, volatile };
        let bytes = state.to_bytes().unwrap();
        prop_assert_eq!(State::parse(&bytes), Ok(state));
        // A cut is noticed, unless it falls between two values.
        for len in 0..bytes.len() {
            if let Ok(shorter) = State::parse(&bytes[..len]) {
                let again = shorter.to_bytes().unwrap();
                prop_assert_eq!(again.as_slice(), &bytes[..len]);
            }
        }
    }

    #[test]
    fn states_that_are_almost_right(values in prop::collection::vec(
        (prop::sample::select(vec![1u16, 0x10, 0x11, 0x12, 0x13, 0x8000, 0x8001]), bytes(4), -1i64..2), 0..6)) {
        let mut bytes = Vec::new();
        for (tag, value, lie) in &values {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(((value.len() as i64 + lie).max(0) as u32).to_le_bytes());
            bytes.extend(value);
        }
        if let Ok(state) = State::parse(&bytes) {
            prop_assert_eq!(State::parse(&state.to_bytes().unwrap()), Ok(state));
        }
    }

    #[test]
    fn sealed_states_come_back(epoch: u64, counter: u64, nonce: [u8; NONCE_LEN], state in bytes(500)) {
        let header = Header { uuid: common::UUID, epoch, counter };
        let sealed = seal::seal(&common::master(), &header, &nonce, &state).unwrap();
        prop_assert_eq!(seal::peek(&sealed), Ok(header));
        let (opened, contents) = seal::open(&common::master(), &sealed).unwrap();
        prop_assert_eq!((opened, contents.as_slice()), (header, state.as_slice()));
    }

    #[test]
    fn leases_come_back(
        uuid: [u8; 16], fresh: bool, epoch: u64, key: [u8; 32], hash: [u8; 32], seed: u8,
        mark in prop::option::of(any::<(u64, u64)>()), domids in prop::collection::vec(any::<u16>(), 0..8),
    ) {
        let lease = Lease {
            uuid: Uuid(uuid),
            family: Family::Tpm12,
            fresh,
            epoch,
            mark: mark.map(|(epoch, counter)| Mark { epoch, counter, hash }),
            key: Key::new(key),
            seed: Seed(Zeroizing::new([seed; 64])),
            peers: domids.into_iter().map(Peer::guest).collect(),
        };
        let bytes = lease.to_bytes();
        let back = Lease::parse(&bytes).unwrap();
        prop_assert_eq!(back.to_bytes(), bytes.clone());
        prop_assert_eq!((back.uuid, back.mark, back.peers, back.seed), (lease.uuid, lease.mark, lease.peers, lease.seed));
        for len in 0..bytes.len() {
            prop_assert!(Lease::parse(&bytes[..len]).is_err());
        }
    }
}

#[test]
fn answers_of_the_manager() {
    let bytes = link::answer(Ask::Load, Ok(b"sealed"));
    assert_eq!(link::parse_answer(&bytes, Ask::Load), Ok(Ok(&b"sealed"[..])));
    assert!(link::parse_answer(&bytes, Ask::Store).is_err());
    let bytes = link::answer(Ask::Store, Err(Refusal::StaleLease));
    assert_eq!(link::parse_answer(&bytes, Ask::Store), Ok(Err(Refusal::StaleLease)));
    let request = link::request(Ask::Store, b"x");
    assert_eq!(link::parse_request(&request), Ok((Ask::Store, &b"x"[..])));
    assert!(link::parse_answer(&request, Ask::Store).is_err());
}

#[test]
fn a_state_that_cannot_be_written_is_an_error() {
    let state = State { permanent: Some(Secret::new(vec![0; VALUE_MAX + 1])), ..State::default() };
    assert_eq!(state.to_bytes(), Err(StateError::Length));
    let parsed = State::parse(&[1, 0, 1, 0, 0, 0, 20, 0x10, 0, 1, 0, 4, 0]);
    assert_eq!(parsed, Err(StateError::Length));
    let parsed = State::parse(&[1, 0, 1, 0, 0, 0, 20, 0x13, 0, 0, 0, 0, 0]);
    assert_eq!(parsed, Err(StateError::Tag(0x13)));
    let parsed = State::parse(&[1, 0, 1, 0, 0, 0, 20, 0x13, 0x80, 0, 0, 0, 0]);
    assert_eq!(parsed, Ok(State::new(Family::Tpm20)));
}

#[test]
fn uuids() {
    let text = "00112233-4455-6677-8899-aabbccddeeff";
    let uuid = Uuid::parse(text).unwrap();
    assert_eq!((uuid.0[0], uuid.0[15], uuid.to_string()), (0, 0xff, text.to_owned()));
    assert_eq!(Uuid::parse(&text.to_uppercase()), Some(uuid));
    for bad in ["", "0", &text[1..], &text.replace('-', ""), &format!("{text}0"), &text.replace('a', "g")] {
        assert_eq!(Uuid::parse(bad), None, "{bad}");
    }
    assert_eq!(Uuid::from_random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
}

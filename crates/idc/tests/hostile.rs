//! Peers that do not keep to the protocol. Each word that a peer may write is spoilt in each way that matters;
//! the honest side must name the fault, tell the peer, count it, and stay closed.
#![cfg(not(loom))]

mod common;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{
    A, B, CONTROL, DATA, EvilReader, EvilWriter, MAX_MESSAGE, World, evil_pool_writer, evil_reader,
    evil_writer, header, honest, world,
};
use idc::platform::Event;
use idc::platform::hosted::Hosted;
use idc::record::{Kind, Record};
use idc::setup::{PAGE_SIZE, control};
use idc::shm::Memory;
use idc::{CloseReason, Config, Deadline, Error, EvtchnPort, GrantRef, Reader, Violation, Writer};

const CLOSED_MISBEHAVED: u64 = 3 | (CloseReason::Misbehaved as u64) << 8;

fn near(world: &World) -> Deadline {
    world.a.deadline(Duration::from_secs(20))
}

/// An evil writer with a page of data, and the honest reader that has connected to it.
fn reading(world: &World) -> (EvilWriter, Reader<Hosted>) {
    let writer = evil_writer(world, 1, |_| ());
    let reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
    (writer, reader)
}

/// An evil reader of a page of data, and the honest writer.
fn writing(world: &World) -> (Writer<Hosted>, EvilReader) {
    let (writer, gref) = world.a.create(B, &honest()).expect("a ring");
    let reader = evil_reader(world, gref);
    reader.open(1 << 20);
    (writer, reader)
}

/// The honest reader finds the fault, and what follows from that.
fn reader_blames(world: &World, (writer, mut reader): (EvilWriter, Reader<Hosted>), reason: Violation) {
    let misbehaved = Error::PeerMisbehaved { peer: A, reason };
    let found = loop {
        match reader.recv_by(near(world)) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(found, Err(misbehaved));
    assert_eq!(reader.recv(), Err(misbehaved), "it stays closed");
    assert_eq!(reader.try_recv(), Err(misbehaved));
    assert_eq!(reader.peek_len(), Err(misbehaved));
    assert_eq!(writer.reader.load(control::STATE, Ordering::SeqCst), CLOSED_MISBEHAVED, "the peer is told");
    assert!(writer.port.wait(near(world).0).unwrap(), "and woken");
    assert_eq!(world.b.counters().violations(reason), 1);
    assert_eq!(world.b.counters().all_violations(), 1);
}

/// The honest writer finds the fault while it sends.
fn writer_blames(world: &World, (mut writer, reader): (Writer<Hosted>, EvilReader), reason: Violation) {
    let misbehaved = Error::PeerMisbehaved { peer: B, reason };
    // Until it has to look for room.
    let found = (0..100).find_map(|_| writer.send_by(&[1; 200], near(world)).err());
    assert_eq!(found, Some(misbehaved));
    assert_eq!(writer.send(b"x"), Err(misbehaved), "it stays closed");
    assert_eq!(writer.try_send(b"x"), Err(misbehaved));
    assert_eq!(writer.finish(), Err(misbehaved));
    assert_eq!(writer.wait_drained_by(near(world)), Err(misbehaved));
    assert_eq!(reader.writer.load(control::STATE, Ordering::SeqCst), CLOSED_MISBEHAVED, "the peer is told");
    assert!(reader.port.wait(near(world).0).unwrap(), "and woken");
    assert_eq!(world.a.counters().violations(reason), 1);
    assert_eq!(world.a.counters().all_violations(), 1);
}

/// Type and length of a record, and the first word of its payload.
type Part = (Kind, usize, Option<u64>);
type Parts = [Part];

/// Records one behind the other from the start of the data.
fn records(writer: &EvilWriter, records: &Parts) {
    let mut at = DATA;
    for (kind, len, first) in records {
        if let Some(word) = first {
            writer.own.store(at + 8, *word, Ordering::SeqCst);
        }
        writer.store(at, header(*kind, *len));
        at += Record::new(*kind, *len).span();
    }
}

#[test]
fn setup_pages() {
    type Spoil = fn(&mut idc::setup::Setup);
    let cases: [(Violation, Spoil); 4] = [
        (Violation::SetupPort, |setup| setup.port = Some(EvtchnPort(0))),
        (Violation::SetupGrant, |setup| setup.writer_ref = GrantRef(7)),
        (Violation::SetupGrant, |setup| setup.data_refs[0] = GrantRef(0)),
        (Violation::SetupGeometry, |setup| setup.data_refs.clear()),
    ];
    for (reason, spoil) in cases {
        let world = world();
        let writer = evil_writer(&world, 1, spoil);
        assert_eq!(world.b.connect(A, writer.gref).unwrap_err(), Error::PeerMisbehaved { peer: A, reason });
        assert_eq!(world.b.counters().violations(reason), 1);
    }
    let world = world();
    let writer = evil_writer(&world, 1, |_| ());
    writer.own.store(0, 1, Ordering::SeqCst);
    let reason = Violation::SetupMagic;
    assert_eq!(world.b.connect(A, writer.gref).unwrap_err(), Error::PeerMisbehaved { peer: A, reason });
    // Grants that are not what the page says: the data is another domain's, or writable where it must not be.
    let writer = evil_writer(&world, 1, |setup| setup.data_refs[0] = GrantRef(60_000));
    assert!(matches!(world.b.connect(A, writer.gref), Err(Error::BadGrant { peer: A, .. })));
    let writer = evil_writer(&world, 1, |setup| setup.reader_ref = setup.writer_ref);
    assert!(matches!(world.b.connect(A, writer.gref), Err(Error::BadGrant { peer: A, .. })));
    // A port that is not there.
    let writer = evil_writer(&world, 1, |setup| setup.port = Some(EvtchnPort(60_000)));
    assert_eq!(world.b.connect(A, writer.gref).unwrap_err(), Error::PeerDied { peer: A });
}

#[test]
fn a_setup_page_is_read_once() {
    let world = world();
    let (writer, mut reader) = reading(&world);
    for offset in (0..PAGE_SIZE).step_by(8) {
        writer.own.store(offset, u64::MAX, Ordering::SeqCst);
    }
    writer.own.store(DATA + 8, u64::from_le_bytes(*b"harmless"), Ordering::SeqCst);
    writer.store(DATA, header(Kind::Data, 8));
    assert_eq!(reader.recv().unwrap().as_deref(), Some(&b"harmless"[..]));
}

#[test]
fn record_headers() {
    let end = PAGE_SIZE - 8;
    let mut cases = vec![
        (Violation::RecordHeader, 1),
        (Violation::RecordHeader, 6 << 32),
        (Violation::RecordHeader, 0xff << 32),
        (Violation::RecordHeader, u64::MAX),
        (Violation::RecordLength, header(Kind::Data, end + 1)),
        (Violation::RecordLength, header(Kind::Data, u32::MAX as usize)),
        (Violation::RecordLength, header(Kind::Filler, end + 8)),
        // A filler at the start would lead to itself, for ever.
        (Violation::RecordFiller, header(Kind::Filler, end)),
        (Violation::RecordFiller, header(Kind::Filler, 8)),
        (Violation::Fragment, header(Kind::Fragment, 8)),
        (Violation::Fragment, header(Kind::Abort, 0)),
        (Violation::Fragment, header(Kind::First, 8)),
        (Violation::Fragment, header(Kind::First, 0)),
    ];
    cases.extend((41..64).map(|bit| (Violation::RecordHeader, header(Kind::Data, 8) | 1 << bit)));
    for (reason, word) in cases {
        let world = world();
        let pair = reading(&world);
        pair.0.store(DATA, word);
        reader_blames(&world, pair, reason);
    }
}

#[test]
fn fillers() {
    let world = world();
    let pair = reading(&world);
    // One at the end is right; a second one behind it is not.
    records(&pair.0, &[(Kind::Data, 1000, None)]);
    let at = DATA + 1008;
    pair.0.own.store(DATA, header(Kind::Data, 1000), Ordering::SeqCst);
    pair.0.store(at, header(Kind::Filler, PAGE_SIZE - 1008 - 8));
    let (writer, mut reader) = pair;
    assert_eq!(reader.recv().unwrap().map(|message| message.len()), Some(1000));
    writer.own.store(DATA, header(Kind::Filler, PAGE_SIZE - 8), Ordering::SeqCst);
    reader_blames(&world, (writer, reader), Violation::RecordFiller);
}

#[test]
fn descriptors() {
    let pooled = |kind, len| Record { kind, len, pooled: true }.encode();
    let page = PAGE_SIZE;
    let cases: [(Violation, u64, u64, u64); 9] = [
        // The next page is the first one; others are not, whether they are there or not.
        (Violation::PoolPage, pooled(Kind::Data, 100), 1, 0),
        (Violation::PoolPage, pooled(Kind::Data, 100), 4, 0),
        (Violation::PoolPage, pooled(Kind::Data, 100), u64::MAX, 0),
        (Violation::PoolPage, pooled(Kind::First, 100), 200, 1),
        (Violation::RecordLength, pooled(Kind::Data, 4 * page + 1), 0, 0),
        (Violation::RecordLength, pooled(Kind::Data, u32::MAX as usize), 0, 0),
        (Violation::RecordHeader, pooled(Kind::Data, 0), 0, 0),
        (Violation::RecordHeader, pooled(Kind::Abort, 8), 0, 0),
        (Violation::RecordHeader, pooled(Kind::Filler, page - 8), 0, 0),
    ];
    for (reason, header, first, second) in cases {
        let world = world();
        let writer = evil_pool_writer(&world, 1, 4, |_| ());
        let reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
        writer.own.store(DATA + 8, first, Ordering::SeqCst);
        writer.own.store(DATA + 16, second, Ordering::SeqCst);
        writer.store(DATA, header);
        reader_blames(&world, (writer, reader), reason);
    }
    // The same pages twice: the second time they are not the next ones.
    let world = world();
    let writer = evil_pool_writer(&world, 1, 4, |_| ());
    let reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
    writer.own.store(DATA + 16, pooled(Kind::Data, 5000), Ordering::SeqCst);
    writer.store(DATA, pooled(Kind::Data, 5000));
    reader_blames(&world, (writer, reader), Violation::PoolPage);
    // A ring without a pool has no descriptors.
    let world = common::world();
    let pair = reading(&world);
    pair.0.store(DATA, pooled(Kind::Data, 8));
    reader_blames(&world, pair, Violation::RecordLength);
}

#[test]
fn pool_pages_that_are_given_back() {
    for words in [&[u64::MAX][..], &[40], &[2, 1]] {
        let world = world();
        let (mut writer, gref) = world.a.create(B, &honest().with_pool(4)).unwrap();
        let reader = evil_reader(&world, gref);
        reader.open(1 << 20);
        // Four pages are taken; for more the writer looks.
        (0..4).for_each(|_| writer.send(&[1; 4000]).unwrap());
        let found = words.iter().find_map(|word| {
            reader.store(control::CONSUMED, 24);
            reader.store(control::POOL_CONSUMED, *word);
            (0..4).find_map(|_| match writer.try_send(&[1; 4000]) {
                Ok(()) | Err(Error::WouldBlock) => None,
                Err(error) => Some(error),
            })
        });
        let reason = Violation::PoolReturn;
        assert_eq!(found, Some(Error::PeerMisbehaved { peer: B, reason }), "{words:?}");
        assert_eq!(world.a.counters().violations(reason), 1);
    }
}

#[test]
fn slots() {
    let world = common::world();
    let slots = |setup: &mut idc::setup::Setup| setup.slots = 32;
    let headers = CONTROL + control::SLOTS;
    for (reason, word) in [
        (Violation::RecordLength, header(Kind::Data, 128)),
        (Violation::RecordFiller, header(Kind::Filler, 120)),
        (Violation::RecordHeader, 9 << 32),
    ] {
        let world = common::world();
        let writer = evil_writer(&world, 1, slots);
        let reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
        writer.store(headers, word);
        reader_blames(&world, (writer, reader), reason);
    }
    // An index that is not at the start of a slot.
    let (mut writer, gref) = world.a.create(B, &Config { pool: 0, ..Config::paper(32) }).unwrap();
    let reader = evil_reader(&world, gref);
    reader.open(1 << 20);
    let sent = (0..).take_while(|_| writer.try_send(&[1; 127]).is_ok()).count();
    assert_eq!(sent, 31, "one slot is empty");
    reader.store(control::CONSUMED, 64);
    let reason = Violation::ConsumedAhead;
    assert_eq!(writer.try_send(b"x"), Err(Error::PeerMisbehaved { peer: B, reason }));
}

#[test]
fn too_many_fragments() {
    // A byte at a time: the memory is capped by the length, and this caps the work.
    let world = world();
    let (writer, mut reader) = reading(&world);
    let mut at = 0;
    let mut put = |word: u64, first: Option<u64>, span: usize| {
        if let Some(first) = first {
            writer.own.store(DATA + at + 8, first, Ordering::SeqCst);
        }
        writer.own.store(DATA + (at + span) % PAGE_SIZE, 0, Ordering::SeqCst);
        writer.store(DATA + at, word);
        at = (at + span) % PAGE_SIZE;
    };
    put(header(Kind::First, 16), Some(5000), 24);
    // So that the ring ends with a record.
    put(header(Kind::Fragment, 1), None, 16);
    put(header(Kind::Fragment, 9), None, 24);
    let found = (0..400).find_map(|_| {
        put(header(Kind::Fragment, 1), None, 16);
        match reader.try_recv() {
            Err(Error::WouldBlock) => None,
            other => Some(other),
        }
    });
    let reason = Violation::FragmentCount;
    assert_eq!(found, Some(Err(Error::PeerMisbehaved { peer: A, reason })));
    assert_eq!(world.b.counters().violations(reason), 1);
}

#[test]
fn a_ring_that_is_larger_than_this_side_maps() {
    let world = world();
    let writer = evil_pool_writer(&world, 4, 4, |_| ());
    let small = Config { max_peer_pages: 7, ..honest() };
    assert!(matches!(world.b.connect_with(A, writer.gref, &small), Err(Error::Incompatible { .. })));
    let enough = Config { max_peer_pages: 8, ..honest() };
    assert!(world.b.connect_with(A, writer.gref, &enough).is_ok());
}

#[test]
fn long_messages() {
    let total = |bytes: u64| Some(bytes);
    let too_long = MAX_MESSAGE as u64 + 1;
    let cases: [(Violation, &Parts); 12] = [
        (Violation::MessageTooLarge, &[(Kind::First, 100, total(too_long))]),
        (Violation::MessageTooLarge, &[(Kind::First, 100, total(u64::MAX))]),
        // It would fit into its first record.
        (Violation::Fragment, &[(Kind::First, 100, total(92))]),
        (Violation::Fragment, &[(Kind::First, 100, total(0))]),
        (Violation::Fragment, &[(Kind::First, 100, total(200)), (Kind::First, 100, total(200))]),
        (Violation::Fragment, &[(Kind::First, 100, total(200)), (Kind::Data, 8, None)]),
        (Violation::Fragment, &[(Kind::First, 100, total(200)), (Kind::Fragment, 0, None)]),
        (Violation::Fragment, &[(Kind::First, 100, total(200)), (Kind::Fragment, 109, None)]),
        (Violation::Fragment, &[(Kind::First, 100, total(200)), (Kind::Abort, 8, None)]),
        (
            Violation::Fragment,
            &[(Kind::First, 100, total(200)), (Kind::Abort, 0, None), (Kind::Fragment, 8, None)],
        ),
        (
            Violation::Fragment,
            &[(Kind::First, 100, total(200)), (Kind::Fragment, 108, None), (Kind::Fragment, 8, None)],
        ),
        (
            Violation::RecordHeader,
            &[(Kind::First, 100, total(200)), (Kind::Fragment, 108, None), (Kind::Data, 8, None)],
        ),
    ];
    for (reason, list) in cases {
        let world = world();
        let pair = reading(&world);
        records(&pair.0, list);
        if reason == Violation::RecordHeader {
            // The honest case, with a spoilt header behind it.
            let end: usize = list.iter().map(|(kind, len, _)| Record::new(*kind, *len).span()).sum();
            pair.0.store(DATA + end, 7 << 32);
        }
        reader_blames(&world, pair, reason);
    }
    // A message in one record obeys the limit as well.
    let world = world();
    let writer = evil_writer(&world, 1, |_| ());
    let reader = world.b.connect_with(A, writer.gref, &honest().with_max_message(50)).unwrap();
    writer.store(DATA, header(Kind::Data, 51));
    reader_blames(&world, (writer, reader), Violation::MessageTooLarge);
}

#[test]
fn the_length_of_a_message_is_told_within_the_limit() {
    let world = world();
    let writer = evil_writer(&world, 1, |_| ());
    let mut reader = world.b.connect_with(A, writer.gref, &honest().with_max_message(50)).unwrap();
    writer.store(DATA, header(Kind::Data, 51));
    let blamed = Err(Error::PeerMisbehaved { peer: A, reason: Violation::MessageTooLarge });
    assert_eq!(reader.peek_len(), blamed);
}

#[test]
fn states_of_a_writer() {
    let finished = 2;
    for (reason, words) in [
        (Violation::StateUnknown, &[4][..]),
        (Violation::StateUnknown, &[1 | 1 << 8]),
        (Violation::StateUnknown, &[3 | 99 << 8]),
        (Violation::StateUnknown, &[u64::MAX]),
        (Violation::StateBack, &[0]),
    ] {
        let world = world();
        let pair = reading(&world);
        words.iter().for_each(|word| pair.0.store(CONTROL + control::STATE, *word));
        reader_blames(&world, pair, reason);
    }
    // From closed to open again, and from one reason to another.
    for (first, second) in [(3, 1), (3, 2), (3, 3 | 1 << 8)] {
        let world = world();
        let (writer, mut reader) = reading(&world);
        writer.store(CONTROL + control::STATE, finished);
        assert_eq!(reader.recv(), Ok(None));
        drop((writer, reader));
        let (writer, mut reader) = reading(&world);
        writer.store(DATA, 0);
        writer.store(CONTROL + control::STATE, first);
        assert_eq!(reader.try_recv(), Err(Error::PeerClosed { peer: A, reason: CloseReason::Dropped }));
        writer.store(CONTROL + control::STATE, second);
        assert_eq!(
            reader.try_recv(),
            Err(Error::PeerClosed { peer: A, reason: CloseReason::Dropped }),
            "what has ended stays so"
        );
    }
}

#[test]
fn armed_words_of_a_writer() {
    // The reader looks at the word when it gives back what it has consumed.
    for (first, second) in [(u64::MAX, None), (2 * 4096 + 9, None), (100, Some(99))] {
        let world = world();
        let (writer, mut reader) = reading(&world);
        writer.store(DATA, header(Kind::Data, 2000));
        writer.own.store(CONTROL + control::ARMED, first, Ordering::SeqCst);
        let result = reader.recv();
        let result = match second {
            None => result,
            Some(word) => {
                assert!(result.is_ok());
                writer.own.store(CONTROL + control::ARMED, word, Ordering::SeqCst);
                writer.store(DATA + 2008, header(Kind::Data, 2000));
                reader.recv()
            }
        };
        let reason = Violation::ArmedIndex;
        assert_eq!(result, Err(Error::PeerMisbehaved { peer: A, reason }));
        assert_eq!(world.b.counters().violations(reason), 1);
    }
}

#[test]
fn indices_of_a_reader() {
    for (reason, words) in [
        (Violation::ConsumedAhead, &[u64::MAX][..]),
        (Violation::ConsumedAhead, &[4096]),
        (Violation::ConsumedAhead, &[12]),
        (Violation::ConsumedBack, &[208 * 10, 208 * 9]),
    ] {
        let world = world();
        let (mut writer, reader) = writing(&world);
        let (last, before) = words.split_last().unwrap();
        for word in before {
            (0..15).for_each(|_| writer.send(&[1; 200]).unwrap());
            reader.store(control::CONSUMED, *word);
            // The writer looks at it when it needs room.
            (0..8).for_each(|_| writer.send(&[1; 200]).unwrap());
        }
        reader.store(control::CONSUMED, *last);
        writer_blames(&world, (writer, reader), reason);
    }
}

#[test]
fn armed_words_of_a_reader() {
    for (first, second) in [(u64::MAX, None), (208 + 2, None), (100, Some(99))] {
        let world = world();
        let (mut writer, reader) = writing(&world);
        reader.store(control::ARMED, first);
        if let Some(word) = second {
            writer.send(&[1; 200]).unwrap();
            reader.store(control::ARMED, word);
        }
        writer_blames(&world, (writer, reader), Violation::ArmedIndex);
    }
}

#[test]
fn states_of_a_reader() {
    for (reason, words) in [
        (Violation::StateUnknown, &[4][..]),
        (Violation::StateUnknown, &[u64::MAX]),
        // A reader has no end mark.
        (Violation::StateUnknown, &[2]),
        (Violation::StateBack, &[1, 0]),
    ] {
        let world = world();
        let (mut writer, reader) = writing(&world);
        writer.send(b"x").unwrap();
        words.iter().for_each(|word| reader.store(control::STATE, *word));
        writer_blames(&world, (writer, reader), reason);
    }
}

#[test]
fn a_reader_of_another_channel() {
    let world = world();
    let (writer, gref) = world.a.create(B, &honest()).unwrap();
    let reader = evil_reader(&world, gref);
    reader.store(control::ALIVE, 1);
    reader.store(control::NONCE, reader.setup.nonce ^ 1);
    reader.store(control::STATE, 1);
    writer_blames(&world, (writer, reader), Violation::Nonce);
}

#[test]
fn answers() {
    for word in [0, 7, 1 << 32, u64::MAX] {
        let world = world();
        let pending = world.a.offer(B, &honest()).unwrap();
        let reader = evil_reader(&world, pending.grant_ref());
        reader.store(control::REPLY_REF, word);
        reader.open(100);
        let reason = Violation::ReplyGrant;
        assert_eq!(pending.complete_by(near(&world)).unwrap_err(), Error::PeerMisbehaved { peer: B, reason });
        assert_eq!(world.a.counters().violations(reason), 1);
    }
    // A grant that is possible, but not there; and the client's own ring in place of an answer.
    let world = world();
    let pending = world.a.offer(B, &honest()).unwrap();
    let reader = evil_reader(&world, pending.grant_ref());
    reader.store(control::REPLY_REF, 50_000);
    reader.open(100);
    assert!(matches!(pending.complete_by(near(&world)), Err(Error::BadGrant { peer: B, .. })));
}

#[test]
fn every_violation_is_tested() {
    // Those that appear in a test as an expectation: here, in vchan's tests, and in those of its names.
    let names = include_str!("../src/vchan/name.rs").split_once("mod tests").map_or("", |(_, tests)| tests);
    let text = [include_str!("hostile.rs"), include_str!("vchan.rs"), names].concat();
    let missing: HashSet<_> = Violation::ALL
        .iter()
        .map(|violation| violation.name())
        .filter(|name| !text.contains(&format!("Violation::{name}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_process_that_dies_is_noticed_by_its_word() {
    // What the kernel does when a Linux process dies: it clears one byte and sends an event.
    let world = world();
    let (writer, mut reader) = reading(&world);
    writer.store(DATA, header(Kind::Data, 8));
    writer.store(CONTROL + control::ALIVE, 0);
    assert_eq!(reader.recv().unwrap().map(|message| message.len()), Some(8), "what was there comes first");
    assert_eq!(reader.recv(), Err(Error::PeerDied { peer: A }));
    // One that had said everything before is no surprise.
    let (writer, mut reader) = reading(&world);
    writer.store(CONTROL + control::STATE, 2);
    writer.store(CONTROL + control::ALIVE, 0);
    assert_eq!(reader.recv(), Ok(None));

    let (mut writer, reader) = writing(&world);
    writer.send(b"x").unwrap();
    reader.store(control::ALIVE, 0);
    assert_eq!(writer.send(b"x"), Err(Error::PeerDied { peer: B }));
    assert_eq!((world.a.counters().peers_died(), world.b.counters().peers_died()), (1, 1));
}

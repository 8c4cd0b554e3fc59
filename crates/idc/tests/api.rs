//! What a channel can do beside sending and receiving one message at a time.
#![cfg(not(loom))]

mod common;

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, duplex, noise, soon, world};
use idc::platform::Platform;
use idc::platform::hosted::Hosted;
use idc::{Channel, CloseReason, Config, Error, ListenConfig, Listener, Reader, Spin, Writer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn small() -> Config {
    Config::default().with_pages(1).with_max_message(1 << 20).with_spin(Spin::Never)
}

/// A one-way channel in each of the three geometries.
fn one_way(world: &common::World) -> Vec<(Writer<Hosted>, Reader<Hosted>)> {
    [small(), small().with_pool(4), Config::paper(8), Config::paper(128)]
        .iter()
        .map(|config| {
            let (writer, gref) = world.a.create(B, config).unwrap();
            (writer, world.b.connect(A, gref).unwrap())
        })
        .collect()
}

#[test]
fn a_loan_is_sent_when_it_is_committed_and_not_before() {
    let world = world();
    for (mut writer, mut reader) in one_way(&world) {
        let max = writer.max_inline();
        for len in 0..=max.min(200) {
            let message = noise(len, 3);
            let mut loan = writer.reserve(max).unwrap();
            assert_eq!((loan.len(), loan.room(), loan.is_empty()), (0, max, true));
            // In pieces that do not respect words.
            message.chunks(1 + len % 13).for_each(|piece| loan.append(piece).unwrap());
            assert_eq!((loan.len(), loan.room()), (len, max - len));
            assert_eq!(reader.try_recv(), Err(Error::WouldBlock));
            loan.commit().unwrap();
            assert_eq!(reader.try_recv().unwrap(), Some(message), "{len} bytes");
        }
        let mut loan = writer.reserve(max.min(20)).unwrap();
        loan.append(&[1; 15]).unwrap();
        let room = max.min(20);
        let too_long = loan.append(&noise(room - 14, 1));
        assert_eq!(too_long, Err(Error::MessageTooLarge { len: room as u64 + 1, max: room as u64 }));
        // It is given up: it was never there.
        let _ = loan;
        writer.send(b"next").unwrap();
        assert_eq!(reader.recv().unwrap().as_deref(), Some(&b"next"[..]));
        let too_much = writer.try_reserve(max + 1).map(|_| ());
        assert_eq!(too_much, Err(Error::MessageTooLarge { len: max as u64 + 1, max: max as u64 }));
        // A full ring.
        while writer.try_send(&vec![0; max]).is_ok() {}
        assert_eq!(writer.try_reserve(max).map(|_| ()), Err(Error::WouldBlock));
        let near = writer.deadline(Duration::from_millis(20));
        assert_eq!(writer.reserve_by(max, near).map(|_| ()), Err(Error::TimedOut));
        let receiver = thread::spawn(move || while reader.recv().unwrap() != Some(vec![]) {});
        writer.reserve(8).unwrap().commit().unwrap();
        receiver.join().unwrap();
    }
}

#[test]
fn a_look_does_not_take_the_message() {
    let world = world();
    for (mut writer, mut reader) in one_way(&world) {
        assert_eq!(reader.try_peek(), Err(Error::WouldBlock));
        // Short, and so long that it comes in parts or through the pool.
        for len in [5, 3000] {
            let message = noise(len, 8);
            let copy = message.clone();
            let sender = thread::spawn(move || {
                writer.send(&copy).unwrap();
                writer
            });
            assert_eq!(reader.peek().unwrap(), Some(&message[..]));
            assert_eq!(reader.try_peek().unwrap(), Some(&message[..]));
            assert_eq!(reader.peek_len(), Ok(Some(len)));
            assert_eq!(
                reader.try_recv_into(&mut [0; 4]),
                Err(Error::BufferTooSmall { needed: len, len: 4 }),
                "and it is still there"
            );
            let mut buf = vec![0; len];
            assert_eq!(reader.try_recv_into(&mut buf), Ok(Some(len)));
            assert!(buf == message);
            writer = sender.join().unwrap();
        }
        writer.send(b"last").unwrap();
        writer.close().unwrap();
        assert_eq!(reader.peek().unwrap(), Some(&b"last"[..]));
        assert_eq!(reader.recv().unwrap().as_deref(), Some(&b"last"[..]));
        assert_eq!(reader.peek(), Ok(None));
        assert_eq!(reader.stats().messages, 3);
    }
}

#[test]
fn a_corked_writer_wakes_nobody() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &small()).unwrap();
    let mut reader = world.b.connect_with(A, gref, &small()).unwrap();
    // Asleep, as far as the writer can see.
    assert_eq!(reader.arm(), Ok(false));
    writer.cork();
    writer.send(b"1").unwrap();
    writer.send_batch(&[b"2", b"3"]).unwrap();
    writer.try_send(b"4").unwrap();
    assert_eq!(writer.stats().events_sent, 0);
    // A reader that is awake sees them all the same.
    assert_eq!(reader.try_recv().unwrap().as_deref(), Some(&b"1"[..]));
    writer.flush().unwrap();
    assert_eq!(writer.stats().events_sent, 1);
    writer.send(b"5").unwrap();
    assert_eq!(reader.try_recv().map(|_| ()), Ok(()));
    (3..=5).for_each(|_| assert!(reader.try_recv().unwrap().is_some()));
    assert_eq!(reader.arm(), Ok(false));
    writer.send(b"6").unwrap();
    assert_eq!(writer.stats().events_sent, 1);
    writer.uncork().unwrap();
    assert_eq!(writer.stats().events_sent, 2);
    // A ring that is full ends it: the reader has to make room.
    writer.cork();
    let sender = thread::spawn(move || (0..100).for_each(|_| writer.send(&[0; 500]).unwrap()));
    (0..101).for_each(|_| assert!(reader.recv().unwrap().is_some()));
    sender.join().unwrap();
}

#[test]
fn batches_both_ways() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &small()).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    let messages: Vec<Vec<u8>> = (0..10).map(|seed| noise(300, seed)).collect();
    let parts: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let sent = writer.try_send_batch(&parts).unwrap();
    assert_eq!(sent, 10);
    assert_eq!(writer.try_send_batch(&parts), Ok(3), "13 of 312 bytes fit into a page");
    let mut got = Vec::new();
    let far = soon(&world.b);
    assert_eq!(reader.recv_batch(&mut got, 4, far), Ok(4));
    assert_eq!(reader.recv_batch(&mut got, 100, far), Ok(9));
    assert!(got[..10] == messages[..] && got[10..] == messages[..3]);
    let near = reader.deadline(Duration::from_millis(10));
    assert_eq!(reader.recv_batch(&mut got, 4, near), Err(Error::TimedOut));
    assert_eq!(writer.send_batch_by(&parts, writer.deadline(Duration::from_millis(10))), Ok(()));
    assert_eq!(
        writer.send_batch_by(&parts, writer.deadline(Duration::from_millis(10))),
        Err(Error::TimedOut)
    );
    writer.close().unwrap();
    while reader.recv_batch(&mut got, 3, far).unwrap() > 0 {}
    assert!(got.len() > 23);
    assert_eq!(reader.recv_batch(&mut got, 3, far), Ok(0), "the end stays the end");
}

#[test]
fn the_halves_of_a_channel_work_in_two_threads() {
    let world = world();
    let (ours, theirs) = duplex(&world, &small(), &small());
    const COUNT: u64 = 3000;
    // Both directions at full load, and each thread sleeps on the same descriptor as the other one.
    let play = |channel: Channel<Hosted>| {
        let (mut writer, mut reader) = channel.split();
        let far = writer.deadline(Duration::from_secs(60));
        let sender = thread::spawn(move || {
            (0..COUNT).for_each(|seed| writer.send_by(&noise(seed as usize % 700, seed), far).unwrap());
            writer.finish().unwrap();
            writer
        });
        let receiver = thread::spawn(move || {
            (0..COUNT).for_each(|seed| {
                assert!(reader.recv_by(far).unwrap() == Some(noise(seed as usize % 700, seed)));
            });
            assert_eq!(reader.recv_by(far), Ok(None));
            reader
        });
        (sender, receiver)
    };
    let start = Instant::now();
    let ends = [play(ours), play(theirs)];
    let mut checks = 0;
    for (sender, receiver) in ends {
        let (writer, reader) = (sender.join().unwrap(), receiver.join().unwrap());
        checks += writer.stats().liveness_checks + reader.stats().liveness_checks;
        // And back into one.
        drop(Channel::join(writer, reader));
    }
    // A wake-up that got lost would show as a sleep of 50 ms.
    assert!(checks < 1000, "{checks} sleeps were cut in {:?}", start.elapsed());
}

#[test]
fn a_half_that_waits_is_woken_by_its_own_news() {
    let world = world();
    let (ours, mut theirs) = duplex(&world, &small(), &small());
    let (mut writer, mut reader) = ours.split();
    let far = soon(&world.a);
    let receiver = thread::spawn(move || {
        let message = reader.recv_by(far);
        (message, reader)
    });
    // The ring is full, and this half sleeps too.
    let sender = thread::spawn(move || {
        let result = (0..20).try_for_each(|_| writer.send_by(&[1; 500], far));
        (result, writer)
    });
    theirs.send(b"for the reader").unwrap();
    let (message, reader) = receiver.join().unwrap();
    assert_eq!(message.unwrap().as_deref(), Some(&b"for the reader"[..]));
    (0..20).for_each(|_| assert!(theirs.recv_by(far).unwrap().is_some()));
    let (result, writer) = sender.join().unwrap();
    assert_eq!(result, Ok(()));
    // Half-close: the writer's half is gone, the reader's goes on.
    writer.close().unwrap();
    assert_eq!(theirs.recv_by(far), Ok(None));
    theirs.send(b"still there").unwrap();
    let mut reader = reader;
    assert_eq!(reader.recv_by(far).unwrap().as_deref(), Some(&b"still there"[..]));
}

#[test]
fn a_listener_counts_a_split_channel_until_both_halves_are_gone() {
    let world = world();
    let mut listener = Listener::bind(&world.b, "halves", ListenConfig::default()).unwrap();
    let (a, far) = (world.a.clone(), soon(&world.a));
    let client = thread::spawn(move || Channel::dial(&a, B, "halves", &small(), far).unwrap());
    let (writer, reader) = listener.accept_by(far).unwrap().split();
    let _client = client.join().unwrap();
    drop(writer);
    assert_eq!(listener.clients(), 1);
    drop(reader);
    assert_eq!(listener.clients(), 0);
}

#[test]
fn a_ring_is_renewed_for_the_next_reader() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &small().with_pool(2)).unwrap();
    let far = soon(&world.a);
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for epoch in 0..20u32 {
        assert_eq!(writer.epoch(), epoch);
        let mut reader = world.b.connect(A, gref).unwrap();
        assert!(matches!(writer.renew(), Err(Error::AlreadyConnected { .. })), "somebody is there");
        writer.send(b"short").unwrap();
        writer.send(&noise(3000, 1)).unwrap();
        assert_eq!(reader.recv_by(far).unwrap().as_deref(), Some(&b"short"[..]));
        assert!(reader.recv_by(far).unwrap() == Some(noise(3000, 1)));
        // What is left in the ring is not for the next one.
        writer.send(b"lost").unwrap();
        drop(reader);
        let gone = Error::PeerClosed { peer: B, reason: CloseReason::Dropped };
        assert_eq!(writer.send(b"nobody"), Err(gone));
        writer.renew().unwrap();
        assert_eq!(writer.is_connected(), Ok(false));
        if epoch == 0 {
            before = files();
        }
    }
    assert!(files() <= before + 8, "descriptors are left behind");
    // Also after the end mark, and before anybody has come.
    writer.finish().unwrap();
    writer.renew().unwrap();
    writer.send(b"early").unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    assert_eq!(reader.recv_by(far).unwrap().as_deref(), Some(&b"early"[..]));
    // Waiting for a reader is no loop while the last one is gone.
    drop(reader);
    assert!(writer.send(b"nobody").is_err());
    writer.renew().unwrap();
    let near = writer.deadline(Duration::from_millis(120));
    assert_eq!(writer.wait_connected_by(near), Err(Error::PeerNotConnected { peer: B }));
    assert!(writer.stats().liveness_checks < 100, "{:?}", writer.stats());
}

#[test]
fn a_client_dials_anew_with_the_same_pages() {
    let world = world();
    let far = soon(&world.a);
    let mut listener = Listener::bind(&world.b, "again", ListenConfig::default()).unwrap();
    let service = thread::spawn(move || {
        for _ in 0..3 {
            let mut client = listener.accept_by(far).unwrap();
            let message = client.recv_by(far).unwrap().unwrap();
            client.send(&message).unwrap();
            // And dies, so to say.
        }
    });
    let mut channel = Channel::dial(&world.a, B, "again", &small(), far).unwrap();
    let gref = channel.writer().grant_ref();
    for round in 0..3u8 {
        channel.send(&[round]).unwrap();
        assert_eq!(channel.recv_by(far).unwrap(), Some(vec![round]));
        assert!(matches!(channel.recv_by(far), Err(Error::PeerClosed { .. })));
        assert_eq!(channel.writer().grant_ref(), gref);
        if round < 2 {
            channel = channel.redial(&world.a, "again", &small(), far).unwrap();
        }
    }
    service.join().unwrap();
}

/// Waits for input, as a program with an event loop of its own does.
fn ready(end: &impl AsFd, milliseconds: i64) -> bool {
    let mut fds = [PollFd::new(end, PollFlags::IN)];
    let time = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
    poll(&mut fds, Some(&time)).unwrap() > 0
}

#[test]
fn a_program_polls_the_descriptor() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &small()).unwrap();
    let mut reader = world.b.connect_with(A, gref, &small()).unwrap();
    assert_eq!(reader.arm(), Ok(false));
    assert!(!ready(&reader, 0));
    writer.send(b"1").unwrap();
    assert!(ready(&reader, 40));
    assert_eq!(reader.take_event(), Ok(true));
    assert_eq!(reader.take_event(), Ok(false));
    assert!(!ready(&reader, 0));
    assert_eq!(reader.try_recv().unwrap().as_deref(), Some(&b"1"[..]));
    writer.send(b"2").unwrap();
    assert_eq!(reader.arm(), Ok(true), "it is there already");
    assert!(reader.try_recv().is_ok());
    // For a writer: the ring is full, then there is room.
    while writer.try_send(&[0; 500]).is_ok() {}
    let _ = writer.take_event();
    assert_eq!(writer.arm(500), Ok(false));
    assert!(!ready(&writer, 0));
    (0..4).for_each(|_| assert!(reader.try_recv().is_ok()));
    assert!(ready(&writer, 40));
    assert_eq!(writer.take_event(), Ok(true));
    assert_eq!(writer.try_send(&[0; 500]), Ok(()));
    assert_eq!(writer.arm(500), Ok(true));
    // A long message: what `arm` promises, `try_send` keeps.
    while writer.try_send(&[0; 500]).is_ok() {}
    assert_eq!(writer.arm(2000), Ok(false));
    while reader.try_recv().is_ok() {}
    assert!(ready(&writer, 40));
    assert_eq!((writer.arm(2000), writer.try_send(&[7; 2000])), (Ok(true), Ok(())));
    assert!(reader.try_recv().unwrap() == Some(vec![7; 2000]));
    // The end, orderly or not.
    while reader.take_event().unwrap() {}
    assert_eq!(reader.arm(), Ok(false));
    drop(writer);
    assert!(ready(&reader, 40));
    assert_eq!(reader.arm(), Ok(true));
    assert!(reader.try_recv().is_err());
}

#[test]
fn a_program_that_polls_finds_out_that_its_peer_is_gone() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &small()).unwrap();
    // A peer without a word: as a domain that is destroyed.
    let evil = common::evil_reader(&world, gref);
    evil.open(100);
    assert_eq!(writer.check_peer(), Ok(()));
    drop(evil);
    assert_eq!(writer.check_peer(), Err(Error::PeerDied { peer: B }));
    assert_eq!(writer.arm(1), Ok(true));
    assert_eq!(writer.try_send(b"x"), Err(Error::PeerDied { peer: B }));

    let evil = common::evil_writer(&world, 1, |_| ());
    let mut reader = world.b.connect(A, evil.gref).unwrap();
    evil.store(common::DATA, idc::record::Record::new(idc::record::Kind::Data, 0).encode());
    drop(evil);
    assert_eq!(reader.check_peer(), Ok(()), "there is something left");
    assert_eq!(reader.arm(), Ok(true));
    assert_eq!(reader.try_recv(), Ok(Some(vec![])));
    assert_eq!(reader.check_peer(), Err(Error::PeerDied { peer: A }));
    assert_eq!(reader.try_recv(), Err(Error::PeerDied { peer: A }));
}

/// An offer to a listener, without a client that waits for the answer.
fn offer_to_listener(world: &common::World) -> (idc::Pending<Hosted>, impl idc::platform::Call + use<>) {
    let pending = world.b.offer(A, &Config::default()).unwrap();
    let service = idc::ServiceName::new("brief").unwrap();
    let dial = idc::platform::Dial { peer: A, service, gref: pending.grant_ref(), id: 1 };
    let call = world.raw_b.call(dial, soon(&world.b).0).unwrap();
    (pending, call)
}

#[test]
fn what_a_service_says_before_it_closes_at_once_is_received() {
    for finish in [true, false] {
        let world = world();
        let mut listener = Listener::bind(&world.a, "brief", ListenConfig::default()).unwrap();
        let (pending, _call) = offer_to_listener(&world);
        // All of this before the client looks.
        let mut channel = listener.accept_by(soon(&world.a)).unwrap();
        channel.send(b"all that there is to say").unwrap();
        if finish {
            channel.finish().unwrap();
        }
        drop(channel);
        assert_eq!(listener.clients(), 1, "its ring is kept");
        let mut client = pending.complete_by(soon(&world.b)).unwrap();
        assert_eq!(listener.clients(), 0, "it has connected");
        let said = client.recv_by(soon(&world.b)).unwrap();
        assert_eq!(said.as_deref(), Some(&b"all that there is to say"[..]));
        let closed = Error::PeerClosed { peer: A, reason: CloseReason::Dropped };
        assert_eq!(client.recv_by(soon(&world.b)), if finish { Ok(None) } else { Err(closed) });
        assert_eq!(client.send(b"is anybody there?"), Err(closed));
    }
}

#[test]
fn a_ring_is_not_kept_for_a_client_that_has_gone() {
    let world = world();
    let mut listener = Listener::bind(&world.a, "brief", ListenConfig::default()).unwrap();
    let (pending, call) = offer_to_listener(&world);
    drop(listener.accept_by(soon(&world.a)).unwrap());
    assert_eq!(listener.clients(), 1);
    drop((pending, call));
    assert_eq!(listener.clients(), 0);
    // Without a listener nothing is kept: the client is told how the channel ended.
    let pending = world.b.offer(A, &Config::default()).unwrap();
    drop(world.a.answer(B, pending.grant_ref(), &Config::default()).unwrap());
    let closed = Error::PeerClosed { peer: A, reason: CloseReason::Dropped };
    assert_eq!(pending.complete_by(soon(&world.b)).unwrap_err(), closed);
}

#[test]
fn brief_services_lose_nothing() {
    let world = world();
    let mut listener = Listener::bind(&world.a, "brief", ListenConfig::default()).unwrap();
    let deadline = soon(&world.a);
    thread::scope(|scope| {
        // The listener outlives the last channel.
        scope.spawn(|| {
            for number in 0..200u64 {
                let mut channel = listener.accept_by(deadline).unwrap();
                channel.send(&number.to_le_bytes()).unwrap();
            }
        });
        for number in 0..200u64 {
            let mut channel =
                Channel::dial(&world.b, A, "brief", &Config::default(), soon(&world.b)).unwrap();
            assert_eq!(channel.recv_by(soon(&world.b)), Ok(Some(number.to_le_bytes().to_vec())));
        }
    });
}

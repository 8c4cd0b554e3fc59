//! Channels between two hosted domains in one process: what they promise to an honest peer.
#![cfg(not(loom))]

mod common;

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, duplex, noise, soon, world};
use idc::{Channel, CloseReason, Config, Deadline, Error, Spin};

const SMALL: Config =
    Config { pages: 1, slots: 0, pool: 0, max_peer_pages: 512, max_message: 1 << 20, spin: Spin::Adaptive };

#[test]
fn every_length_arrives_unchanged() {
    let world = world();
    let paper = |slots| Config { max_message: 1 << 20, ..Config::paper(slots) };
    let configs = [
        (SMALL, 1016),
        (SMALL.with_pages(3), 3064),
        (SMALL.with_pages(64), 16 << 10),
        (SMALL.with_pages(17), 16 << 10),
        (SMALL.with_pool(1), 1016),
        (SMALL.with_pages(2).with_pool(7), 2040),
        (SMALL.with_pages(16).with_pool(32), 16376),
        (paper(8), 511),
        (paper(32), 127),
        (paper(128), 31),
        (paper(128).with_pool(1), 31),
        (paper(8).with_pool(0), 511),
    ];
    for (config, inline) in configs {
        let (mut writer, gref) = world.a.create(B, &config).unwrap();
        let mut reader = world.b.connect(A, gref).unwrap();
        assert_eq!(writer.max_inline(), inline, "the size of one record");
        let mut lengths: Vec<usize> = (0..70).collect();
        let pages = config.pages;
        let pooled = config.pool.div_ceil(4).max(1) * 4096;
        for edge in [inline, 2 * inline, pages * 4096, pooled, 2 * pooled, 9 * pooled] {
            lengths.extend(edge.saturating_sub(9)..edge + 10);
        }
        // Several times round the ring.
        lengths.push(16 * pages.min(16) * 4096 + 5);
        let sent = lengths.clone();
        let sender = thread::spawn(move || {
            for (seed, len) in sent.into_iter().enumerate() {
                writer.send(&noise(len, seed as u64)).unwrap();
            }
            writer.close().unwrap();
        });
        let mut buf = vec![0; lengths.iter().copied().max().unwrap()];
        for (seed, len) in lengths.into_iter().enumerate() {
            // Both ways of receiving, in turn.
            let got = if seed % 2 == 0 {
                reader.recv().unwrap().expect("a message")
            } else {
                let got = reader.recv_into(&mut buf).unwrap().expect("a message");
                buf[..got].to_vec()
            };
            assert!(got == noise(len, seed as u64), "message {seed} of {len} bytes with {config:?}");
        }
        assert_eq!(reader.recv(), Ok(None));
        assert_eq!(reader.recv(), Ok(None), "the end stays the end");
        sender.join().unwrap();
    }
}

#[test]
fn many_small_messages_keep_their_order_and_cost_few_events() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &Config::default()).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    const COUNT: u64 = 200_000;
    let sender = thread::spawn(move || {
        for number in 0..COUNT {
            writer.send(&number.to_le_bytes()).unwrap();
        }
        writer.finish().unwrap();
        writer.stats()
    });
    let mut buf = [0; 8];
    for number in 0..COUNT {
        assert_eq!(reader.recv_into(&mut buf), Ok(Some(8)));
        assert_eq!(u64::from_le_bytes(buf), number);
    }
    assert_eq!(reader.recv_into(&mut buf), Ok(None));
    let (sent, received) = (sender.join().unwrap(), reader.stats());
    assert_eq!((sent.messages, sent.bytes), (COUNT, COUNT * 8));
    assert_eq!((received.messages, received.bytes), (COUNT, COUNT * 8));
    // Each time that one end asks for an event costs the other one at most, and connecting and finishing cost one each.
    assert!(received.arms >= received.parks && sent.arms >= sent.parks, "{sent:?} {received:?}");
    assert!(sent.events_sent <= received.arms + 2, "{sent:?} {received:?}");
    assert!(received.events_sent <= sent.arms + 2, "{sent:?} {received:?}");
}

#[test]
fn a_batch_costs_one_event() {
    let world = world();
    let config = Config { spin: Spin::Never, ..Config::default() };
    let (mut writer, gref) = world.a.create(B, &config).unwrap();
    let mut reader = world.b.connect_with(A, gref, &config).unwrap();
    let far = soon(&world.b);
    let receiver = thread::spawn(move || {
        assert_eq!(reader.recv_by(far).unwrap().as_deref(), Some(&b"0"[..]));
        (1..1000).for_each(|_| assert!(reader.recv_by(far).unwrap().is_some()));
        reader
    });
    // The reader sleeps when it has armed; it armed before its first liveness check, 50 ms after it began.
    thread::sleep(Duration::from_millis(120));
    writer.send_batch(&[&b"0"[..]; 1000]).unwrap();
    let reader = receiver.join().unwrap();
    assert_eq!(reader.stats().messages, 1000);
    assert!(writer.stats().events_sent <= 1, "{:?}", writer.stats());
    writer.close().unwrap();
}

#[test]
fn without_waiting() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    assert_eq!(writer.is_connected(), Ok(false));
    let mut reader = world.b.connect(A, gref).unwrap();
    assert_eq!(writer.is_connected(), Ok(true));
    assert_eq!(reader.try_recv(), Err(Error::WouldBlock));
    assert_eq!(reader.peek_len(), Ok(None));
    let mut sent = 0;
    while writer.try_send(&[7; 100]).is_ok() {
        sent += 1;
    }
    assert_eq!(writer.try_send(&[7; 100]), Err(Error::WouldBlock));
    assert!(sent >= 36, "{sent} of 37 messages of 112 bytes fit into a page");
    assert_eq!(reader.peek_len(), Ok(Some(100)));
    assert_eq!(
        reader.try_recv_into(&mut [0; 99]),
        Err(Error::BufferTooSmall { needed: 100, len: 99 }),
        "and the message stays"
    );
    for _ in 0..sent {
        assert_eq!(reader.try_recv().unwrap().as_deref(), Some(&[7; 100][..]));
    }
    assert_eq!(reader.try_recv(), Err(Error::WouldBlock));
    // A long message goes if all of it fits, and not otherwise.
    assert_eq!(writer.try_send(&noise(2000, 1)), Ok(()));
    assert_eq!(reader.peek_len(), Ok(Some(2000)));
    assert_eq!(writer.try_send(&noise(2000, 2)), Err(Error::WouldBlock));
    assert_eq!(reader.try_recv().unwrap(), Some(noise(2000, 1)));
    assert!(matches!(writer.try_send(&[0; 4096]), Err(Error::MessageTooLarge { len: 4096, .. })));
    writer.finish().unwrap();
    assert_eq!(writer.try_send(b"more"), Err(Error::Finished));
    assert_eq!(reader.try_recv(), Ok(None));
}

#[test]
fn a_long_message_survives_deadlines() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    let long = noise(3000, 5);
    // The reader gets the beginning, gives up, and goes on later, in either way of receiving.
    for round in 0..4 {
        let copy = long.clone();
        writer.try_send(&copy[..1]).unwrap();
        let deadline = writer.deadline(Duration::from_secs(60));
        let sender = thread::spawn(move || {
            writer.send_by(&copy, deadline).unwrap();
            writer
        });
        assert_eq!(reader.recv().unwrap().map(|message| message.len()), Some(1));
        let mut buf = vec![0; 3000];
        let message = loop {
            let deadline = reader.deadline(Duration::from_micros(20));
            let got = if round % 2 == 0 {
                reader.recv_by(deadline)
            } else {
                reader.recv_into_by(&mut buf, deadline).map(|len| len.map(|len| buf[..len].to_vec()))
            };
            match got {
                Ok(message) => break message,
                Err(Error::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert!(message.as_ref() == Some(&long));
        writer = sender.join().unwrap();
    }
}

#[test]
fn a_message_that_was_given_up_does_not_arrive() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    let deadline = writer.deadline(Duration::from_millis(30));
    assert_eq!(writer.send_by(&noise(100_000, 1), deadline), Err(Error::TimedOut));
    // The ring is full of its beginning. The next message waits for the reader to drop that.
    let sender = thread::spawn(move || {
        writer.send(b"next").unwrap();
        writer.close().unwrap();
    });
    assert_eq!(reader.recv().unwrap().as_deref(), Some(&b"next"[..]));
    assert_eq!(reader.recv(), Ok(None));
    sender.join().unwrap();
}

#[test]
fn the_receiver_limits_the_length() {
    let world = world();
    let config = Config::default().with_max_message(100_000);
    let (mut writer, gref) = world.a.create(B, &config).unwrap();
    let reader = world.b.connect_with(A, gref, &config).unwrap();
    assert_eq!(writer.send(&[0; 100_001]), Err(Error::MessageTooLarge { len: 100_001, max: 100_000 }));
    assert_eq!(writer.try_send(&[0; 100_001]), Err(Error::MessageTooLarge { len: 100_001, max: 100_000 }));
    assert_eq!(writer.send(&[0; 100_000]), Ok(()), "and the channel is still good");
    drop(reader);
}

#[test]
fn a_full_ring_has_a_deadline() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let limit = Duration::from_millis(80);
    let fill = |writer: &mut idc::Writer<_>| {
        loop {
            let start = Instant::now();
            let deadline = writer.deadline(limit);
            match writer.send_by(&[0; 500], deadline) {
                Ok(()) => {}
                Err(error) => break (error, start.elapsed()),
            }
        }
    };
    let (error, waited) = fill(&mut writer);
    assert_eq!(error, Error::PeerNotConnected { peer: B });
    assert!(waited >= limit, "{waited:?}");
    let _reader = world.b.connect(A, gref).unwrap();
    let (error, waited) = fill(&mut writer);
    assert_eq!(error, Error::TimedOut);
    assert!(waited >= limit, "{waited:?}");
}

#[test]
fn half_close_drains_and_the_other_direction_goes_on() {
    let world = world();
    let (mut ours, mut theirs) = duplex(&world, &SMALL, &SMALL);
    for _ in 0..10 {
        ours.send(b"question").unwrap();
    }
    ours.finish().unwrap();
    assert_eq!(ours.send(b"more"), Err(Error::Finished));
    for _ in 0..10 {
        assert_eq!(theirs.recv().unwrap().as_deref(), Some(&b"question"[..]));
    }
    assert_eq!(theirs.recv(), Ok(None));
    theirs.send(b"answer").unwrap();
    assert_eq!(ours.recv().unwrap().as_deref(), Some(&b"answer"[..]));
    theirs.finish().unwrap();
    assert_eq!(ours.recv(), Ok(None));
}

#[test]
fn a_dropped_end_is_no_end_of_the_stream() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    writer.send(b"half of it").unwrap();
    drop(writer);
    assert_eq!(reader.recv().unwrap().as_deref(), Some(&b"half of it"[..]));
    let closed = |peer| Error::PeerClosed { peer, reason: CloseReason::Dropped };
    assert_eq!(reader.recv(), Err(closed(A)));
    assert_eq!(reader.recv(), Err(closed(A)));

    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    drop(world.b.connect(A, gref).unwrap());
    assert_eq!(writer.send(b"nobody reads this"), Err(closed(B)));
    assert_eq!(writer.send(b"nor this"), Err(closed(B)));
    assert_eq!(writer.finish(), Err(closed(B)));
}

#[test]
fn a_closed_channel_ends_a_wait() {
    let world = world();
    let (mut ours, theirs) = duplex(&world, &SMALL, &SMALL);
    let waiting = thread::spawn(move || (ours.recv(), ours));
    thread::sleep(Duration::from_millis(20));
    drop(theirs);
    let (result, mut ours) = waiting.join().unwrap();
    assert_eq!(result, Err(Error::PeerClosed { peer: B, reason: CloseReason::Dropped }));
    assert!(ours.send(b"hello?").is_err());
}

#[test]
fn both_sides_may_send_at_once() {
    // Each side sends as much as a ring holds before it reads: neither may wait for space that is free in truth.
    let world = world();
    let (ours, theirs) = duplex(&world, &SMALL, &SMALL);
    let play = |mut channel: Channel<_>| {
        thread::spawn(move || {
            for round in 0..200u64 {
                for _ in 0..7 {
                    channel.send(&noise(400, round)).unwrap();
                }
                for _ in 0..7 {
                    assert_eq!(channel.recv().unwrap(), Some(noise(400, round)));
                }
            }
            channel
        })
    };
    let (ours, theirs) = (play(ours), play(theirs));
    ours.join().unwrap();
    theirs.join().unwrap();
}

#[test]
fn a_send_that_waits_gives_back_what_was_received() {
    let world = world();
    let (mut ours, mut theirs) = duplex(&world, &SMALL, &SMALL);
    let deadline = ours.deadline(Duration::from_secs(20));
    let mut full = 0;
    while ours.try_send(&[1; 200]).is_ok() {
        full += 1;
    }
    // Less than a quarter of the ring, so it is not given back yet.
    (0..4).for_each(|_| assert!(theirs.recv().unwrap().is_some()));
    // They send more than their ring holds, and we do not read before we have sent one more.
    let other = thread::spawn(move || {
        (0..30).for_each(|_| theirs.send_by(&[2; 200], deadline).unwrap());
        theirs
    });
    ours.send_by(&[1; 200], deadline).unwrap();
    (0..30).for_each(|_| assert!(ours.recv_by(deadline).unwrap().is_some()));
    let mut theirs = other.join().unwrap();
    (4..=full).for_each(|_| assert!(theirs.recv().unwrap().is_some()));
}

#[test]
fn drained_means_read() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let mut reader = world.b.connect(A, gref).unwrap();
    assert_eq!(writer.wait_drained_by(Deadline(0)), Ok(()));
    writer.send(b"1").unwrap();
    writer.finish().unwrap();
    let soon = writer.deadline(Duration::from_millis(30));
    assert_eq!(writer.wait_drained_by(soon), Err(Error::TimedOut));
    let waiting = thread::spawn(move || writer.wait_drained_by(Deadline::NEVER));
    assert!(reader.recv().unwrap().is_some());
    assert_eq!(reader.recv(), Ok(None));
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn a_reader_that_has_taken_everything_may_leave() {
    for taken in [3, 2] {
        let world = world();
        let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
        let mut reader = world.b.connect(A, gref).unwrap();
        (0..3).for_each(|_| writer.send(b"1").unwrap());
        writer.finish().unwrap();
        (0..taken).for_each(|_| assert!(reader.recv().unwrap().is_some()));
        drop(reader);
        let drained = writer.wait_drained_by(Deadline::NEVER);
        if taken == 3 {
            assert_eq!((drained, writer.send(b"more")), (Ok(()), Err(Error::Finished)));
        } else {
            assert!(matches!(drained, Err(Error::PeerClosed { peer: B, .. })), "{drained:?}");
        }
    }
}

#[test]
fn streams_of_bytes() {
    let world = world();
    let (mut ours, mut theirs) = duplex(&world, &SMALL, &Config::default());
    let data = noise(300_000, 9);
    let copy = data.clone();
    let echo = thread::spawn(move || {
        let (mut write, mut read) = theirs.streams();
        let mut all = Vec::new();
        read.read_to_end(&mut all).unwrap();
        write.write_all(&all).unwrap();
        write.finish().unwrap();
    });
    let (mut write, mut read) = ours.streams();
    // Pieces of all sizes, read in pieces of other sizes.
    let mut rest = &copy[..];
    let mut size = 1;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        write.write_all(now).unwrap();
        rest = later;
        size = size % 5000 + 37;
    }
    write.finish().unwrap();
    let mut back = Vec::new();
    let mut piece = [0; 777];
    loop {
        match read.read(&mut piece).unwrap() {
            0 => break,
            len => back.extend_from_slice(&piece[..len]),
        }
    }
    assert!(back == data);
    echo.join().unwrap();

    let (mut ours, theirs) = duplex(&world, &SMALL, &SMALL);
    drop(theirs);
    let error = ours.streams().1.read(&mut piece).expect_err("a stream that was cut off");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_stream_has_a_timeout() {
    let world = world();
    let (mut ours, _theirs) = duplex(&world, &SMALL, &SMALL);
    let (_, mut read) = ours.streams();
    read.set_timeout(Some(Duration::from_millis(20)));
    assert_eq!(read.read(&mut [0; 8]).expect_err("nothing").kind(), std::io::ErrorKind::TimedOut);
}

//! Peers that spoil shared words, or send events or parts of messages, all the time while the honest side works.
#![cfg(not(loom))]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A, B, CONTROL, DATA, MAX_MESSAGE, evil_pool_writer, evil_reader, evil_writer, header, honest, noise,
    world,
};
use idc::platform::Event;
use idc::record::Kind;
use idc::setup::{PAGE_SIZE, control};
use idc::shm::Memory;
use idc::{Config, Error};

/// Runs `evil` over and over in another thread while `honest` runs.
fn besieged<T>(evil: impl FnMut(u64) + Send, honest: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let mut evil = evil;
    thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(&mut evil));
        let result = honest();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn events_without_end_do_not_keep_a_deadline_from_passing() {
    let world = world();
    let writer = evil_writer(&world, 1, |_| ());
    let mut reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
    let events = AtomicU64::new(0);
    let start = Instant::now();
    let result = besieged(
        |_| {
            writer.port.notify().unwrap();
            events.fetch_add(1, Ordering::Relaxed);
        },
        || reader.recv_by(world.b.deadline(Duration::from_millis(300))),
    );
    assert_eq!(result, Err(Error::TimedOut));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let stats = reader.stats();
    assert_eq!(world.b.counters().storms(), 1);
    // After 64 useless ones it stops to listen; from then on it looks once in a millisecond at most.
    assert!(stats.wakes <= 64, "{stats:?} of {events:?}");
    assert!(stats.parks <= 64 + 300, "{stats:?}");
}

#[test]
fn parts_without_end_do_not_keep_a_deadline_from_passing() {
    // A writer that begins long messages and gives them up, as fast as they are read.
    let world = world();
    let writer = evil_writer(&world, 1, |_| ());
    let mut reader = world.b.connect_with(A, writer.gref, &honest()).unwrap();
    let turns = AtomicU64::new(0);
    let start = Instant::now();
    let result = besieged(
        |turn| {
            // 32 bytes a turn: a first record and its abort. Within the room that the reader has given back.
            let done = || writer.reader.load(control::CONSUMED, Ordering::SeqCst);
            while turn * 32 + 40 - done() > PAGE_SIZE as u64 && start.elapsed() < Duration::from_secs(1) {
                thread::yield_now();
            }
            let at = turn as usize * 32 % PAGE_SIZE;
            writer.own.store(DATA + at + 24, header(Kind::Abort, 0), Ordering::SeqCst);
            writer.own.store(DATA + (at + 32) % PAGE_SIZE, 0, Ordering::SeqCst);
            writer.own.store(DATA + at + 8, 100, Ordering::SeqCst);
            writer.own.store(DATA + at, header(Kind::First, 16), Ordering::SeqCst);
            turns.store(turn, Ordering::Relaxed);
        },
        || reader.recv_by(world.b.deadline(Duration::from_millis(300))),
    );
    assert_eq!(result, Err(Error::TimedOut));
    // More than a ring full of them.
    assert!(turns.load(Ordering::Relaxed) > 130, "the attack is too weak: {turns:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A stream of numbers that looks like what a peer might store, and sometimes like anything.
struct Chaos(u64);

impl Chaos {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn word(&mut self) -> u64 {
        let number = self.next();
        match number % 8 {
            0 => number,
            1 => 0,
            2 => number >> 60,
            3 => (number >> 40) & 0xfff8,
            4 => 3 | ((number >> 50) & 7) << 8,
            5 => ((number >> 20) & 0x3fff) | ((number >> 50) & 7) << 32 | 1 << 40,
            _ => ((number >> 20) & 0x7ff) | ((number >> 50) & 7) << 32,
        }
    }
}

#[test]
fn chaos_of_a_writer() {
    let end = Instant::now() + Duration::from_secs(4);
    let mut seen = HashSet::new();
    for seed in 1.. {
        if Instant::now() > end {
            break;
        }
        let world = world();
        // In each geometry.
        let (pool, slots) = if seed % 2 == 0 { (0, 0) } else { (3, [0, 8, 128][seed as usize % 3]) };
        let writer = evil_pool_writer(&world, 1, pool, |setup| setup.slots = slots);
        let mut reader = world.b.connect_with(A, writer.gref, &honest()).expect("an honest setup page");
        let headers = if slots == 0 { DATA } else { CONTROL + control::SLOTS };
        let mut chaos = Chaos(seed);
        let result = besieged(
            |_| {
                for _ in 0..64 {
                    let number = chaos.next();
                    // Mostly the first records; sometimes the rest, the control page and the setup page.
                    let at = match number % 16 {
                        0 => (number >> 8) as usize % (3 * PAGE_SIZE / 8) * 8,
                        1 => CONTROL + (number >> 8) as usize % 3 * 8,
                        _ => headers + (number >> 8) as usize % 64 * 8,
                    };
                    let word = chaos.word();
                    writer.own.store(at, word, Ordering::SeqCst);
                }
                writer.port.notify().unwrap();
            },
            || {
                let deadline = world.b.deadline(Duration::from_millis(200));
                let mut buf = [0; MAX_MESSAGE];
                loop {
                    match reader.recv_into_by(&mut buf, deadline) {
                        Ok(Some(len)) => assert!(len <= MAX_MESSAGE),
                        other => break other,
                    }
                }
            },
        );
        match result {
            Err(Error::PeerMisbehaved { reason, .. }) => {
                seen.insert(reason);
            }
            Ok(None) | Err(Error::TimedOut | Error::PeerClosed { .. } | Error::PeerDied { .. }) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(seen.len() >= 3, "the attack is too weak: {seen:?}");
}

#[test]
fn chaos_of_a_reader() {
    let end = Instant::now() + Duration::from_secs(4);
    let mut seen = HashSet::new();
    let message = noise(5000, 1);
    for seed in 1.. {
        if Instant::now() > end {
            break;
        }
        let world = world();
        let config =
            if seed % 2 == 0 { honest() } else { Config { pages: 1, ..Config::paper(32) }.with_pool(3) };
        let (mut writer, gref) = world.a.create(B, &config).expect("a ring");
        let reader = evil_reader(&world, gref);
        reader.open(1 << 20);
        let mut chaos = Chaos(seed);
        let result = besieged(
            |_| {
                let at = [
                    control::STATE,
                    control::ALIVE,
                    control::ARMED,
                    control::CONSUMED,
                    control::MAX_MESSAGE,
                    control::POOL_CONSUMED,
                ][chaos.next() as usize % 6];
                // Sometimes what an honest reader could store, so that the writer gets further.
                let word = match (at, chaos.next() % 4) {
                    (control::STATE | control::ALIVE, 1..) => 1,
                    (control::POOL_CONSUMED, 1..) => chaos.next() % 8,
                    (_, 1..) => chaos.next() % 600 * 8,
                    _ => chaos.word(),
                };
                reader.own.store(at, word, Ordering::SeqCst);
                reader.port.notify().unwrap();
            },
            || {
                let deadline = world.a.deadline(Duration::from_millis(200));
                (1..).find_map(|len| writer.send_by(&message[..len * 37 % 5000], deadline).err())
            },
        );
        match result {
            Some(Error::PeerMisbehaved { reason, .. }) => {
                seen.insert(reason);
            }
            Some(
                Error::TimedOut
                | Error::PeerClosed { .. }
                | Error::PeerDied { .. }
                | Error::MessageTooLarge { .. }
                | Error::PeerNotConnected { .. },
            ) => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(seen.len() >= 3, "the attack is too weak: {seen:?}");
}

//! Vchans between hosted "domains": streams in every geometry, ends, and peers that do not keep to the protocol. The
//! test bed tries the same code against libxenvchan itself.
#![cfg(all(feature = "vchan", not(loom)))]

mod common;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use common::{A, B, World, noise, world};
use idc::platform::hosted::Hosted;
use idc::platform::{Access, Event, Granted, Platform};
use idc::shm::{Fields, Memory};
use idc::vchan::{Config, RING_MAX, Server, Vchan};
use idc::{Deadline, Error, EvtchnPort, GrantRef, Violation};

type HostedMemory = <Hosted as Platform>::Memory;
type HostedEvent = <Hosted as Platform>::Event;

const LEFT_CONSUMED: usize = 0;
const LEFT_PRODUCED: usize = 4;
const RIGHT_CONSUMED: usize = 8;
const RIGHT_PRODUCED: usize = 12;
const ORDERS: usize = 16;
const CLIENT_LIVE: usize = 20;
const SERVER_LIVE: usize = 21;
const CLIENT_NOTIFY: usize = 22;
const SERVER_NOTIFY: usize = 23;
const GRANTS: usize = 24;

fn near(world: &World) -> Deadline {
    world.a.deadline(Duration::from_secs(60))
}

fn sizes(read_size: usize, write_size: usize) -> Config {
    Config { read_size, write_size }
}

/// A is the server, B the client.
fn pair(world: &World, config: &Config) -> (Vchan<Hosted>, Vchan<Hosted>) {
    let server = Server::new(&world.a, B, config).unwrap();
    let client = Vchan::attach(&world.b, A, server.grant_ref(), server.port()).unwrap();
    (server.accept_by(near(world)).unwrap(), client)
}

#[test]
fn bytes_go_both_ways_in_every_geometry() {
    for (read, write) in [
        (1, 1),
        (1024, 2048),
        (2048, 1024),
        (1024, 65_536),
        (65_536, 2048),
        (4096, 4096),
        (RING_MAX, RING_MAX),
    ] {
        let world = world();
        let (mut server, mut client) = pair(&world, &sizes(read, write));
        assert_eq!((server.sizes().0, server.sizes().1), (client.sizes().1, client.sizes().0));
        assert!(server.sizes().0 >= read && server.sizes().1 >= write);
        let text = noise(300_000, read as u64);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buf = [0; 777];
                loop {
                    match server.read_by(&mut buf, near(&world)).unwrap() {
                        0 => break,
                        len => server.write_all_by(&buf[..len], near(&world)).unwrap(),
                    }
                }
                assert!(!server.is_open().unwrap());
            });
            // No more under way than the rings hold: nobody reads while this side writes.
            for (number, piece) in text.chunks(1000).enumerate() {
                client.write_all_by(piece, near(&world)).unwrap();
                let mut back = vec![0; piece.len()];
                let mut got = 0;
                while got < back.len() {
                    got += client.read_by(&mut back[got..], near(&world)).unwrap();
                }
                assert!(back == piece, "piece {number} of {read} and {write}");
            }
            drop(client);
        });
    }
    let world = world();
    assert!(matches!(Server::new(&world.a, B, &sizes(RING_MAX + 1, 1)), Err(Error::BadConfig(_))));
}

#[test]
fn what_was_written_before_the_end_is_read() {
    let world = world();
    let (mut server, mut client) = pair(&world, &Config::default());
    server.write_all(b"last words").unwrap();
    drop(server);
    let mut buf = [0; 64];
    assert_eq!(client.read_by(&mut buf, near(&world)), Ok(10));
    assert_eq!(&buf[..10], b"last words");
    assert_eq!(client.read_by(&mut buf, near(&world)), Ok(0));
    assert!(matches!(client.write(b"x"), Err(Error::PeerClosed { peer: A, .. })));
    assert_eq!(client.is_open(), Ok(false));
}

#[test]
fn deadlines_pass_and_a_waiting_reader_is_woken() {
    let world = world();
    let soon = || world.a.deadline(Duration::from_millis(30));
    let server = Server::new(&world.a, B, &Config::default()).unwrap();
    assert_eq!(server.accept_by(soon()).unwrap_err(), Error::PeerNotConnected { peer: B });
    let (mut server, mut client) = pair(&world, &sizes(1, 1));
    assert_eq!(client.read_by(&mut [0; 8], soon()), Err(Error::TimedOut));
    let room = client.writable().unwrap();
    client.write_all_by(&vec![3; room], near(&world)).unwrap();
    assert_eq!(client.write_by(b"x", soon()), Err(Error::TimedOut));
    assert_eq!(server.readable(), Ok(room));
    thread::scope(|scope| {
        let writer = scope.spawn(|| client.write_all_by(&[4; 100], near(&world)));
        let mut left = room + 100;
        while left > 0 {
            left -= server.read_by(&mut [0; 64], near(&world)).unwrap();
        }
        writer.join().unwrap().unwrap();
    });
}

/// The server's page and the client's end, for a client that does not keep to the protocol.
struct EvilClient {
    page: HostedMemory,
    event: HostedEvent,
}

fn evil_client(world: &World, config: &Config) -> (Vchan<Hosted>, EvilClient) {
    let server = Server::new(&world.a, B, config).unwrap();
    let page = world.raw_b.map(A, &[server.grant_ref()], Access::ReadWrite).unwrap();
    let event = world.raw_b.bind_interdomain(A, server.port()).unwrap();
    page.store_u8(CLIENT_LIVE, 1, Ordering::SeqCst);
    event.notify().unwrap();
    (server.accept_by(near(world)).unwrap(), EvilClient { page, event })
}

/// After a violation: the same error for ever, the peer is told and woken, and it is counted, once.
fn is_blamed(world: &World, server: &mut Vchan<Hosted>, evil: &EvilClient, reason: Violation) {
    let misbehaved = Error::PeerMisbehaved { peer: B, reason };
    assert_eq!(server.read(&mut [0; 8]), Err(misbehaved), "it stays closed");
    assert_eq!(server.write(b"x"), Err(misbehaved));
    assert_eq!(server.is_open(), Err(misbehaved));
    assert_eq!(evil.page.load_u8(SERVER_LIVE, Ordering::SeqCst), 0, "the peer is told");
    assert!(evil.event.wait(near(world).0).unwrap(), "and woken");
    assert_eq!((world.a.counters().violations(reason), world.a.counters().all_violations()), (1, 1));
}

#[test]
fn a_client_that_spoils_the_page_is_blamed() {
    type Spoil = fn(&HostedMemory);
    let cases: [(Violation, Spoil); 8] = [
        (Violation::VchanIndex, |page| page.store_u32(LEFT_PRODUCED, 65_537, Ordering::SeqCst)),
        (Violation::VchanIndex, |page| page.store_u32(LEFT_PRODUCED, u32::MAX, Ordering::SeqCst)),
        (Violation::VchanLive, |page| page.store_u8(CLIENT_LIVE, 2, Ordering::SeqCst)),
        (Violation::VchanLive, |page| page.store_u8(CLIENT_LIVE, 3, Ordering::SeqCst)),
        (Violation::VchanLive, |page| page.store_u8(CLIENT_LIVE, 0xff, Ordering::SeqCst)),
        (Violation::VchanIndex, |page| page.store_u32(RIGHT_CONSUMED, 1, Ordering::SeqCst)),
        (Violation::VchanIndex, |page| page.store_u32(RIGHT_CONSUMED, 1 << 31, Ordering::SeqCst)),
        (Violation::VchanNotify, |page| page.store_u8(SERVER_NOTIFY, 4, Ordering::SeqCst)),
    ];
    for (number, (reason, spoil)) in cases.into_iter().enumerate() {
        let world = world();
        let (mut server, evil) = evil_client(&world, &Config::default());
        spoil(&evil.page);
        let misbehaved = Error::PeerMisbehaved { peer: B, reason };
        let result = if number < 5 {
            server.read_by(&mut [0; 8], near(&world))
        } else {
            server.write_by(b"x", near(&world))
        };
        assert_eq!(result, Err(misbehaved), "case {number}");
        is_blamed(&world, &mut server, &evil, reason);
    }
}

#[test]
fn a_client_that_takes_back_what_it_wrote_is_blamed() {
    let world = world();
    let (mut server, evil) = evil_client(&world, &sizes(1024, 1024));
    evil.page.store_u32(LEFT_PRODUCED, 100, Ordering::SeqCst);
    assert_eq!(server.read(&mut [0; 10]), Ok(10));
    evil.page.store_u32(LEFT_PRODUCED, 50, Ordering::SeqCst);
    let reason = Violation::VchanIndex;
    assert_eq!(server.readable(), Err(Error::PeerMisbehaved { peer: B, reason }));
    is_blamed(&world, &mut server, &evil, reason);
}

#[test]
fn what_a_client_does_to_our_own_words_is_of_no_account() {
    let world = world();
    let (mut server, evil) = evil_client(&world, &sizes(4096, 4096));
    // Our indices, the orders, the grants: all were copied.
    evil.page.store_u32(LEFT_CONSUMED, 0x1234_5678, Ordering::SeqCst);
    evil.page.store_u32(RIGHT_PRODUCED, 0x1234_5678, Ordering::SeqCst);
    evil.page.store_u32(ORDERS, u32::MAX, Ordering::SeqCst);
    evil.page.store_u32(GRANTS, u32::MAX, Ordering::SeqCst);
    assert_eq!(server.sizes(), (4096, 4096));
    evil.page.store_u32(LEFT_PRODUCED, 16, Ordering::SeqCst);
    assert_eq!(server.read(&mut [0; 64]), Ok(16));
    assert_eq!(server.write(&[1; 5000]), Ok(4096));
    assert_eq!(evil.page.load_u32(LEFT_CONSUMED, Ordering::SeqCst), 16);
    assert_eq!(evil.page.load_u32(RIGHT_PRODUCED, Ordering::SeqCst), 4096);
}

/// A server that makes its page by hand.
fn evil_server(
    world: &World,
    orders: (u16, u16),
    spoil: impl FnOnce(&HostedMemory),
) -> Result<Vchan<Hosted>, Error> {
    let Granted { memory: page, refs } = world.raw_a.grant(B, 1, Access::ReadWrite).unwrap();
    let event = world.raw_a.alloc_unbound(B).unwrap();
    let head = u64::from(orders.0) | u64::from(orders.1) << 16 | 2 << 32 | 1 << 40;
    page.store(ORDERS, head, Ordering::SeqCst);
    spoil(&page);
    let result = Vchan::attach(&world.b, A, refs[0], event.port());
    drop((page, event));
    result
}

#[test]
fn a_server_with_an_impossible_page_is_refused() {
    let impossible = [
        (0, 12),
        (9, 12),
        (12, 9),
        (21, 12),
        (12, 21),
        (0xffff, 0xffff),
        (10, 10),
        (11, 11),
        (10, 20),
        (20, 10),
        (12, 0x8000),
    ];
    for orders in impossible {
        let world = world();
        let reason = Violation::VchanOrder;
        let result = evil_server(&world, orders, |_| ());
        assert_eq!(result.unwrap_err(), Error::PeerMisbehaved { peer: A, reason }, "{orders:?}");
        assert_eq!(world.b.counters().violations(reason), 1);
    }
    type Spoil = fn(&HostedMemory);
    let cases: [(Violation, (u16, u16), Spoil); 5] = [
        // No grant at all in the list.
        (Violation::VchanGrant, (12, 10), |_| ()),
        (Violation::VchanGrant, (10, 12), |page| page.store_u32(GRANTS, 7, Ordering::SeqCst)),
        (Violation::VchanIndex, (10, 11), |page| page.store_u32(LEFT_PRODUCED, 1025, Ordering::SeqCst)),
        (Violation::VchanIndex, (11, 10), |page| page.store_u32(RIGHT_CONSUMED, 1, Ordering::SeqCst)),
        (Violation::VchanLive, (11, 10), |page| page.store_u8(SERVER_LIVE, 2, Ordering::SeqCst)),
    ];
    for (reason, orders, spoil) in cases {
        let world = world();
        let result = evil_server(&world, orders, spoil);
        assert_eq!(result.unwrap_err(), Error::PeerMisbehaved { peer: A, reason }, "{orders:?}");
    }
    let world = world();
    // A grant that is none, and a server that has gone.
    let result = evil_server(&world, (12, 10), |page| page.store_u32(GRANTS, 4000, Ordering::SeqCst));
    assert!(matches!(result, Err(Error::BadGrant { peer: A, gref: GrantRef(4000) })), "{result:?}");
    let result = evil_server(&world, (11, 10), |page| page.store_u8(SERVER_LIVE, 0, Ordering::SeqCst));
    assert!(matches!(result, Err(Error::PeerClosed { peer: A, .. })), "{result:?}");
    assert!(Vchan::attach(&world.b, A, GrantRef(4000), EvtchnPort(1)).is_err());
}

#[test]
fn events_are_sent_only_when_they_are_asked_for() {
    let world = world();
    let (mut server, evil) = evil_client(&world, &Config::default());
    let woken = || evil.event.wait(world.raw_b.now() + 1_000_000).unwrap();
    while woken() {}
    server.write_all(b"nobody asked").unwrap();
    assert!(!woken());
    evil.page.store_u8(SERVER_NOTIFY, 1, Ordering::SeqCst);
    server.write_all(b"asked").unwrap();
    assert!(evil.event.wait(near(&world).0).unwrap());
    assert_eq!(evil.page.load_u8(SERVER_NOTIFY, Ordering::SeqCst), 0, "once");
    server.write_all(b"not again").unwrap();
    assert!(!woken());
    // Who waits asks.
    assert_eq!(server.read_by(&mut [0; 8], world.a.deadline(Duration::from_millis(5))), Err(Error::TimedOut));
    assert_ne!(evil.page.load_u8(CLIENT_NOTIFY, Ordering::SeqCst) & 1, 0);
}

#[test]
fn a_storm_of_events_does_not_keep_a_reader_from_its_deadline() {
    let world = world();
    let (mut server, evil) = evil_client(&world, &Config::default());
    thread::scope(|scope| {
        let (done, stop) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                evil.event.notify().unwrap();
            }
        });
        let deadline = world.a.deadline(Duration::from_millis(300));
        assert_eq!(server.read_by(&mut [0; 8], deadline), Err(Error::TimedOut));
        drop(done);
    });
    assert!(world.a.counters().storms() > 0);
}

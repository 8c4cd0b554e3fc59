//! How two hosted domains come together: grants, services and their limits; and what is left when they part.
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{A, B, DATA, duplex, noise, soon, world};
use idc::shm::Memory;
use idc::{
    Channel, CloseReason, Config, DomId, Error, GrantRef, HostedConfig, Idc, ListenConfig, Listener, Spin,
    Violation,
};

const SMALL: Config =
    Config { pages: 1, slots: 0, pool: 0, max_peer_pages: 512, max_message: 1 << 20, spin: Spin::Adaptive };

#[test]
fn connecting_needs_a_grant() {
    let world = world();
    let bad = |gref| Error::BadGrant { peer: A, gref };
    assert_eq!(world.b.connect(A, GrantRef(4000)).unwrap_err(), bad(GrantRef(4000)));
    assert_eq!(world.b.connect(DomId(99), GrantRef(9)).unwrap_err(), Error::PeerDied { peer: DomId(99) });
    // A grant to somebody else.
    let (writer, gref) = world.a.create(DomId(33), &SMALL).unwrap();
    assert_eq!(world.b.connect(A, gref).unwrap_err(), bad(gref));
    drop(writer);
    // A second time.
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    let reader = world.b.connect(A, gref).unwrap();
    // In the hosted platform and in Xen a port is bound once.
    assert!(matches!(
        world.b.connect(A, gref).unwrap_err(),
        Error::AlreadyConnected { .. } | Error::PeerDied { .. }
    ));
    // It did not disturb the first.
    writer.send(b"still here").unwrap();
    drop(reader);
    // After it was given up.
    drop(writer);
    assert_eq!(world.b.connect(A, gref).unwrap_err(), bad(gref));
}

#[test]
fn one_way_and_duplex_are_not_mixed_up() {
    let world = world();
    let (mut writer, gref) = world.a.create(B, &SMALL).unwrap();
    assert!(matches!(world.b.answer(A, gref, &SMALL), Err(Error::Incompatible { .. })));
    let refused = Error::PeerClosed { peer: B, reason: CloseReason::Refused };
    assert_eq!(writer.send(b"?"), Err(refused));
    let pending = world.a.offer(B, &SMALL).unwrap();
    assert!(matches!(world.b.connect(A, pending.grant_ref()), Err(Error::Incompatible { .. })));
    assert_eq!(pending.complete_by(soon(&world.a)).unwrap_err(), refused);
}

#[test]
fn impossible_configurations() {
    let world = world();
    for pages in [0, 257] {
        let config = Config::default().with_pages(pages);
        assert!(matches!(world.a.create(B, &config), Err(Error::BadConfig(_))));
    }
    let paper = Config::paper(32);
    for config in
        [Config::paper(7), Config::paper(0).with_pages(0), paper.with_pages(2), paper.with_pool(257)]
    {
        assert!(matches!(world.a.create(B, &config), Err(Error::BadConfig(_))), "{config:?}");
    }
    for name in ["", "-x", "Digest", "a/b", "ü", "a-name-that-is-longer-than-32-bytes", "a b"] {
        let bound = Listener::bind(&world.a, name, ListenConfig::default());
        assert!(matches!(bound, Err(Error::BadName(_))), "{name}");
    }
    let again = idc::platform::hosted::Hosted::new(HostedConfig::new(A).directory(world.directory.path()));
    assert!(matches!(again, Err(Error::BadConfig(_))), "the id is taken");
}

#[test]
fn a_listener_serves_many_at_once_and_limits_each_domain() {
    let world = world();
    let config = ListenConfig { channel: SMALL, max_clients: 4, max_clients_per_peer: 3 };
    let mut listener = Listener::bind(&world.b, "echo", config).unwrap();
    assert!(matches!(
        Listener::bind(&world.b, "echo", config),
        Err(Error::NameTaken(name)) if name.as_str() == "echo"
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let service = thread::spawn({
        let (stop, b) = (Arc::clone(&stop), world.b.clone());
        move || {
            let mut clients = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let mut client = match listener.accept_by(b.deadline(Duration::from_millis(20))) {
                    Ok(client) => client,
                    Err(error) => {
                        assert_eq!(error, Error::TimedOut);
                        continue;
                    }
                };
                clients.push(thread::spawn(move || {
                    while let Ok(Some(message)) = client.recv() {
                        client.send(&message).unwrap();
                    }
                }));
            }
            drop(listener);
            clients.into_iter().for_each(|client| client.join().unwrap());
        }
    });
    let dial = |idc: &Idc<_>| Channel::dial(idc, B, "echo", &SMALL, soon(idc));
    let mut first: Vec<_> = (0..3).map(|_| dial(&world.a).unwrap()).collect();
    let refused = Error::PeerClosed { peer: B, reason: CloseReason::Refused };
    assert_eq!(dial(&world.a).unwrap_err(), refused, "a fourth of one domain");
    let open = |domid| {
        let config = HostedConfig::new(DomId(domid)).directory(world.directory.path());
        Idc::with_platform(idc::platform::hosted::Hosted::new(config).unwrap())
    };
    let (c, d) = (open(33), open(44));
    let mut other = dial(&c).unwrap();
    assert_eq!(dial(&d).unwrap_err(), refused, "a fifth of all");
    assert_eq!(world.b.counters().refused(), 2);
    for (seed, channel) in first.iter_mut().chain([&mut other]).enumerate() {
        let message = noise(5000, seed as u64);
        channel.send(&message).unwrap();
        assert_eq!(channel.recv().unwrap(), Some(message));
    }
    // When the clients have gone there are places again.
    drop((first, other));
    let last = loop {
        match dial(&d) {
            Ok(channel) => break channel,
            // The service has not noticed yet.
            Err(error) => assert_eq!(error, refused),
        }
    };
    drop(last);
    stop.store(true, Ordering::SeqCst);
    service.join().unwrap();
    let gone = Channel::dial(&c, B, "echo", &SMALL, c.deadline(Duration::from_millis(50)));
    assert!(matches!(gone, Err(Error::NoSuchService { peer: B, .. })), "{gone:?}");
}

#[test]
fn a_client_waits_for_its_service() {
    let world = world();
    let start = Instant::now();
    let limit = Duration::from_millis(100);
    let absent = Channel::dial(&world.a, DomId(77), "late", &SMALL, world.a.deadline(limit)).unwrap_err();
    assert_eq!(absent, Error::PeerAbsent { peer: DomId(77) });
    assert!(start.elapsed() >= limit);
    let missing = Channel::dial(&world.a, B, "late", &SMALL, world.a.deadline(limit)).unwrap_err();
    assert!(matches!(missing, Error::NoSuchService { peer: B, .. }), "{missing}");
    // It appears while a client waits; and so does its domain.
    let directory = world.directory.path().to_owned();
    let a = world.a.clone();
    let client = thread::spawn(move || {
        let mut channel = Channel::dial(&a, DomId(78), "late", &SMALL, soon(&a)).unwrap();
        channel.recv().unwrap()
    });
    thread::sleep(Duration::from_millis(50));
    let platform = idc::platform::hosted::Hosted::new(HostedConfig::new(DomId(78)).directory(directory));
    let late = Idc::with_platform(platform.unwrap());
    thread::sleep(Duration::from_millis(50));
    let mut listener = Listener::bind(&late, "late", ListenConfig::default()).unwrap();
    let mut channel = listener.accept_by(soon(&late)).unwrap();
    assert_eq!(channel.peer(), A);
    channel.send(b"here I am").unwrap();
    assert_eq!(client.join().unwrap().as_deref(), Some(&b"here I am"[..]));
    // A service that is there and does not accept.
    let _idle = Listener::bind(&late, "idle", ListenConfig::default()).unwrap();
    let ignored = Channel::dial(&world.a, DomId(78), "idle", &SMALL, world.a.deadline(limit)).unwrap_err();
    assert_eq!(ignored, Error::PeerNotConnected { peer: DomId(78) });
    // Nobody waits for `accept` of a client that has given up.
    assert_eq!(listener.accept_by(late.deadline(limit)).unwrap_err(), Error::TimedOut);
}

#[test]
fn shared_pages_start_out_empty() {
    // What a peer sees before anything has been sent is zero, apart from what is meant for it.
    let world = world();
    let (_writer, gref) = world.a.create(B, &SMALL).unwrap();
    let reader = common::evil_reader(&world, gref);
    let mut data = vec![1; DATA - 4096];
    reader.writer.read(4096, &mut data);
    assert!(data.iter().all(|byte| *byte == 0));
    let mut control = vec![1; 4096];
    reader.writer.read(0, &mut control);
    assert_eq!(control.iter().filter(|byte| **byte != 0).count(), 2, "the state and the sign of life");
    reader.own.read(0, &mut control);
    assert!(control.iter().all(|byte| *byte == 0));
}

#[test]
fn thousands_of_channels_leave_nothing_behind() {
    let world = world();
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:idc").count();
    let config = SMALL.with_max_message(64);
    for round in 0..2_000 {
        let (mut ours, mut theirs) = duplex(&world, &config, &config);
        ours.send(b"x").unwrap();
        assert!(theirs.recv().unwrap().is_some());
        if round == 0 {
            continue;
        }
        ours.finish().unwrap();
        theirs.finish().unwrap();
    }
    // Other tests of this program run at the same time, with a few channels each.
    assert!(files() < 1_000 && maps() < 1_000, "{} files, {} mappings", files(), maps());
    assert_eq!(world.a.counters().all_violations() + world.b.counters().all_violations(), 0);
    assert_eq!(world.a.counters().violations(Violation::Nonce), 0);
}

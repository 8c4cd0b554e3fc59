//! Clients that misbehave: refused, logged, and the service goes on.

mod common;

use std::sync::{Arc, Mutex};

use common::{Disk, INCREMENT, READ, ToyInstance, boot, command, create, value};
use proptest::prelude::*;
use vtpm::audit::{Audit, Chain};
use vtpm::frame::{Answer, FRAME_MAX, FrameError, HEADER_LEN, Kind, Request, Status};
use vtpm::service::{Client, STRIKES, Service};
use vtpm::{Peer, Policy};

const GUEST: u16 = 5;
const MANAGER: u16 = 0;
const STRANGER: u16 = 9;

type ToyService = vtpm::Service<common::Toy, common::Direct, common::Counting>;
type Lines = Arc<Mutex<Vec<String>>>;

fn service() -> (ToyService, Lines) {
    let disk = Disk::default();
    create(&disk).unwrap();
    let instance: ToyInstance = boot(&disk, true).unwrap();
    let lines = Lines::default();
    let audit = {
        let lines = Arc::clone(&lines);
        Audit::new(move |line| lines.lock().unwrap().push(line.to_owned()))
    };
    let policy = Policy::new([Peer::guest(GUEST), Peer::manager(MANAGER)]);
    (Service::new(instance, policy, audit), lines)
}

fn ask(service: &mut ToyService, domid: u16, kind: Kind, locality: u8, contents: &[u8]) -> (Status, Vec<u8>) {
    let request = Request { kind, locality, sequence: 77, contents };
    let bytes = service.answer(&mut Client::new(domid), &request.to_bytes());
    let answer = Answer::parse(&bytes, &request).unwrap();
    (answer.status, answer.contents.to_vec())
}

fn increment(service: &mut ToyService) -> u64 {
    let (status, answer) = ask(service, GUEST, Kind::Command, 0, &command(INCREMENT));
    assert_eq!(status, Status::Ok);
    value(&answer).unwrap()
}

fn refusals(lines: &Lines, what: &str) -> usize {
    lines.lock().unwrap().iter().filter(|line| line.starts_with("refused") && line.contains(what)).count()
}

#[test]
fn a_guest_is_served_at_locality_0_only() {
    let (mut service, lines) = service();
    assert_eq!(increment(&mut service), 1);
    for locality in 1..=4 {
        let answer = ask(&mut service, GUEST, Kind::Command, locality, &command(INCREMENT));
        assert_eq!(answer, (Status::Locality, vec![]));
    }
    assert_eq!(refusals(&lines, "domain 5: locality"), 4);
    // dom0 as a proxy may; what is no locality is not one for anybody.
    assert_eq!(ask(&mut service, MANAGER, Kind::Command, 4, &command(INCREMENT)).0, Status::Ok);
    assert_eq!(ask(&mut service, MANAGER, Kind::Command, 5, &command(INCREMENT)).0, Status::BadFrame);
    assert_eq!(increment(&mut service), 3);
}

#[test]
fn a_guest_cannot_do_what_the_manager_can() {
    let (mut service, lines) = service();
    for kind in [Kind::Reset, Kind::Suspend, Kind::Resume, Kind::Attach, Kind::Detach] {
        assert_eq!(ask(&mut service, GUEST, kind, 0, &[9, 0, 4]), (Status::Denied, vec![]), "{kind:?}");
    }
    assert!(refusals(&lines, "is not for a guest") >= 4);
    assert!(!service.admit(STRANGER));
    assert_eq!(increment(&mut service), 1);
    let (status, info) = ask(&mut service, GUEST, Kind::Info, 0, &[]);
    assert_eq!(status, Status::Ok);
    assert_eq!(String::from_utf8(info).unwrap(), "family=2.0\ncondition=running\nlocality=0\n");
    let (_, info) = ask(&mut service, MANAGER, Kind::Info, 0, &[]);
    let info = String::from_utf8(info).unwrap();
    for part in ["uuid=696e7374-616e-6365-2075-6e6465722074\n", "lease=1\n", "state=2\n", "guests=5\n"] {
        assert!(info.contains(part), "{part} in {info}");
    }
}

#[test]
fn strangers_get_nothing() {
    let (mut service, lines) = service();
    assert!(!service.admit(STRANGER));
    assert!(service.admit(GUEST));
    assert!(!service.may_cancel(STRANGER));
    for kind in Kind::ALL {
        let mut client = Client::new(STRANGER);
        let request = Request { kind, locality: 0, sequence: 1, contents: &command(READ) };
        let bytes = service.answer(&mut client, &request.to_bytes());
        assert_eq!(Answer::parse(&bytes, &request).unwrap().status, Status::Denied);
        assert!(client.is_out());
    }
    assert_eq!(refusals(&lines, "domain 9: channel"), 1);
    assert_eq!(increment(&mut service), 1);
}

#[test]
fn guests_come_and_go() {
    let (mut service, _) = service();
    assert_eq!(ask(&mut service, MANAGER, Kind::Detach, 0, &[5, 0]).0, Status::Ok);
    // Its channel is still open.
    assert_eq!(ask(&mut service, GUEST, Kind::Command, 0, &command(READ)).0, Status::Denied);
    assert_eq!(ask(&mut service, MANAGER, Kind::Detach, 0, &[5, 0]).0, Status::Denied);
    assert_eq!(ask(&mut service, MANAGER, Kind::Attach, 0, &[9, 0, 0]).0, Status::Ok);
    assert_eq!(ask(&mut service, STRANGER, Kind::Command, 0, &command(READ)).0, Status::Ok);
    // The manager cannot be made less or more, and the list has an end.
    assert_eq!(ask(&mut service, MANAGER, Kind::Attach, 0, &[0, 0, 0]).0, Status::Denied);
    assert_eq!(ask(&mut service, MANAGER, Kind::Detach, 0, &[0, 0]).0, Status::Denied);
    assert_eq!(ask(&mut service, MANAGER, Kind::Attach, 0, &[7, 0, 5]).0, Status::BadFrame);
    assert_eq!(ask(&mut service, MANAGER, Kind::Attach, 0, &[7, 0]).0, Status::BadFrame);
    let attached: Vec<_> =
        (20..30).map(|domid| ask(&mut service, MANAGER, Kind::Attach, 0, &[domid, 0, 0]).0).collect();
    assert_eq!(attached.iter().filter(|status| **status == Status::Ok).count(), vtpm::policy::PEERS_MAX - 2);
}

#[test]
fn frames_without_sense() {
    let (mut service, lines) = service();
    let good = Request { kind: Kind::Command, locality: 0, sequence: 1, contents: &command(READ) }.to_bytes();
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let long = vec![0; FRAME_MAX + 1];
    let bad: Vec<(Vec<u8>, FrameError)> = vec![
        (vec![], FrameError::Short(0)),
        (good[..HEADER_LEN - 1].to_vec(), FrameError::Short(HEADER_LEN - 1)),
        (good[..good.len() - 1].to_vec(), FrameError::Length { declared: 10, actual: 9 }),
        ([&good[..], &[0]].concat(), FrameError::Length { declared: 10, actual: 11 }),
        (long, FrameError::Long(FRAME_MAX + 1)),
        (changed(0, 2), FrameError::Version(2)),
        (changed(1, 0), FrameError::Kind(0)),
        (changed(1, 9), FrameError::Kind(9)),
        (changed(1, 0x81), FrameError::Kind(0x81)),
        (changed(2, 5), FrameError::Locality(5)),
        (changed(3, 1), FrameError::Reserved),
        (changed(11, 0xff), FrameError::Length { declared: 0xff00_000a, actual: 10 }),
    ];
    for (bytes, error) in &bad {
        assert_eq!(Request::parse(bytes), Err(*error));
        let mut client = Client::new(GUEST);
        let answer = service.answer(&mut client, bytes);
        assert_eq!(answer[2], Status::BadFrame as u8);
        assert!(!client.is_out());
    }
    assert!(refusals(&lines, "domain 5: frame") >= 4);
    assert!(refusals(&lines, "domain 5: frame") < bad.len(), "not every one");
    let mut client = Client::new(GUEST);
    for strike in 0..STRIKES {
        assert!(!client.is_out(), "after {strike}");
        service.answer(&mut client, &[]);
    }
    assert!(client.is_out());
    assert_eq!(increment(&mut service), 1);
}

#[test]
fn commands_without_sense() {
    let (mut service, _) = service();
    let read = command(READ);
    let cases: Vec<(Vec<u8>, u32)> = vec![
        (vec![], 0x142),
        (read[..9].to_vec(), 0x142),
        ([&read[..], &[0]].concat(), 0x142),
        ([&[0x80, 1, 0, 0, 0, 11][..], &read[6..]].concat(), 0x142),
        ([&[0x80, 1, 0xff, 0xff, 0xff, 0xff][..], &read[6..]].concat(), 0x142),
        ([&[0x00, 0xc1][..], &read[2..]].concat(), 0x1e),
        (command(0x7777), 0x143),
    ];
    for (bytes, code) in cases {
        let (status, answer) = ask(&mut service, GUEST, Kind::Command, 0, &bytes);
        assert_eq!((status, value(&answer)), (Status::Ok, Err(code)), "{bytes:02x?}");
    }
    assert_eq!(increment(&mut service), 1);
}

#[test]
fn the_log_is_a_chain_and_cannot_be_flooded() {
    let (mut service, lines) = service();
    for _ in 0..10_000 {
        service.admit(STRANGER);
    }
    for domid in 100..1000 {
        service.admit(domid);
    }
    let lines = lines.lock().unwrap();
    assert!(lines.len() < 200, "{} lines", lines.len());
    let verify = |lines: &[String]| {
        let mut chain = Chain::default();
        lines.iter().all(|line| {
            let (text, link) = line.strip_suffix(']').unwrap().rsplit_once(" [").unwrap();
            chain.link(text) == link
        })
    };
    assert!(verify(&lines));
    assert!(!verify(&lines[1..]));
    let mut without = lines.clone();
    without.remove(3);
    assert!(!verify(&without));
}

proptest! {
    #[test]
    fn whatever_is_sent_there_is_an_answer(
        frames in prop::collection::vec((0u16..12, prop::collection::vec(any::<u8>(), 0..80)), 1..20),
    ) {
        let (mut service, _) = service();
        for (domid, bytes) in frames {
            let answer = service.answer(&mut Client::new(domid), &bytes);
            prop_assert!(answer.len() >= HEADER_LEN && answer.len() <= FRAME_MAX);
        }
        // Nothing random has the power to stop it.
        let (status, _) = ask(&mut service, MANAGER, Kind::Info, 0, &[]);
        prop_assert_eq!(status, Status::Ok);
    }

    #[test]
    fn almost_right_frames(
        domid in 0u16..12, version in 0u8..3, kind in 0u8..12, locality in 0u8..7, reserved in 0u8..2,
        sequence: u32, contents in prop::collection::vec(any::<u8>(), 0..64), lie in -2i64..3,
    ) {
        let (mut service, _) = service();
        let declared = (contents.len() as i64 + lie).max(0) as u32;
        let mut bytes = vec![version, kind, locality, reserved];
        bytes.extend(sequence.to_le_bytes());
        bytes.extend(declared.to_le_bytes());
        bytes.extend(&contents);
        let answer = service.answer(&mut Client::new(domid), &bytes);
        prop_assert!(answer.len() >= HEADER_LEN);
        if domid != MANAGER && !(domid == GUEST && matches!(kind, 1 | 2 | 6)) {
            prop_assert_ne!(answer[2], Status::Ok as u8);
        }
    }
}

//! Restarts, kills and damage of real processes: what was acknowledged stays, what is wrong is refused.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use common::{
    GET_RANDOM, GUEST, Machine, SECOND_GUEST, STRANGER, VTPM, define_counter, increment, read_counter,
    read_pcr, run,
};
use idc::{Channel, Config, DomId};
use vtpm::Family;
use vtpm::command::{answer_code, code, pcr_event};
use vtpm::frame::{FRAME_MAX, Kind, Request, Status};
use vtpmd::guest::Guest;

#[test]
fn role() {
    common::role();
}

#[test]
fn state_outlives_domain_manager_and_guest() {
    let mut machine = Machine::new(Family::Tpm20);
    let vtpm = machine.start();
    let mut client = machine.client(GUEST);
    run(&mut client, &define_counter()).unwrap();
    run(&mut client, &increment()).unwrap();
    let first = read_counter(&mut client);
    // The manager, twice; the vTPM goes on with its lease, in the middle of a channel.
    for _ in 0..2 {
        machine.start_manager();
        run(&mut client, &increment()).unwrap();
        machine.manager.as_mut().unwrap().expect("goes on with `tested` under lease 1");
    }
    assert_eq!(read_counter(&mut client), first + 2);
    // The guest.
    drop(client);
    let mut client = machine.client(GUEST);
    assert_eq!(read_counter(&mut client), first + 2);
    // The domain, with a guest that keeps its channel.
    vtpm.kill();
    let _vtpm = machine.start();
    assert_eq!(read_counter(&mut client), first + 2);
    run(&mut client, &increment()).unwrap();
    assert_eq!(read_counter(&mut client), first + 3);
}

#[test]
fn killed_at_random_nothing_acknowledged_is_lost() {
    let mut machine = Machine::new(Family::Tpm20);
    let mut vtpm = machine.start();
    let mut client = machine.client(GUEST);
    run(&mut client, &define_counter()).unwrap();
    run(&mut client, &increment()).unwrap();
    let mut acknowledged = read_counter(&mut client);
    let mut lost = 0;
    for round in 0..30u64 {
        // The vTPM dies under load, or the manager, and is started again; at another point each time.
        let after = round * 7 % 13;
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let paths = machine.paths.clone();
        let manager = machine.manager.take().unwrap();
        let killer = thread::spawn(move || {
            gone.recv().unwrap();
            if round % 3 == 2 {
                manager.kill();
                (vtpm, paths.manager())
            } else {
                vtpm.kill();
                let mut vtpm = paths.vtpm(VTPM);
                vtpm.expect("vtpm: ready");
                (vtpm, manager)
            }
        });
        for done in 0.. {
            if done == after {
                // From here on it happens at any time.
                go.send(()).unwrap();
            }
            // Then one more, which the new process has to take.
            let last = killer.is_finished();
            match client.request(Kind::Command, 0, &increment()) {
                Ok(reply) => {
                    assert_eq!(reply.status, Status::Ok, "with a manager that comes back nothing halts");
                    assert_eq!(answer_code(&reply.contents), Some(0));
                    acknowledged += 1;
                }
                // It died with the command: only the counter knows.
                Err(_) => {
                    let count = read_counter(&mut client);
                    assert!(
                        count == acknowledged || count == acknowledged + 1,
                        "round {round}: {count} after {acknowledged}"
                    );
                    acknowledged = count;
                    lost += 1;
                }
            }
            if last && done > after {
                break;
            }
        }
        let (new, manager) = killer.join().unwrap();
        (vtpm, machine.manager) = (new, Some(manager));
        assert_eq!(read_counter(&mut client), acknowledged, "round {round}");
    }
    assert!(lost <= 20, "{lost} commands were lost in 20 deaths of the vTPM");
}

#[test]
fn a_restart_under_a_running_guest_is_in_the_pcrs() {
    let machine = Machine::new(Family::Tpm20);
    let vtpm = machine.start();
    let mut client = machine.client(GUEST);
    run(&mut client, &pcr_event(4, b"kernel")).unwrap();
    let booted = read_pcr(&mut client, 4);
    vtpm.kill();
    // The same guest, a new domain: the binding has been used.
    let mut vtpm = machine.spawn(VTPM);
    vtpm.expect("vtpm: ready");
    let poisoned = read_pcr(&mut client, 4);
    assert!(poisoned != [0; 32] && poisoned != booted);
    run(&mut client, &pcr_event(4, b"kernel")).unwrap();
    assert_ne!(read_pcr(&mut client, 4), booted, "what a fresh platform measures cannot be had again");
    // Nor by a reset, which is not for guests.
    assert_eq!(client.request(Kind::Reset, 0, &[]).unwrap().status, Status::Denied);
}

#[test]
fn strangers_are_cut_off_and_the_service_goes_on() {
    let machine = Machine::new(Family::Tpm20);
    machine.bind(VTPM, &[GUEST, SECOND_GUEST], true);
    let mut vtpm = machine.spawn(VTPM);
    vtpm.expect("vtpm: ready");
    let mut stranger = machine.client(STRANGER);
    assert!(stranger.request(Kind::Command, 0, &GET_RANDOM).is_err());
    vtpm.expect("refused domain 30: channel");
    let mut client = machine.client(GUEST);
    assert_eq!(client.request(Kind::Command, 1, &GET_RANDOM).unwrap().status, Status::Locality);
    vtpm.expect("refused domain 20: locality");
    // Frames that are none, on a bare channel.
    let idc = machine.paths.idc(SECOND_GUEST);
    let config = Config::default().with_pages(4);
    let deadline = idc.deadline(common::PATIENCE);
    let mut channel = Channel::dial(&idc, DomId(VTPM), vtpm::service::NAME, &config, deadline).unwrap();
    let good = Request { kind: Kind::Command, locality: 0, sequence: 5, contents: &GET_RANDOM }.to_bytes();
    for bad in [&good[..5], &good[..good.len() - 1], &[][..], &[0xff; 64]] {
        channel.send(bad).unwrap();
        assert_eq!(channel.recv().unwrap().unwrap()[2], Status::BadFrame as u8);
    }
    channel.send(&vec![0; FRAME_MAX + 1]).unwrap();
    assert_eq!(channel.recv().unwrap().unwrap()[2], Status::BadFrame as u8);
    // Longer than what is received at all is stopped by IDC on our own side.
    assert!(channel.send(&vec![0; FRAME_MAX + 2]).is_err());
    channel.send(&good).unwrap();
    assert_eq!(channel.recv().unwrap().unwrap()[2], Status::Ok as u8);
    // Too much of it ends the channel, and only this.
    for _ in 0..vtpm::service::STRIKES {
        let _ = channel.send(&[1]);
    }
    while let Ok(Some(_)) = channel.recv() {}
    assert!(run(&mut client, &GET_RANDOM).is_ok());
    // A manager refuses a domain that it did not start.
    let mut uninvited = machine.spawn(77);
    uninvited.expect("no instance for this domain");
    let (good, _) = uninvited.wait();
    assert!(!good);
    assert!(run(&mut client, &GET_RANDOM).is_ok());
}

#[test]
fn damaged_and_older_state_is_refused() {
    let machine = Machine::new(Family::Tpm20);
    let vtpm = machine.start();
    let mut client = machine.client(GUEST);
    run(&mut client, &define_counter()).unwrap();
    let files = || -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = ["slot0", "slot1"].map(|name| machine.slots().join(name));
        paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let put = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    };
    let old = files();
    for _ in 0..3 {
        run(&mut client, &increment()).unwrap();
    }
    let count = read_counter(&mut client);
    vtpm.kill();
    let last = files();
    let refused = |what: &str| {
        machine.bind(VTPM, &[GUEST], true);
        let (good, lines) = machine.spawn(VTPM).wait();
        assert!(!good, "{what}");
        assert!(lines.iter().any(|line| line.contains("damaged, or was rolled back")), "{what}: {lines:?}");
    };
    put(&old);
    refused("an older state");
    for (path, bytes) in &last {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(path, bytes).unwrap();
    }
    refused("flipped bits");
    for path in last.keys() {
        fs::write(path, b"").unwrap();
    }
    refused("nothing");
    put(&last);
    let _vtpm = machine.start();
    assert_eq!(read_counter(&mut client), count);
}

#[test]
fn of_two_domains_with_one_instance_the_first_halts() {
    let machine = Machine::new(Family::Tpm20);
    let mut first = machine.start();
    let mut client = machine.client(GUEST);
    run(&mut client, &define_counter()).unwrap();
    machine.bind(11, &[GUEST], true);
    let mut second = machine.spawn(11);
    second.expect("vtpm: ready");
    assert_eq!(client.request(Kind::Command, 0, &increment()).unwrap().status, Status::Halted);
    first.expect("halted: the lease has ended");
    assert_eq!(client.request(Kind::Command, 0, &GET_RANDOM).unwrap().status, Status::Halted);
    client.move_to(DomId(11));
    run(&mut client, &increment()).unwrap();
}

#[test]
fn tpm_12_by_flag() {
    let machine = Machine::new(Family::Tpm12);
    let vtpm = machine.start();
    assert!(vtpm.seen.iter().any(|line| line.contains("TPM 1.2 started")), "{:?}", vtpm.seen);
    let mut client = machine.client(GUEST);
    // TPM_GetRandom(8), and a command of the other family.
    let random = [0x00, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x46, 0, 0, 0, 8];
    assert_eq!(run(&mut client, &random).unwrap().len(), 12);
    assert_eq!(run(&mut client, &GET_RANDOM), Err(code::BAD_TAG));
    vtpm.kill();
    let _vtpm = machine.start();
    assert!(run(&mut client, &random).is_ok());
}

/// The daemon of a guest, with a socket in the place of the kernel's TPM device.
#[test]
fn the_guests_daemon() {
    let machine = Machine::new(Family::Tpm20);
    let vtpm = machine.start();
    let mut guest = Guest::connect(machine.client(GUEST)).unwrap();
    assert_eq!(guest.family(), Family::Tpm20);
    let (mut kernel, device) = UnixStream::pair().unwrap();
    let daemon = thread::spawn(move || guest.run(&device));
    let mut ask = |command: &[u8]| {
        kernel.write_all(command).unwrap();
        let mut answer = vec![0; 4096];
        let len = kernel.read(&mut answer).unwrap();
        answer.truncate(len);
        answer
    };
    let set_locality = |locality: u8| [0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, locality];
    assert_eq!(ask(&set_locality(0)), [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0]);
    assert_eq!(answer_code(&ask(&set_locality(1))), Some(code::LOCALITY));
    assert_eq!(ask(&GET_RANDOM).len(), 28);
    assert_eq!(answer_code(&ask(&GET_RANDOM[..11])), Some(code::COMMAND_SIZE));
    // The vTPM is restarted, the daemon stays.
    vtpm.kill();
    let vtpm = machine.start();
    // The kernel asks for the locality before each command. A command may be lost if the last one was a moment ago, and
    // then it gets a failure; no other is.
    assert_eq!(ask(&set_locality(0)).len(), 10);
    assert!(matches!(ask(&GET_RANDOM).len(), 10 | 28));
    assert_eq!(ask(&set_locality(0)).len(), 10);
    assert_eq!(ask(&GET_RANDOM).len(), 28);
    drop(vtpm);
    drop(kernel);
    daemon.join().unwrap().unwrap();
}

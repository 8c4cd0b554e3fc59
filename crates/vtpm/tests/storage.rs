//! What whoever can write the manager's storage can do: nothing but make the instance refuse to start.

mod common;

use common::{
    Counting, Direct, Disk, INCREMENT, READ, Toy, UUID, boot, command, create, master, open, value,
};
use std::cell::RefCell;
use std::rc::Rc;
use vtpm::instance::{Condition, HaltReason, Instance, StartError, StoreError};
use vtpm::link::Refusal;
use vtpm::seal::{self, Header, Purpose, SealError};
use vtpm::vault::{Area, VaultError};
use vtpm::{Key, Uuid, Vault};

fn disk_with(count: u64) -> Disk {
    let disk = Disk::default();
    create(&disk).unwrap();
    let mut instance = boot(&disk, true).unwrap();
    for _ in 0..count {
        value(&instance.execute(0, &command(INCREMENT))).unwrap();
    }
    disk
}

/// The slot that holds the last state.
fn current(disk: &Disk) -> Area {
    let hash = open(disk).unwrap().mark().unwrap().hash;
    [Area::Slot(0), Area::Slot(1)]
        .into_iter()
        .find(|area| disk.areas().get(area).is_some_and(|bytes| seal::hash(bytes) == hash))
        .unwrap()
}

#[test]
fn every_bit_of_the_state_counts() {
    let disk = disk_with(3);
    let (slot, whole) = (current(&disk), disk.areas());
    let bits = whole[&slot].len() * 8;
    for bit in 0..bits {
        let mut areas = whole.clone();
        areas.get_mut(&slot).unwrap()[bit / 8] ^= 1 << (bit % 8);
        disk.restore(areas);
        assert_eq!(boot(&disk, true).unwrap_err(), "RolledBack", "bit {bit}");
    }
    disk.restore(whole);
    assert_eq!(value(&boot(&disk, true).unwrap().execute(0, &command(READ))), Ok(3));
}

#[test]
fn every_bit_of_the_seal_counts() {
    let disk = disk_with(1);
    let key = master().derive(&UUID, Purpose::State);
    let sealed = disk.areas()[&current(&disk)].clone();
    let (header, _) = seal::open(&key, &sealed).unwrap();
    assert_eq!(header.uuid, UUID);
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(seal::open(&key, &bad).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert_eq!(seal::open(&key, &sealed[..len]).unwrap_err(), SealError::Malformed, "{len} bytes");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(seal::open(&key, &longer).unwrap_err(), SealError::Malformed);
    for wrong in [master().derive(&UUID, Purpose::Ledger), master().derive(&Uuid([0; 16]), Purpose::State)] {
        assert_eq!(seal::open(&wrong, &sealed).unwrap_err(), SealError::Forged);
    }
}

#[test]
fn one_bad_copy_of_the_record_loses_nothing_and_two_are_refused() {
    let disk = disk_with(4);
    let whole = disk.areas();
    for copy in [Area::Record(0), Area::Record(1)] {
        for bit in 0..whole[&copy].len() * 8 {
            let mut areas = whole.clone();
            areas.get_mut(&copy).unwrap()[bit / 8] ^= 1 << (bit % 8);
            disk.restore(areas);
            assert_eq!(
                value(&boot(&disk, true).unwrap().execute(0, &command(READ))),
                Ok(4),
                "{copy} bit {bit}"
            );
        }
        let mut areas = whole.clone();
        areas.remove(&copy);
        disk.restore(areas);
        assert_eq!(value(&boot(&disk, true).unwrap().execute(0, &command(READ))), Ok(4));
    }
    let mut areas = whole.clone();
    for copy in [Area::Record(0), Area::Record(1)] {
        areas.get_mut(&copy).unwrap()[40] ^= 1;
    }
    disk.restore(areas);
    assert_eq!(open(&disk).unwrap_err(), VaultError::Record);
    let mut areas = whole;
    areas.retain(|area, _| matches!(area, Area::Slot(_)));
    disk.restore(areas);
    assert_eq!(open(&disk).unwrap_err(), VaultError::Missing);
}

#[test]
fn older_states_are_refused_wherever_they_are_put() {
    let disk = disk_with(0);
    let mut old = Vec::new();
    for _ in 0..6 {
        old.push(disk.areas());
        let mut instance = boot(&disk, true).unwrap();
        value(&instance.execute(0, &command(INCREMENT))).unwrap();
    }
    let now = disk.areas();
    let slot = current(&disk);
    for areas in &old {
        for bytes in areas.iter().filter(|(area, _)| matches!(area, Area::Slot(_))).map(|(_, bytes)| bytes) {
            let mut mixed = now.clone();
            mixed.insert(slot, bytes.clone());
            disk.restore(mixed);
            assert_eq!(boot(&disk, true).unwrap_err(), "RolledBack");
        }
    }
    disk.restore(now);
    assert_eq!(value(&boot(&disk, true).unwrap().execute(0, &command(READ))), Ok(6));
}

#[test]
fn the_domain_checks_the_state_itself() {
    // A manager's storage code that hands out an old state does not get past the domain.
    let disk = disk_with(1);
    let first = disk.areas()[&current(&disk)].clone();
    let mut instance = boot(&disk, true).unwrap();
    value(&instance.execute(0, &command(INCREMENT))).unwrap();
    let mut vault = open(&disk).unwrap();
    let lease = common::lease(&mut vault, true).unwrap();
    let last = vault.load().unwrap().unwrap();
    let vault = Rc::new(RefCell::new(vault));
    let start = |lease: &vtpm::link::Lease, sealed: &[u8]| {
        let store = Direct { vault: Rc::clone(&vault), epoch: lease.epoch };
        Instance::start(Toy::default(), store, Counting(1 << 60), lease, sealed).map(drop)
    };
    assert_eq!(start(&lease, &first), Err(StartError::RolledBack));
    assert_eq!(start(&lease, &[]), Err(StartError::Missing));
    assert_eq!(start(&vtpm::link::Lease { mark: None, ..lease.clone() }, &last), Err(StartError::Missing));
    let other = vtpm::link::Lease { uuid: Uuid([9; 16]), ..lease.clone() };
    assert_eq!(start(&other, &last), Err(StartError::RolledBack));
    let wrong = vtpm::link::Lease { key: Key::new([0; 32]), ..lease.clone() };
    assert_eq!(start(&wrong, &last), Err(StartError::Seal(SealError::Forged)));
    let family = vtpm::link::Lease { family: vtpm::Family::Tpm12, ..lease.clone() };
    assert_eq!(start(&family, &last), Err(StartError::Family(vtpm::Family::Tpm20)));
    // Right, and sealed, but no state.
    let key = lease.key.clone();
    for contents in [&b""[..], b"\x01\0\x01\0\0\0", b"\x01\0\x01\0\0\0\x14\x07\0\0\0\0\0"] {
        let header = Header { uuid: UUID, epoch: 1, counter: 9 };
        let sealed = seal::seal(&key, &header, &[3; 24], contents).unwrap();
        let mark = vtpm::vault::Mark { epoch: 1, counter: 9, hash: seal::hash(&sealed) };
        let lease = vtpm::link::Lease { mark: Some(mark), ..lease.clone() };
        assert!(matches!(start(&lease, &sealed), Err(StartError::State(_))), "{contents:?}");
    }
    assert_eq!(start(&lease, &last), Ok(()));
}

#[test]
fn of_two_domains_with_one_instance_only_the_later_can_write() {
    let disk = disk_with(2);
    let mut first = boot(&disk, true).unwrap();
    assert_eq!(value(&first.execute(0, &command(INCREMENT))), Ok(3));
    // A second one, started through the same manager. It opens the vault anew, as after a restart of the manager.
    let vault = Rc::new(RefCell::new(open(&disk).unwrap()));
    let again = |fresh| {
        let lease = common::lease(&mut vault.borrow_mut(), fresh).unwrap();
        let sealed = vault.borrow_mut().load().unwrap().unwrap();
        let store = Direct { vault: Rc::clone(&vault), epoch: lease.epoch };
        Instance::start(Toy::default(), store, Counting(lease.epoch << 32), &lease, &sealed).unwrap()
    };
    let mut second = again(true);
    let mut third = again(true);
    assert_eq!(value(&third.execute(0, &command(INCREMENT))), Ok(4));
    // The second one's lease has ended. It answers failure, and goes on to.
    assert_eq!(value(&second.execute(0, &command(READ))), Ok(3));
    for _ in 0..3 {
        assert_eq!(value(&second.execute(0, &command(INCREMENT))), Err(0x101));
    }
    let reason = HaltReason::Store(StoreError::Refused(Refusal::StaleLease));
    assert_eq!(second.condition(), Condition::Halted(reason));
    assert_eq!(value(&third.execute(0, &command(INCREMENT))), Ok(5));
}

#[test]
fn the_vault_takes_only_the_next_state_of_its_instance() {
    let disk = Disk::default();
    let mut vault = create(&disk).unwrap();
    assert_eq!(vault.load(), Ok(None));
    let key = master().derive(&UUID, Purpose::State);
    let sealed = |uuid, epoch, counter| {
        seal::seal(&key, &Header { uuid, epoch, counter }, &[counter as u8; 24], b"state").unwrap()
    };
    assert_eq!(vault.lease(), Ok(1));
    assert_eq!(vault.store(1, &sealed(UUID, 1, 1)), Ok(()));
    let counter = |offered| Err(VaultError::Counter { offered, current: 1 });
    for (epoch, state, result) in [
        (1, sealed(UUID, 1, 1), counter(1)),
        (1, sealed(UUID, 1, 3), counter(3)),
        (1, sealed(UUID, 1, 0), counter(0)),
        (1, sealed(UUID, 1, u64::MAX), counter(u64::MAX)),
        (0, sealed(UUID, 1, 2), Err(VaultError::StaleLease { offered: 0, current: 1 })),
        (2, sealed(UUID, 2, 2), Err(VaultError::StaleLease { offered: 2, current: 1 })),
        (1, sealed(UUID, 0, 2), Err(VaultError::StaleLease { offered: 0, current: 1 })),
        (1, sealed(Uuid([1; 16]), 1, 2), Err(VaultError::Foreign)),
        (1, b"rubbish".to_vec(), Err(VaultError::Foreign)),
        (1, Vec::new(), Err(VaultError::Foreign)),
        (1, vec![0; seal::SEALED_MAX + 1], Err(VaultError::Foreign)),
    ] {
        assert_eq!(vault.store(epoch, &state), result);
    }
    assert_eq!(vault.load(), Ok(Some(sealed(UUID, 1, 1))));
    assert_eq!(vault.store(1, &sealed(UUID, 1, 2)), Ok(()));
    assert_eq!(create(&disk).unwrap_err(), VaultError::Exists);
    // The record of another instance, or under another key, is none.
    let other = Vault::open(disk.clone(), Uuid([1; 16]), master().derive(&UUID, Purpose::Ledger));
    assert_eq!(other.unwrap_err(), VaultError::Record);
    assert_eq!(Vault::open(disk, UUID, master()).unwrap_err(), VaultError::Record);
}

#[test]
fn suspend_keeps_what_is_volatile_once() {
    let disk = disk_with(2);
    let mut instance = boot(&disk, true).unwrap();
    for _ in 0..3 {
        value(&instance.execute(0, &command(common::PCR_EVENT))).unwrap();
    }
    instance.suspend().unwrap();
    assert_eq!(value(&instance.execute(0, &command(READ))), Err(0x101));
    instance.resume().unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::READ_EVENTS))), Ok(3));
    instance.suspend().unwrap();
    drop(instance);
    // In another domain, too; there the guest goes on.
    let mut instance = boot(&disk, false).unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::READ_EVENTS))), Ok(3));
    assert_eq!(value(&instance.execute(0, &command(READ))), Ok(2));
    // Not a second time: this guest's measurements are lost, and all PCRs say so.
    let mut instance = boot(&disk, false).unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::READ_EVENTS))), Ok(16));
    // A guest that starts together with its TPM has measured nothing.
    let mut instance = boot(&disk, true).unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::READ_EVENTS))), Ok(0));
    value(&instance.execute(0, &command(common::PCR_EVENT))).unwrap();
    instance.reset().unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::READ_EVENTS))), Ok(0));
    assert_eq!(value(&instance.execute(0, &command(READ))), Ok(2));
}

#[test]
fn a_halted_instance_stays_halted() {
    let disk = disk_with(1);
    let mut instance = boot(&disk, true).unwrap();
    assert_eq!(value(&instance.execute(0, &command(common::BREAK))), Err(0x101));
    assert!(matches!(instance.condition(), Condition::Halted(HaltReason::Engine(_))));
    assert!(instance.reset().is_err());
    assert!(instance.suspend().is_err());
    assert!(instance.resume().is_err());
    assert_eq!(value(&instance.execute(0, &command(READ))), Err(0x101));
    assert_eq!(value(&boot(&disk, true).unwrap().execute(0, &command(READ))), Ok(1));
}

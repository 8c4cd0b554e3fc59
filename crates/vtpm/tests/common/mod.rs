//! A TPM of a few lines, storage that loses power, and a manager without any transport.
#![allow(dead_code, reason = "each test program uses its part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use vtpm::command::{self, Family};
use vtpm::link::{Lease, Refusal, Seed};
use vtpm::seal::Purpose;
use vtpm::state::{Secret, State};
use vtpm::vault::{Area, Medium, Vault, VaultError};
use vtpm::{Engine, EngineError, Instance, Key, Peer, Random, Store, StoreError, Uuid};
use zeroize::Zeroizing;

pub const UUID: Uuid = Uuid(*b"instance under t");

pub fn master() -> Key {
    Key::new([7; 32])
}

/// Command codes of the toy TPM.
pub const INCREMENT: u32 = 0x1000;
pub const READ: u32 = 0x1001;
pub const BREAK: u32 = 0x1002;
pub const STARTUP: u32 = 0x144;
pub const PCR_EVENT: u32 = 0x13c;
pub const READ_EVENTS: u32 = 0x1003;

pub fn command(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// A TPM with one counter in non-volatile memory and a list of what was measured in volatile memory.
#[derive(Debug, Default)]
pub struct Toy {
    counter: u64,
    events: u64,
    started: bool,
    changed: bool,
}

fn number(bytes: Option<&Secret>) -> Result<u64, EngineError> {
    match bytes {
        None => Ok(0),
        Some(bytes) => {
            let bytes = bytes.as_slice().try_into();
            bytes.map(u64::from_le_bytes).map_err(|_| EngineError { call: "power_on", number: 1 })
        }
    }
}

impl Engine for Toy {
    fn name(&self) -> &str {
        "toy 1"
    }

    fn power_on(&mut self, state: &State) -> Result<(), EngineError> {
        let counter = number(state.permanent.as_ref())?;
        let events = number(state.volatile.as_ref())?;
        let new = state.permanent.is_none();
        *self = Toy { counter, events, started: state.volatile.is_some(), changed: new };
        Ok(())
    }

    fn power_off(&mut self) {
        *self = Toy::default();
    }

    fn execute(&mut self, _locality: u8, command: &[u8]) -> Result<Vec<u8>, EngineError> {
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        let answer = |value: u64| [&[0x80, 1, 0, 0, 0, 18, 0, 0, 0, 0][..], &value.to_be_bytes()].concat();
        Ok(match code {
            STARTUP if !self.started => {
                self.started = true;
                command::answer(Family::Tpm20, 0)
            }
            _ if !self.started => command::answer(Family::Tpm20, command::code::INITIALIZE),
            INCREMENT => {
                self.counter += 1;
                self.changed = true;
                answer(self.counter)
            }
            READ => answer(self.counter),
            PCR_EVENT => {
                self.events += 1;
                command::answer(Family::Tpm20, 0)
            }
            READ_EVENTS => answer(self.events),
            BREAK => return Err(EngineError { call: "break", number: 5 }),
            _ => command::answer(Family::Tpm20, 0x143),
        })
    }

    fn changed(&mut self) -> Option<State> {
        std::mem::take(&mut self.changed).then(|| State {
            permanent: Some(Secret::new(self.counter.to_le_bytes().to_vec())),
            ..State::new(Family::Tpm20)
        })
    }

    fn volatile(&mut self) -> Result<Vec<u8>, EngineError> {
        Ok(self.events.to_le_bytes().to_vec())
    }

    fn family(&self) -> Family {
        Family::Tpm20
    }
}

/// The value in an answer of the toy; the code, if it is an error.
pub fn value(answer: &[u8]) -> Result<u64, u32> {
    match command::answer_code(answer) {
        Some(0) if answer.len() == 18 => Ok(u64::from_be_bytes(answer[10..].try_into().unwrap())),
        Some(0) => Ok(0),
        code => Err(code.unwrap()),
    }
}

/// No power any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut;

/// How much of the write under way reaches the disk when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// Nothing.
    Nothing,
    /// So many thousandths, then the old contents.
    Prefix(usize),
    /// So many thousandths, then nothing: the file was cut when it was opened.
    Cut(usize),
    /// So many thousandths, then garbage.
    Garbage(usize),
    /// All; only the acknowledgement is missing.
    All,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(pub Rc<RefCell<DiskState>>);

#[derive(Debug, Default)]
pub struct DiskState {
    pub areas: BTreeMap<Area, Vec<u8>>,
    /// Writes from now until the power goes.
    pub fuse: Option<(u64, Torn)>,
    pub writes: u64,
    pub dead: bool,
}

impl Disk {
    pub fn power_goes_in(&self, writes: u64, torn: Torn) {
        self.0.borrow_mut().fuse = Some((writes, torn));
    }

    /// The power comes back. Whether it had gone.
    pub fn power_comes(&self) -> bool {
        let mut disk = self.0.borrow_mut();
        disk.fuse = None;
        std::mem::take(&mut disk.dead)
    }

    pub fn areas(&self) -> BTreeMap<Area, Vec<u8>> {
        self.0.borrow().areas.clone()
    }

    pub fn restore(&self, areas: BTreeMap<Area, Vec<u8>>) {
        self.0.borrow_mut().areas = areas;
    }
}

impl Medium for Disk {
    type Error = PowerCut;

    fn read(&mut self, area: Area, max: usize) -> Result<Option<Vec<u8>>, PowerCut> {
        let disk = self.0.borrow();
        if disk.dead {
            return Err(PowerCut);
        }
        Ok(disk.areas.get(&area).map(|bytes| bytes[..bytes.len().min(max)].to_vec()))
    }

    fn write(&mut self, area: Area, bytes: &[u8]) -> Result<(), PowerCut> {
        let mut disk = self.0.borrow_mut();
        if disk.dead {
            return Err(PowerCut);
        }
        disk.writes += 1;
        if let Some((left, torn)) = disk.fuse.as_mut() {
            if *left == 0 {
                let torn = *torn;
                disk.dead = true;
                let old = disk.areas.get(&area).cloned().unwrap_or_default();
                let at = |part: usize| bytes.len() * part / 1000;
                let new = match torn {
                    Torn::Nothing => return Err(PowerCut),
                    Torn::All => bytes.to_vec(),
                    Torn::Cut(part) => bytes[..at(part)].to_vec(),
                    Torn::Prefix(part) => {
                        let rest = old.get(at(part)..).unwrap_or_default();
                        [&bytes[..at(part)], rest].concat()
                    }
                    Torn::Garbage(part) => {
                        let garbage = vec![0xa5; bytes.len() - at(part)];
                        [&bytes[..at(part)], &garbage].concat()
                    }
                };
                disk.areas.insert(area, new);
                return Err(PowerCut);
            }
            *left -= 1;
        }
        disk.areas.insert(area, bytes.to_vec());
        Ok(())
    }
}

/// Random enough for a test; never the same twice.
#[derive(Debug, Default)]
pub struct Counting(pub u64);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        self.0 += 1;
        bytes.iter_mut().zip(self.0.to_le_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
        true
    }
}

/// The manager's side, called directly.
#[derive(Debug)]
pub struct Direct {
    pub vault: Rc<RefCell<Vault<Disk>>>,
    pub epoch: u64,
}

impl Store for Direct {
    fn commit(&mut self, sealed: &[u8]) -> Result<(), StoreError> {
        self.vault.borrow_mut().store(self.epoch, sealed).map_err(|error| match error {
            VaultError::StaleLease { .. } => StoreError::Refused(Refusal::StaleLease),
            _ => StoreError::Refused(Refusal::Storage),
        })
    }
}

pub type ToyInstance = Instance<Toy, Direct, Counting>;

pub fn lease(vault: &mut Vault<Disk>, fresh: bool) -> Result<Lease, VaultError<PowerCut>> {
    Ok(Lease {
        uuid: vault.uuid(),
        family: Family::Tpm20,
        fresh,
        epoch: vault.lease()?,
        mark: vault.mark(),
        key: master().derive(&UUID, Purpose::State),
        seed: Seed(Zeroizing::new([1; 64])),
        peers: vec![Peer::guest(5), Peer::manager(0)],
    })
}

pub fn open(disk: &Disk) -> Result<Vault<Disk>, VaultError<PowerCut>> {
    Vault::open(disk.clone(), UUID, master().derive(&UUID, Purpose::Ledger))
}

pub fn create(disk: &Disk) -> Result<Vault<Disk>, VaultError<PowerCut>> {
    Vault::create(disk.clone(), UUID, master().derive(&UUID, Purpose::Ledger))
}

/// Starts a domain on what the disk holds.
pub fn boot(disk: &Disk, fresh: bool) -> Result<ToyInstance, String> {
    let mut vault = open(disk).map_err(|error| format!("{error:?}"))?;
    let lease = lease(&mut vault, fresh).map_err(|error| format!("{error:?}"))?;
    let sealed = vault.load().map_err(|error| format!("{error:?}"))?.unwrap_or_default();
    let store = Direct { vault: Rc::new(RefCell::new(vault)), epoch: lease.epoch };
    // The same nonce after every restart would be a bug of the test only.
    let random = Counting(lease.epoch << 32);
    Instance::start(Toy::default(), store, random, &lease, &sealed).map_err(|error| format!("{error:?}"))
}

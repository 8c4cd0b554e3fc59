//! Where the manager keeps the sealed state of an instance: two slots for ciphertext, and a commit record in two
//! copies, which is also the ledger against rollback and fork.
//!
//! # Writing a state
//! 1. The slot that the record does not name is overwritten with the new container, durably.
//! 2. Copy 0 of the record is overwritten: it names that slot, and the container's epoch, counter and hash.
//! 3. Copy 1 is overwritten with the same.
//! 4. The write is acknowledged.
//!
//! Whatever of a write arrives when the power goes or a process is killed, one copy of the record is whole and names
//! a slot that is whole: before step 2 completes it is the old one in copy 1, afterwards the new one in copy 0.
//! After the acknowledgement both copies are the same, so damage to one of them loses nothing.
//!
//! # What is refused
//! A state whose hash is not that of the record: it was damaged, or somebody put an older one back. A record without
//! a valid MAC. A write under a lease that is not the latest: another domain runs the instance by now. If both
//! copies of the record are bad, the instance does not start; there is no guessing from what is in the slots.
//!
//! The ledger protects against whoever can write the slots. Whoever can put back *both* copies of an old record
//! together with the old slots goes undetected: the record belongs on storage that only the manager can write.

use alloc::vec::Vec;
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::seal::{self, Key, SEALED_MAX, SealError, Uuid};
use crate::wire::{Cursor, Put};

/// A place on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Ciphertext, 0 or 1.
    Slot(u8),
    /// Copy of the commit record, 0 or 1.
    Record(u8),
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Area::Slot(number) => write!(f, "slot {number}"),
            Area::Record(number) => write!(f, "copy {number} of the commit record"),
        }
    }
}

/// Storage of one instance.
pub trait Medium {
    /// What can go wrong.
    type Error;

    /// The contents of an area, at most so many bytes; `None` if it was never written.
    ///
    /// # Errors
    /// The medium's.
    fn read(&mut self, area: Area, max: usize) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Replaces an area. When it returns, the contents are durable. When it does not, the area may hold anything;
    /// other areas must not suffer.
    ///
    /// # Errors
    /// The medium's.
    fn write(&mut self, area: Area, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why the vault refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError<E> {
    /// The medium failed.
    #[error("the storage failed: {0}")]
    Medium(E),
    /// There is no instance here.
    #[error("there is no such instance")]
    Missing,
    /// There is one already.
    #[error("the instance exists already")]
    Exists,
    /// Neither copy of the commit record is whole and authentic.
    #[error("the commit record was damaged or forged in both copies")]
    Record,
    /// The slot does not hold what the record names.
    #[error("the state is not the one that was written last: it was damaged, or an older one was put back")]
    RolledBack,
    /// A write under a lease that has ended.
    #[error("lease {offered} has ended, {current} is the latest: another domain runs this instance")]
    StaleLease {
        /// The writer's.
        offered: u64,
        /// The latest.
        current: u64,
    },
    /// A state that does not follow the last one.
    #[error("state {offered} does not follow state {current}")]
    Counter {
        /// The writer's.
        offered: u64,
        /// The last one.
        current: u64,
    },
    /// A container that is none, or another instance's.
    #[error("what is to be written is no state of this instance")]
    Foreign,
}

impl<E> From<SealError> for VaultError<E> {
    fn from(_: SealError) -> Self {
        VaultError::Foreign
    }
}

/// Names one sealed state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The lease under which it was written.
    pub epoch: u64,
    /// Its number.
    pub counter: u64,
    /// Hash of the container.
    pub hash: [u8; 32],
}

/// The commit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    sequence: u64,
    /// Number of the latest lease.
    lease: u64,
    state: Option<(u8, Mark)>,
}

const MAGIC: [u8; 8] = *b"CMVTPMLG";
const FORMAT: u16 = 1;
const MAC_LEN: usize = 32;
const RECORD_LEN: usize = 8 + 2 + 16 + 8 + 8 + 1 + 1 + 8 + 8 + 32 + MAC_LEN;

fn mac(key: &Key) -> Option<Hmac<Sha256>> {
    // HMAC takes keys of every length.
    Hmac::new_from_slice(key.bytes()).ok()
}

impl Record {
    fn to_bytes(self, uuid: &Uuid, key: &Key) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_LEN);
        bytes.put(&MAGIC).put_u16(FORMAT).put(&uuid.0).put_u64(self.sequence).put_u64(self.lease);
        let (slot, mark) = self.state.unwrap_or_default();
        bytes.put_u8(self.state.is_some().into()).put_u8(slot);
        bytes.put_u64(mark.epoch).put_u64(mark.counter).put(&mark.hash);
        if let Some(mut mac) = mac(key) {
            mac.update(&bytes);
            bytes.put(&mac.finalize().into_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8], uuid: &Uuid, key: &Key) -> Option<Record> {
        let (signed, tag) = bytes.split_at_checked(RECORD_LEN - MAC_LEN)?;
        let mut mac = mac(key)?;
        mac.update(signed);
        mac.verify_slice(tag).ok()?;
        let mut cursor = Cursor::new(signed);
        if cursor.array()? != MAGIC || cursor.u16()? != FORMAT || cursor.array()? != uuid.0 {
            return None;
        }
        let (sequence, lease) = (cursor.u64()?, cursor.u64()?);
        let (present, slot) = (cursor.flag()?, cursor.flag()?);
        let mark = Mark { epoch: cursor.u64()?, counter: cursor.u64()?, hash: cursor.array()? };
        cursor.end()?;
        Some(Record { sequence, lease, state: present.then_some((slot.into(), mark)) })
    }
}

/// The stored state of one instance.
#[derive(Debug)]
pub struct Vault<M> {
    medium: M,
    uuid: Uuid,
    key: Key,
    record: Record,
    /// A write of the record failed: what the medium holds is only known after opening it again.
    unsure: bool,
}

impl<M: Medium> Vault<M> {
    /// Makes the storage of a new instance. `key` is the ledger's ([`Purpose::Ledger`](seal::Purpose)).
    ///
    /// # Errors
    /// [`VaultError::Exists`], or the medium's.
    pub fn create(mut medium: M, uuid: Uuid, key: Key) -> Result<Vault<M>, VaultError<M::Error>> {
        for copy in [0, 1] {
            if medium.read(Area::Record(copy), RECORD_LEN).map_err(VaultError::Medium)?.is_some() {
                return Err(VaultError::Exists);
            }
        }
        let record = Record { sequence: 0, lease: 0, state: None };
        let mut vault = Vault { medium, uuid, key, record, unsure: false };
        vault.put(Record { sequence: 1, ..record })?;
        Ok(vault)
    }

    /// Opens the storage of an instance, and repairs what a write left behind that did not complete.
    ///
    /// # Errors
    /// [`VaultError::Missing`], [`VaultError::Record`], or the medium's.
    pub fn open(mut medium: M, uuid: Uuid, key: Key) -> Result<Vault<M>, VaultError<M::Error>> {
        let mut read = |copy| medium.read(Area::Record(copy), RECORD_LEN + 1).map_err(VaultError::Medium);
        let bytes = [read(0)?, read(1)?];
        if bytes.iter().all(Option::is_none) {
            return Err(VaultError::Missing);
        }
        let copies = bytes.map(|bytes| Record::parse(&bytes?, &uuid, &key));
        let newest = copies.into_iter().flatten().max_by_key(|record| record.sequence);
        let record = newest.ok_or(VaultError::Record)?;
        let mut vault = Vault { medium, uuid, key, record, unsure: false };
        // Only a copy that is not the newest: the other one may be the last good one.
        for (copy, old) in [0, 1].into_iter().zip(copies) {
            if old != Some(record) {
                let bytes = record.to_bytes(&vault.uuid, &vault.key);
                vault.medium.write(Area::Record(copy), &bytes).map_err(VaultError::Medium)?;
            }
        }
        Ok(vault)
    }

    /// The instance.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Number of the latest lease.
    pub fn epoch(&self) -> u64 {
        self.record.lease
    }

    /// The state that was written last.
    pub fn mark(&self) -> Option<Mark> {
        self.record.state.map(|(_, mark)| mark)
    }

    /// The medium, for its owner.
    pub fn into_medium(self) -> M {
        self.medium
    }

    /// Writes both copies of the record.
    fn put(&mut self, record: Record) -> Result<(), VaultError<M::Error>> {
        let bytes = record.to_bytes(&self.uuid, &self.key);
        self.unsure = true;
        for copy in [0, 1] {
            self.medium.write(Area::Record(copy), &bytes).map_err(VaultError::Medium)?;
        }
        self.record = record;
        self.unsure = false;
        Ok(())
    }

    /// After a write of the record failed, the medium may hold the old or the new one. To go on with the wrong one
    /// could overwrite the slot that the right one names.
    fn be_sure(&mut self) -> Result<(), VaultError<M::Error>> {
        if self.unsure { Err(VaultError::Record) } else { Ok(()) }
    }

    /// Starts a lease: its number is one more than that of the one before, whose holder can write no more.
    ///
    /// # Errors
    /// The medium's; [`VaultError::Record`] after an earlier failure.
    pub fn lease(&mut self) -> Result<u64, VaultError<M::Error>> {
        self.be_sure()?;
        let Record { sequence, lease, .. } = self.record;
        self.put(Record { sequence: sequence + 1, lease: lease + 1, ..self.record })?;
        Ok(self.record.lease)
    }

    /// The sealed state that was written last; `None` for an instance that never ran.
    ///
    /// # Errors
    /// [`VaultError::RolledBack`], or the medium's.
    pub fn load(&mut self) -> Result<Option<Vec<u8>>, VaultError<M::Error>> {
        let Some((slot, mark)) = self.record.state else { return Ok(None) };
        let sealed = self.medium.read(Area::Slot(slot), SEALED_MAX + 1).map_err(VaultError::Medium)?;
        match sealed {
            Some(sealed) if seal::hash(&sealed) == mark.hash => Ok(Some(sealed)),
            _ => Err(VaultError::RolledBack),
        }
    }

    /// Writes a state under a lease. When it returns, the state is durable.
    ///
    /// # Errors
    /// [`VaultError`]; nothing has changed then, unless it is the medium's.
    pub fn store(&mut self, lease: u64, sealed: &[u8]) -> Result<(), VaultError<M::Error>> {
        self.be_sure()?;
        let header = seal::peek(sealed)?;
        let current = self.record.lease;
        if lease != current || header.epoch != lease {
            return Err(VaultError::StaleLease { offered: header.epoch.min(lease), current });
        }
        if header.uuid != self.uuid {
            return Err(VaultError::Foreign);
        }
        let last = self.record.state.map_or(0, |(_, mark)| mark.counter);
        if header.counter.checked_sub(1) != Some(last) {
            return Err(VaultError::Counter { offered: header.counter, current: last });
        }
        let slot = self.record.state.map_or(0, |(slot, _)| 1 - slot);
        self.medium.write(Area::Slot(slot), sealed).map_err(VaultError::Medium)?;
        let mark = Mark { epoch: header.epoch, counter: header.counter, hash: seal::hash(sealed) };
        self.put(Record { sequence: self.record.sequence + 1, state: Some((slot, mark)), ..self.record })
    }
}

//! IDC B: the vTPM domain's side of the channel to the manager.
//!
//! The manager may be restarted at any time. A write that was under way is settled afterwards: the manager says which
//! state it has, and the write is made again only if it is not that one.

use std::time::Duration;

use idc::{Channel, Config, Deadline, DomId, Idc};
use vtpm::link::{self, Ask, BadMessage, Lease, MESSAGE_MAX, Refusal};
use vtpm::{Store, StoreError, seal};
use zeroize::Zeroizing;

/// Ring of our direction: a sealed state of a usual size fits.
const PAGES: usize = 8;

/// What went wrong between us and the manager.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The channel.
    #[error("the manager cannot be reached: {0}")]
    Idc(#[from] idc::Error),
    /// It ended the channel.
    #[error("the manager ended the channel")]
    Ended,
    /// It speaks nonsense.
    #[error("{0}")]
    Message(#[from] BadMessage),
    /// It refuses.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// The channel to the manager.
#[derive(Debug)]
pub struct ManagerLink {
    idc: Idc,
    manager: DomId,
    patience: Duration,
    channel: Channel,
    epoch: u64,
}

fn dial(idc: &Idc, manager: DomId, deadline: Deadline) -> Result<Channel, idc::Error> {
    let config =
        Config::default().with_pages(PAGES).with_max_message(MESSAGE_MAX).with_spin(idc::Spin::Never);
    Channel::dial(idc, manager, link::SERVICE, &config, deadline)
}

fn ask(channel: &mut Channel, ask: Ask, contents: &[u8]) -> Result<Zeroizing<Vec<u8>>, LinkError> {
    channel.send(&link::request(ask, contents))?;
    let bytes = Zeroizing::new(channel.recv()?.ok_or(LinkError::Ended)?);
    Ok(Zeroizing::new(link::parse_answer(&bytes, ask)??.to_vec()))
}

impl ManagerLink {
    /// Connects; waits for the manager to appear.
    ///
    /// # Errors
    /// The channel's.
    pub fn connect(idc: &Idc, manager: DomId, patience: Duration) -> Result<ManagerLink, LinkError> {
        let channel = dial(idc, manager, idc.deadline(patience))?;
        Ok(ManagerLink { idc: idc.clone(), manager, patience, channel, epoch: 0 })
    }

    /// Takes the lease.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn lease(&mut self) -> Result<Lease, LinkError> {
        let lease = Lease::parse(&ask(&mut self.channel, Ask::Lease, &[])?)?;
        self.epoch = lease.epoch;
        Ok(lease)
    }

    /// The sealed state; empty for a new instance.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn load(&mut self) -> Result<Vec<u8>, LinkError> {
        Ok(ask(&mut self.channel, Ask::Load, &[])?.to_vec())
    }

    /// A new channel with the old lease. Whether the manager has this state already.
    fn rejoin(&mut self, sealed: &[u8], deadline: Deadline) -> Result<bool, LinkError> {
        self.channel = dial(&self.idc, self.manager, deadline)?;
        let answer = ask(&mut self.channel, Ask::Rejoin, &self.epoch.to_le_bytes())?;
        Ok(link::parse_mark(&answer)?.is_some_and(|mark| mark.hash == seal::hash(sealed)))
    }
}

impl Store for ManagerLink {
    fn commit(&mut self, sealed: &[u8]) -> Result<(), StoreError> {
        let deadline = self.idc.deadline(self.patience);
        let mut result = ask(&mut self.channel, Ask::Store, sealed).map(|_| true);
        loop {
            match result {
                Ok(true) => return Ok(()),
                // On a new channel, and the manager does not have it.
                Ok(false) => result = ask(&mut self.channel, Ask::Store, sealed).map(|_| true),
                Err(LinkError::Refused(refusal)) => return Err(StoreError::Refused(refusal)),
                Err(LinkError::Message(BadMessage)) => return Err(StoreError::Unreachable),
                Err(LinkError::Idc(_) | LinkError::Ended) => {
                    if self.idc.deadline(Duration::ZERO) >= deadline {
                        return Err(StoreError::Unreachable);
                    }
                    result = self.rejoin(sealed, deadline);
                }
            }
        }
    }
}

//! Where a guest's vTPM is. A vTPM domain that is started again has a new number, so dom0 writes it where the guest can
//! read it: `casemate/vtpm` in the guest's part of xenstore. What stands there is a hint, and no right: whether a guest
//! is let in is decided by the vTPM domain, and whom a guest believes to be its TPM is dom0's to say anyway.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use idc::DomId;

use xenstore::Xenstore;

/// The node, below the guest's home.
const NODE: &str = "casemate/vtpm";

/// Where the vTPM is.
#[derive(Debug)]
pub enum Place {
    /// In this domain.
    Fixed(DomId),
    /// Where dom0 says.
    Told(Box<Told>),
}

/// What dom0 says.
#[derive(Debug)]
pub struct Told(Xenstore);

impl Place {
    /// Wherever dom0 says.
    ///
    /// # Errors
    /// There is no xenstore.
    pub fn told() -> Result<Place> {
        let mut store = Xenstore::open()?;
        store.watch(NODE)?;
        Ok(Place::Told(Box::new(Told(store))))
    }

    /// The domain.
    ///
    /// # Errors
    /// dom0 names none before the deadline.
    pub fn find(&mut self, deadline: Instant) -> Result<DomId> {
        let store = match self {
            Place::Fixed(domid) => return Ok(*domid),
            Place::Told(told) => &mut told.0,
        };
        loop {
            if let Some(domid) = store.number(NODE)? {
                return Ok(DomId(domid));
            }
            if !store.changed(deadline)? {
                bail!("dom0 names no vTPM for this domain: `vtpmd instance start` or `attach` there does");
            }
        }
    }

    /// Waits until dom0 says something new, or for the deadline.
    ///
    /// # Errors
    /// xenstore's.
    pub fn wait(&mut self, deadline: Instant) -> Result<()> {
        match self {
            Place::Fixed(_) => Ok(()),
            Place::Told(told) => Ok(told.0.changed(deadline).map(drop)?),
        }
    }

    /// Whether it makes sense to look again.
    pub fn may_move(&self) -> bool {
        matches!(self, Place::Told(_))
    }
}

/// In dom0: tells a guest where its vTPM is.
///
/// # Errors
/// There is no xenstore, or no such guest.
pub fn announce(store: &mut Xenstore, guest: u16, vtpm: u16) -> Result<()> {
    let home = format!("/local/domain/{guest}");
    store.read(&format!("{home}/domid"))?.with_context(|| format!("there is no domain {guest}"))?;
    Ok(store.write(&format!("{home}/{NODE}"), vtpm.to_string().as_bytes())?)
}

/// In dom0: tells a guest that it has no vTPM any more.
///
/// # Errors
/// There is no xenstore.
pub fn withdraw(store: &mut Xenstore, guest: u16) -> Result<()> {
    Ok(store.remove(&format!("/local/domain/{guest}/{NODE}"))?)
}

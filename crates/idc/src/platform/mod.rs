//! What a channel needs from the system below it, and the systems there are.
//!
//! | module | where | pages | events | names |
//! |---|---|---|---|---|
//! | `libos` | a domain of our own (`--cfg casemate`) | the kernel's grant table | the kernel's ports | xenstore |
//! | `linux` | dom0 or a Linux domU | gntalloc, gntdev | /dev/xen/evtchn | xenstore |
//! | `hosted` | two plain Linux processes | memfd passed over a Unix socket | eventfd | a Unix socket |
//!
//! They have one shape, [`Platform`]. What is not safe is in a small file of its own: `libos/sys.rs`,
//! `linux/sys.rs` (requests to devices) and `mapping.rs` (mmap, for `linux` and `hosted`).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::error::Result;
use crate::name::ServiceName;
use crate::ring::RingMemory;
use crate::shm::Memory;
use crate::{DomId, EvtchnPort, GrantRef};

#[cfg(all(feature = "std", not(casemate)))]
mod gate;
#[cfg(all(feature = "std", not(casemate)))]
pub mod hosted;
#[cfg(casemate)]
pub mod libos;
#[cfg(all(feature = "std", not(casemate)))]
pub mod linux;
#[cfg(all(feature = "std", not(casemate)))]
mod mapping;
#[cfg(all(feature = "std", not(casemate)))]
mod native;
#[cfg(all(feature = "std", not(casemate)))]
pub use native::Native;
/// The platform of this build.
#[cfg(casemate)]
pub type Native = libos::LibOs;
#[cfg(not(any(feature = "std", casemate)))]
mod none;
#[cfg(not(any(feature = "std", casemate)))]
pub use none::Native;

/// How a page is granted or mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The peer (or, for a mapping, this side) may only read.
    ReadOnly,
    /// It may read and write.
    ReadWrite,
}

/// State of a local event-channel port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortStatus {
    /// Nobody has bound to it yet, or who had is gone: the one follows from what happened before.
    Unbound,
    /// Bound to a port of the peer.
    Bound,
    /// The system cannot say.
    Unknown,
}

/// A local event-channel port. Dropping it closes it.
pub trait Event {
    /// Its number; the peer binds to it.
    fn port(&self) -> EvtchnPort;

    /// Sends an event to the peer. Not an error if nobody has bound to the port.
    ///
    /// # Errors
    /// The system's.
    fn notify(&self) -> Result<()>;

    /// Waits for an event and takes it, until the deadline (nanoseconds of [`Platform::now`]): whether one
    /// came. An event that came before the call counts. May return early without an event.
    ///
    /// # Errors
    /// The system's.
    fn wait(&self, deadline: u64) -> Result<bool>;

    /// A number for [`wait_since`](Self::wait_since), taken before the peer is asked for an event.
    fn ticket(&self) -> u64 {
        0
    }

    /// As [`wait`](Self::wait), for one of several threads that wait for the same port: an event that another
    /// thread has taken since the ticket was given out counts too.
    ///
    /// # Errors
    /// The system's.
    fn wait_since(&self, ticket: u64, deadline: u64) -> Result<bool> {
        let _ = ticket;
        self.wait(deadline)
    }

    /// The peer is gone, and another one may bind to the port.
    fn reset(&self) {}

    /// Asks the system for the port's state.
    ///
    /// # Errors
    /// The system's.
    fn status(&self) -> Result<PortStatus>;
}

/// Pages that were granted to a peer.
#[derive(Debug)]
pub struct Granted<M> {
    /// The pages, one behind the other and zeroed. Dropping them withdraws the grants.
    pub memory: M,
    /// Their grant references.
    pub refs: Vec<GrantRef>,
}

/// A client asks for a channel: it has granted the setup page of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The client, as the system attests it.
    pub peer: DomId,
    /// The setup page of its ring.
    pub gref: GrantRef,
    /// Tells this offer from others of the same domain; the same offer may come more than once.
    pub id: u64,
}

/// A name under which clients reach this side. Dropping it takes the name back.
pub trait Acceptor {
    /// The next offer; `None` when the deadline has passed.
    ///
    /// # Errors
    /// The system's.
    fn next(&mut self, deadline: u64) -> Result<Option<Offer>>;
}

/// An offer that has been made to a service. Dropping it withdraws the offer.
pub trait Call {
    /// Makes the offer again: the service may not have been listening when it was made.
    ///
    /// # Errors
    /// [`Error::PeerDied`](crate::Error::PeerDied) if that is known, or the system's.
    fn remind(&mut self) -> Result<()>;
}

/// What a client wants from a service.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// The domain that offers the service.
    pub peer: DomId,
    /// Its name.
    pub service: ServiceName,
    /// The setup page of the client's ring.
    pub gref: GrantRef,
    /// Number of the offer.
    pub id: u64,
}

/// The system below the channels. A value is a handle: clones stand for the same thing.
pub trait Platform: Clone + fmt::Debug {
    /// Granted or mapped pages.
    type Memory: Memory + fmt::Debug;
    /// A port.
    type Event: Event + fmt::Debug;
    /// A name that is being served.
    type Acceptor: Acceptor + fmt::Debug;
    /// An offer that has been made.
    type Call: Call + fmt::Debug;

    /// Id of this domain.
    ///
    /// # Errors
    /// The system's.
    fn domid(&self) -> Result<DomId>;

    /// Allocates zeroed pages and grants them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::GrantLimit`](crate::Error::GrantLimit),
    /// [`Error::Quarantined`](crate::Error::Quarantined) or the system's.
    fn grant(&self, peer: DomId, pages: usize, access: Access) -> Result<Granted<Self::Memory>>;

    /// Pages of closed channels that the peer (or any) still has mapped, if this platform has to keep them.
    fn quarantined(&self, peer: Option<DomId>) -> usize {
        let _ = peer;
        0
    }

    /// Whether [`grant`](Self::grant) would give the peer any pages.
    ///
    /// # Errors
    /// [`Error::Quarantined`](crate::Error::Quarantined).
    fn admit(&self, peer: DomId) -> Result<()> {
        let _ = peer;
        Ok(())
    }

    /// Maps pages that the peer granted, one behind the other.
    ///
    /// # Errors
    /// [`Error::BadGrant`](crate::Error::BadGrant) or the system's.
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Self::Memory>;

    /// Has the kernel clear the byte at `offset` and send an event when this process dies, or this domain does so by
    /// itself. Platforms whose peers notice death by other means do nothing.
    ///
    /// # Errors
    /// The system's.
    fn announce_death(&self, memory: &Self::Memory, offset: usize, event: &Self::Event) -> Result<()>;

    /// The last user of a ring that this side made is about to drop it. Where the system is slow to take pages back that
    /// the peer still has mapped, the platform may keep them until it has unmapped them.
    fn retire(&self, ring: &Arc<RingMemory<Self::Memory>>) {
        let _ = ring;
    }

    /// Allocates a port for the peer to bind to.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) or the system's.
    fn alloc_unbound(&self, peer: DomId) -> Result<Self::Event>;

    /// Binds to a port of the peer.
    ///
    /// # Errors
    /// [`Error::PeerDied`](crate::Error::PeerDied) when there is no such port (any more), or the system's.
    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> Result<Self::Event>;

    /// Nanoseconds of a clock that never goes back.
    fn now(&self) -> u64;

    /// Sleeps, however many events come.
    fn sleep_until(&self, deadline: u64);

    /// Lets others run.
    fn relax(&self);

    /// A number that has not been used before.
    fn nonce(&self) -> u64;

    /// Whether waiting in a loop can pay: another processor may be working for us.
    fn can_spin(&self) -> bool;

    /// Starts to serve a name.
    ///
    /// # Errors
    /// [`Error::NameTaken`](crate::Error::NameTaken) or the system's.
    fn serve(&self, service: ServiceName) -> Result<Self::Acceptor>;

    /// Waits until the service is there, and makes it an offer.
    ///
    /// # Errors
    /// [`Error::PeerAbsent`](crate::Error::PeerAbsent), [`Error::NoSuchService`](crate::Error::NoSuchService)
    /// when the deadline has passed, or the system's.
    fn call(&self, dial: Dial, deadline: u64) -> Result<Self::Call>;
}

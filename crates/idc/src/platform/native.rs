//! The platform of a Linux program, chosen when it runs: Xen's devices, or hosted processes.

use std::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::hosted::{Hosted, HostedAcceptor, HostedCall, HostedConfig, HostedEvent};
use super::linux::{Linux, LinuxAcceptor, LinuxCall, LinuxEvent};
use super::mapping::Mapping;
use super::{Acceptor, Access, Call, Dial, Event, Granted, Offer, Platform, PortStatus, hosted, linux};
use crate::endpoint::Idc;
use crate::error::Result;
use crate::name::ServiceName;
use crate::ring::RingMemory;
use crate::shm::Pages;
use crate::{DomId, EvtchnPort, GrantRef};

/// One of the platforms of a Linux program.
#[derive(Clone, Debug)]
pub enum Native {
    /// Xen, through the stock drivers.
    Linux(Linux),
    /// Hosted processes.
    Hosted(Hosted),
}

impl Idc<Native> {
    /// Opens Xen's devices. This works in dom0 and in a Linux domU, as root or with access to
    /// `/dev/xen/{gntalloc,gntdev,evtchn}` and to xenstore.
    ///
    /// # Errors
    /// [`Error::NoPlatform`](crate::Error::NoPlatform) when there is no Xen or a driver is missing, or the
    /// system's.
    pub fn open() -> Result<Idc<Native>> {
        Linux::open().map(Native::Linux).map(Idc::with_platform)
    }

    /// Plays a domain in a plain Linux process; see [`HostedConfig`].
    ///
    /// # Errors
    /// [`Error::BadConfig`](crate::Error::BadConfig) when another process has the id, or the system's.
    pub fn hosted(config: HostedConfig) -> Result<Idc<Native>> {
        Hosted::new(config).map(Native::Hosted).map(Idc::with_platform)
    }
}

/// Number that no other call of any process gets.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Eight bytes are never cut short, and the generator is ready long before programs run.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

/// What ends with the pages of either platform.
#[derive(Debug)]
pub enum Extra {
    /// See [`linux::Entry`].
    Linux(linux::Entry),
    /// See [`hosted::Grants`].
    Hosted(hosted::Grants),
}

/// Delegates to the platform that was chosen.
macro_rules! each {
    ($self:expr, $platform:ident => $body:expr) => {
        match $self {
            Self::Linux($platform) => $body,
            Self::Hosted($platform) => $body,
        }
    };
}

/// A port of either platform.
#[derive(Debug)]
pub enum NativeEvent {
    /// An event channel.
    Linux(LinuxEvent),
    /// A pair of event descriptors.
    Hosted(HostedEvent),
}

impl Event for NativeEvent {
    fn port(&self) -> EvtchnPort {
        each!(self, event => event.port())
    }

    fn notify(&self) -> Result<()> {
        each!(self, event => event.notify())
    }

    fn wait(&self, deadline: u64) -> Result<bool> {
        each!(self, event => event.wait(deadline))
    }

    fn reset(&self) {
        each!(self, event => event.reset());
    }

    fn ticket(&self) -> u64 {
        each!(self, event => event.ticket())
    }

    fn wait_since(&self, ticket: u64, deadline: u64) -> Result<bool> {
        each!(self, event => event.wait_since(ticket, deadline))
    }

    fn status(&self) -> Result<PortStatus> {
        each!(self, event => event.status())
    }
}

impl AsFd for NativeEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, event => event.as_fd())
    }
}

/// A served name of either platform.
#[derive(Debug)]
pub enum NativeAcceptor {
    /// Through xenstore.
    Linux(Box<LinuxAcceptor>),
    /// Through a socket.
    Hosted(HostedAcceptor),
}

impl Acceptor for NativeAcceptor {
    fn next(&mut self, deadline: u64) -> Result<Option<Offer>> {
        each!(self, acceptor => acceptor.next(deadline))
    }
}

/// An offer of either platform.
#[derive(Debug)]
pub enum NativeCall {
    /// Through xenstore.
    Linux(Box<LinuxCall>),
    /// Through a socket.
    Hosted(HostedCall),
}

impl Call for NativeCall {
    fn remind(&mut self) -> Result<()> {
        each!(self, call => call.remind())
    }
}

impl Platform for Native {
    type Memory = Pages<Mapping, Extra>;
    type Event = NativeEvent;
    type Acceptor = NativeAcceptor;
    type Call = NativeCall;

    fn domid(&self) -> Result<DomId> {
        each!(self, platform => platform.domid())
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> Result<Granted<Pages<Mapping, Extra>>> {
        Ok(match self {
            Native::Linux(platform) => {
                let Granted { memory, refs } = platform.grant(peer, pages, access)?;
                Granted { memory: memory.map_extra(Extra::Linux), refs }
            }
            Native::Hosted(platform) => {
                let Granted { memory, refs } = platform.grant(peer, pages, access)?;
                Granted { memory: memory.map_extra(Extra::Hosted), refs }
            }
        })
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Pages<Mapping, Extra>> {
        match self {
            Native::Linux(platform) => Ok(platform.map(peer, refs, access)?.map_extra(Extra::Linux)),
            Native::Hosted(platform) => Ok(platform.map(peer, refs, access)?.map_extra(Extra::Hosted)),
        }
    }

    fn announce_death(
        &self,
        memory: &Pages<Mapping, Extra>,
        offset: usize,
        event: &NativeEvent,
    ) -> Result<()> {
        match memory.extra() {
            Extra::Linux(entry) => entry.announce_death(offset, event.port()),
            // The connection that belongs to the port hangs up.
            Extra::Hosted(_) => Ok(()),
        }
    }

    fn retire(&self, ring: &Arc<RingMemory<Self::Memory>>) {
        if let (Native::Linux(platform), Extra::Linux(entry)) = (self, ring.writer.extra()) {
            platform.retire_ring(ring, entry);
        }
    }

    fn alloc_unbound(&self, peer: DomId) -> Result<NativeEvent> {
        match self {
            Native::Linux(platform) => platform.alloc_unbound(peer).map(NativeEvent::Linux),
            Native::Hosted(platform) => platform.alloc_unbound(peer).map(NativeEvent::Hosted),
        }
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> Result<NativeEvent> {
        match self {
            Native::Linux(platform) => platform.bind_interdomain(peer, port).map(NativeEvent::Linux),
            Native::Hosted(platform) => platform.bind_interdomain(peer, port).map(NativeEvent::Hosted),
        }
    }

    fn now(&self) -> u64 {
        each!(self, platform => platform.now())
    }

    fn sleep_until(&self, deadline: u64) {
        each!(self, platform => platform.sleep_until(deadline));
    }

    fn relax(&self) {
        each!(self, platform => platform.relax());
    }

    fn nonce(&self) -> u64 {
        each!(self, platform => platform.nonce())
    }

    fn can_spin(&self) -> bool {
        each!(self, platform => platform.can_spin())
    }

    fn serve(&self, service: ServiceName) -> Result<NativeAcceptor> {
        match self {
            Native::Linux(platform) => platform.serve(service).map(Box::new).map(NativeAcceptor::Linux),
            Native::Hosted(platform) => platform.serve(service).map(NativeAcceptor::Hosted),
        }
    }

    fn call(&self, dial: Dial, deadline: u64) -> Result<NativeCall> {
        match self {
            Native::Linux(platform) => platform.call(dial, deadline).map(Box::new).map(NativeCall::Linux),
            Native::Hosted(platform) => platform.call(dial, deadline).map(NativeCall::Hosted),
        }
    }
}

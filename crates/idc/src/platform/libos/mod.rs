//! Channels of a domain of our own: pages, ports and xenstore of the library OS kernel.
//!
//! A thread that waits for an event blocks in the kernel, and if all do, so does the domain. Pages that a peer
//! still has mapped when a channel closes go to [`crate::quarantine`].
//!
//! A domain of our own dies as a whole. If it panics, faults or exits, its last act is what Linux does for a process that
//! dies: it clears the liveness words and sends events. If it is destroyed its ports close, which its peers ask for.

use core::sync::atomic::{AtomicU64, Ordering};

use libos_sys::{errno, evtchn_status};

use self::store::LibStore;
use self::sys::{GrantError, Keeper};
use crate::endpoint::Idc;
use crate::error::{Error, Result};
use crate::name::{ServiceName, XenAcceptor, XenCall, show_alive};
use crate::platform::{Access, Dial, Event, Granted, Platform, PortStatus};
use crate::shm::Pages;
use crate::{DomId, EvtchnPort, GrantRef};

pub(crate) mod store;
mod sys;

/// The library OS.
#[derive(Clone, Copy, Debug)]
pub struct LibOs(());

impl Idc<LibOs> {
    /// Opens the domain's own kernel; cannot fail, but on other platforms it can.
    ///
    /// # Errors
    /// None.
    pub fn open() -> Result<Idc<LibOs>> {
        // For peers in other domUs. Channels work without it.
        let _ = show_alive(&mut LibStore::new());
        sys::at_end();
        Ok(Idc::with_platform(LibOs(())))
    }
}

fn system(call: &'static str) -> impl FnOnce(sys::Errno) -> Error {
    move |number| match number {
        errno::ENOMEM | errno::ENOSPC => Error::OutOfMemory("event-channel ports"),
        errno => Error::System { call, errno, hint: "see the domain's console and `xl dmesg`" },
    }
}

/// A port.
#[derive(Debug)]
pub struct LibEvent(EvtchnPort);

impl Drop for LibEvent {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

impl Event for LibEvent {
    fn port(&self) -> EvtchnPort {
        self.0
    }

    fn notify(&self) -> Result<()> {
        sys::notify(self.0).map_err(system("sending an event"))
    }

    fn wait(&self, deadline: u64) -> Result<bool> {
        sys::wait_event(self.0, deadline).map_err(system("waiting for an event"))
    }

    fn status(&self) -> Result<PortStatus> {
        let status = sys::status(self.0).map_err(system("asking for the state of a port"))?;
        Ok(match i32::try_from(status) {
            Ok(evtchn_status::INTERDOMAIN) => PortStatus::Bound,
            Ok(evtchn_status::UNBOUND) => PortStatus::Unbound,
            _ => PortStatus::Unknown,
        })
    }
}

impl Platform for LibOs {
    type Memory = Pages<Keeper>;
    type Event = LibEvent;
    type Acceptor = XenAcceptor<LibStore>;
    type Call = XenCall<LibStore>;

    fn domid(&self) -> Result<DomId> {
        Ok(sys::domid())
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> Result<Granted<Pages<Keeper>>> {
        let (memory, refs) = sys::grant(peer, pages, access).map_err(|error| match error {
            GrantError::NoMemory => Error::OutOfMemory("granted pages"),
            GrantError::Refused(error) => error,
        })?;
        Ok(Granted { memory, refs })
    }

    fn quarantined(&self, peer: Option<DomId>) -> usize {
        sys::quarantined(peer)
    }

    fn admit(&self, peer: DomId) -> Result<()> {
        sys::admit(peer)
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Pages<Keeper>> {
        let gref = refs.first().copied().unwrap_or_default();
        sys::map(peer, refs, access).map_err(|number| match number {
            errno::ENOMEM => Error::OutOfMemory("mapped pages"),
            _ => Error::BadGrant { peer, gref },
        })
    }

    fn announce_death(&self, memory: &Pages<Keeper>, offset: usize, event: &LibEvent) -> Result<()> {
        sys::announce(memory.keeper(), offset, event.0);
        Ok(())
    }

    fn alloc_unbound(&self, peer: DomId) -> Result<LibEvent> {
        sys::alloc_unbound(peer).map(LibEvent).map_err(system("allocating an event channel"))
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> Result<LibEvent> {
        sys::bind_interdomain(peer, port).map(LibEvent).map_err(|number| match number {
            errno::EINVAL | errno::ENOENT => Error::PeerDied { peer },
            // ESRCH: no such domain.
            3 => Error::PeerDied { peer },
            number => system("binding an event channel")(number),
        })
    }

    fn now(&self) -> u64 {
        sys::now()
    }

    fn sleep_until(&self, deadline: u64) {
        sys::sleep_until(deadline);
    }

    fn relax(&self) {
        sys::yield_now();
    }

    /// Unique in this domain; no secret, and none is needed.
    fn nonce(&self) -> u64 {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The finaliser of SplitMix64 spreads the bits; it maps different numbers to different numbers.
        let mut word = sys::now().rotate_left(20) ^ (u64::from(sys::domid().0) << 48) ^ count;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn can_spin(&self) -> bool {
        // The peer is another domain. Whatever else this one has to do gets its turn in `relax`.
        true
    }

    fn serve(&self, service: ServiceName) -> Result<Self::Acceptor> {
        XenAcceptor::new(LibStore::new(), service)
    }

    fn call(&self, dial: Dial, deadline: u64) -> Result<Self::Call> {
        XenCall::new(LibStore::new(), dial, deadline)
    }
}

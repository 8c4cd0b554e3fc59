//! Channels of a Linux program, in dom0 or in a domU: user space only, on the drivers that every Linux for Xen
//! has.
//!
//! | device | use |
//! |---|---|
//! | `/dev/xen/gntalloc` | pages that are granted; the kernel keeps those that a peer still has mapped |
//! | `/dev/xen/gntdev` | mapping a peer's pages |
//! | `/dev/xen/evtchn` | one descriptor for each port |
//! | `/dev/xen/privcmd` | only to ask: for the state of a port (an unprivileged hypercall), and in dom0 whether a domain has crashed; optional |
//! | xenstored's socket, or `/dev/xen/xenbus` | names |
//!
//! # Death
//! If this process dies, its kernel clears the liveness word and sends an event (*unmap notification* of
//! gntalloc and gntdev). If the peer's domain is destroyed nobody sends anything, and somebody has to ask: the
//! port, by `EVTCHNOP_status` through privcmd; or, where the kernel does not let that pass (Linux blocks it in
//! a domU), xenstore: dom0 whether the domain exists, a domU whether its node `alive` does ([`crate::name`]).
//! A domain that has crashed, and could not give notice itself, keeps its ports until the toolstack takes it away; dom0
//! asks Xen for it (`XEN_DOMCTL_getdomaininfo`), a domU has to wait for the toolstack.
//!
//! # Limits
//! gntalloc hands out 1,024 pages to the whole machine unless its parameter `limit` is raised; a channel with
//! default rings takes 67 on each side.

use core::fmt;
use core::time::Duration;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::vec;
use std::vec::Vec;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use self::store::XenStore;
use crate::error::{Error, Result};
use crate::name::{ServiceName, Store, XenAcceptor, XenCall, introduced, show_alive, shows_alive};
use crate::platform::gate::Gate;
use crate::platform::linux::retired::Retired;
use crate::platform::mapping::{self, Mapping, Run};
use crate::platform::{Access, Dial, Event, Granted, Platform, PortStatus};
use crate::ring::RingMemory;
use crate::setup::PAGE_SIZE;
use crate::shm::{Memory, Pages};
use crate::{DomId, EvtchnPort, GrantRef};

mod retired;
pub(crate) mod store;
mod sys;

const GNTALLOC: &str = "/dev/xen/gntalloc";
const GNTDEV: &str = "/dev/xen/gntdev";
const EVTCHN: &str = "/dev/xen/evtchn";
const PRIVCMD: &str = "/dev/xen/privcmd";
/// Parameter of the module: pages that gntalloc hands out at most.
const LIMIT: &str = "/sys/module/xen_gntalloc/parameters/limit";
/// How long an answer of xenstored on the existence of a domain is good for (nanoseconds).
const EXISTENCE_FRESH: u64 = 40_000_000;

/// A name that is being served.
pub type LinuxAcceptor = XenAcceptor<XenStore>;
/// An offer to a service.
pub type LinuxCall = XenCall<XenStore>;

/// Xen through Linux's devices.
#[derive(Clone, Debug)]
pub struct Linux(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gntalloc: Arc<OwnedFd>,
    gntdev: Arc<OwnedFd>,
    privcmd: Option<OwnedFd>,
    /// Version of Xen's interface for domain control; `None` if this domain may not use it.
    domctl: OnceLock<Option<u32>>,
    domid: OnceLock<DomId>,
    /// For questions about domains, where privcmd is missing.
    existence: Mutex<Existence>,
    retired: Mutex<Retired>,
}

/// What xenstore says about domains.
#[derive(Debug, Default)]
struct Existence {
    store: Option<XenStore>,
    /// Domain, when it was asked for, and what came out.
    known: Vec<(DomId, u64, PortStatus)>,
    /// Domains whose node `alive` has been seen.
    seen: Vec<DomId>,
}

impl Existence {
    fn status(&mut self, peer: DomId) -> Result<PortStatus> {
        let time = now();
        self.known.retain(|(_, asked, _)| time.saturating_sub(*asked) < EXISTENCE_FRESH);
        if let Some((_, _, status)) = self.known.iter().find(|(domid, _, _)| *domid == peer) {
            return Ok(*status);
        }
        let mut store = match self.store.take() {
            Some(store) => store,
            None => XenStore::open()?,
        };
        let status = match introduced(&mut store, peer)? {
            Some(true) => PortStatus::Unknown,
            Some(false) => PortStatus::Unbound,
            None if shows_alive(&mut store, peer)? => {
                if !self.seen.contains(&peer) {
                    self.seen.push(peer);
                }
                PortStatus::Unknown
            }
            // A domain that never showed it need not be dead.
            None if self.seen.contains(&peer) => PortStatus::Unbound,
            None => PortStatus::Unknown,
        };
        self.store = Some(store);
        self.known.push((peer, time, status));
        Ok(status)
    }
}

fn open(path: &'static str, missing: &'static str) -> Result<OwnedFd> {
    // `File` sets close-on-exec.
    File::options().read(true).write(true).open(path).map(OwnedFd::from).map_err(|error| {
        match error.raw_os_error() {
            Some(xen_abi::errno::EACCES | xen_abi::errno::EPERM) => {
                Error::NoPlatform("Xen's devices in /dev/xen may not be opened: run this as root")
            }
            _ => Error::NoPlatform(missing),
        }
    })
}

fn system(call: &'static str, hint: &'static str) -> impl FnOnce(Errno) -> Error {
    move |error| Error::System { call, errno: error.raw_os_error(), hint }
}

/// Nanoseconds of the monotonic clock.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Time until a deadline, for `poll`; `None` for ever.
fn timespec_until(deadline: u64) -> Option<Timespec> {
    super::hosted::timespec_until(deadline, now())
}

impl Linux {
    /// Opens the devices.
    ///
    /// # Errors
    /// [`Error::NoPlatform`].
    pub fn open() -> Result<Linux> {
        let privcmd = File::options().read(true).write(true).open(PRIVCMD).map(OwnedFd::from).ok();
        let linux = Linux(Arc::new(Inner {
            gntalloc: Arc::new(open(
                GNTALLOC,
                "there is no /dev/xen/gntalloc: this is not a Xen domain, or the module is missing \
                 (modprobe xen-gntalloc); without Xen use the hosted platform",
            )?),
            gntdev: Arc::new(open(
                GNTDEV,
                "there is no /dev/xen/gntdev: this is not a Xen domain, or the module is missing \
                 (modprobe xen-gntdev); without Xen use the hosted platform",
            )?),
            privcmd: privcmd.filter(may_ask),
            domctl: OnceLock::new(),
            domid: OnceLock::new(),
            existence: Mutex::default(),
            retired: Mutex::default(),
        }));
        // For peers in other domUs. Channels work without it, and so without xenstore.
        if let Ok(mut store) = XenStore::open()
            && store.domid().is_ok_and(|domid| domid != DomId(0))
        {
            let _ = show_alive(&mut store);
        }
        Ok(linux)
    }

    fn open_port(
        &self,
        peer: DomId,
        bind: impl FnOnce(&OwnedFd) -> Result<EvtchnPort, Errno>,
    ) -> Result<Result<LinuxEvent, Errno>> {
        let device = open(
            EVTCHN,
            "/dev/xen/evtchn cannot be opened: load the module (modprobe xen-evtchn), or too many files are open",
        )?;
        if self.0.privcmd.is_none() && !self.existence().seen.contains(&peer) {
            // Only a domain that was seen alive can be seen to have died.
            let _ = self.existence().status(peer);
        }
        Ok(bind(&device).map(|port| LinuxEvent {
            device,
            gate: Gate::default(),
            port,
            peer,
            platform: self.clone(),
        }))
    }

    /// Whether a domain runs no more, as far as this one may know.
    fn has_ended(&self, privcmd: &OwnedFd, peer: DomId) -> bool {
        let ask = |version| sys::has_ended(privcmd, version, peer);
        let version = self.0.domctl.get_or_init(|| {
            let mut versions = xen_abi::domctl::INTERFACE_VERSIONS;
            versions
                .find(|version| ask(*version) != Err(Errno::ACCESS))
                .filter(|version| ask(*version).is_ok())
        });
        version.is_some_and(|version| ask(version) == Ok(true))
    }

    /// Which domains exist, as far as this one may know.
    fn existence(&self) -> MutexGuard<'_, Existence> {
        self.0.existence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Platform::retire`]. `entry` are the pages that the writer writes.
    pub(super) fn retire_ring<M>(&self, ring: &Arc<RingMemory<M>>, entry: &Entry)
    where
        M: Memory + fmt::Debug + Send + Sync + 'static,
    {
        self.retired().add(ring, entry, now());
    }

    fn retired(&self) -> MutexGuard<'_, Retired> {
        self.0.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to xenstored.
    fn store(&self) -> Result<XenStore> {
        Ok(XenStore::open()?.of(self.domid()?))
    }
}

/// Whether the kernel lets the question for a port's state pass. Port 0 does not exist, which Xen says.
fn may_ask(privcmd: &OwnedFd) -> bool {
    !matches!(sys::event_status(privcmd, EvtchnPort(0)), Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS))
}

/// Pages in a driver's list; dropped after their mapping.
#[derive(Debug)]
pub struct Entry {
    device: Arc<OwnedFd>,
    /// Offset for mmap, in bytes.
    index: u64,
    count: usize,
    granted: bool,
}

impl Entry {
    fn run(&self) -> Run<'_> {
        Run { file: self.device.as_fd(), offset: self.index, count: self.count }
    }

    /// See [`Platform::announce_death`].
    ///
    /// # Errors
    /// The system's.
    pub fn announce_death(&self, offset: usize, port: EvtchnPort) -> Result<()> {
        sys::set_unmap_notify(&self.device, self.index + offset as u64, port)
            .map_err(system("setting an unmap notification", "see the kernel's log (dmesg)"))
    }

    /// Takes back what was announced for the page at `offset`: the port can be closed now.
    fn announce_nothing(&self, offset: usize) {
        // Should this fail, the port stays open for as long as the page.
        let _ = sys::clear_unmap_notify(&self.device, self.index + offset as u64);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The entry exists, so this cannot fail; and the kernel cleans up after us in any case.
        let _ = if self.granted {
            sys::dealloc_grefs(&self.device, self.index, self.count)
        } else {
            sys::unmap_grefs(&self.device, self.index, self.count)
        };
    }
}

/// An event channel.
#[derive(Debug)]
pub struct LinuxEvent {
    device: OwnedFd,
    gate: Gate,
    port: EvtchnPort,
    peer: DomId,
    platform: Linux,
}

impl LinuxEvent {
    fn poll(&self, deadline: u64) -> Result<bool> {
        let mut fds = [PollFd::new(&self.device, PollFlags::IN)];
        match poll(&mut fds, timespec_until(deadline).as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(system("poll", "this is a bug")(error)),
        }
        let mut port = [0; 4];
        rustix::io::read(&self.device, &mut port)
            // Writing the port back lets the next event come.
            .and_then(|_| rustix::io::write(&self.device, &port))
            .map_err(system("reading an event", "this is a bug"))?;
        Ok(true)
    }
}

/// Readable while there is an event. The end of the peer's domain sends none: ask for it from time to time.
impl AsFd for LinuxEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Event for LinuxEvent {
    fn port(&self) -> EvtchnPort {
        self.port
    }

    fn notify(&self) -> Result<()> {
        sys::notify(&self.device, self.port).map_err(system("sending an event", "this is a bug"))
    }

    fn wait(&self, deadline: u64) -> Result<bool> {
        self.wait_since(self.gate.ticket(), deadline)
    }

    fn ticket(&self) -> u64 {
        self.gate.ticket()
    }

    fn wait_since(&self, ticket: u64, deadline: u64) -> Result<bool> {
        let left = || Duration::from_nanos(deadline.saturating_sub(now()));
        self.gate.wait(ticket, left, || self.poll(deadline))
    }

    fn status(&self) -> Result<PortStatus> {
        use xen_abi::evtchn::{EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_UNBOUND};
        let Some(privcmd) = &self.platform.0.privcmd else {
            return self.platform.existence().status(self.peer);
        };
        Ok(match sys::event_status(privcmd, self.port) {
            // A domain that has crashed keeps its ports.
            Ok(EVTCHNSTAT_INTERDOMAIN) if self.platform.has_ended(privcmd, self.peer) => PortStatus::Unbound,
            Ok(EVTCHNSTAT_INTERDOMAIN) => PortStatus::Bound,
            Ok(EVTCHNSTAT_UNBOUND) => PortStatus::Unbound,
            // privcmd is there, but restricted or refused: ask in another way.
            Ok(_) | Err(_) => self.platform.existence().status(self.peer)?,
        })
    }
}

impl Platform for Linux {
    type Memory = Pages<Mapping, Entry>;
    type Event = LinuxEvent;
    type Acceptor = LinuxAcceptor;
    type Call = LinuxCall;

    fn domid(&self) -> Result<DomId> {
        if let Some(domid) = self.0.domid.get() {
            return Ok(*domid);
        }
        let domid = XenStore::open()?.domid()?;
        Ok(*self.0.domid.get_or_init(|| domid))
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> Result<Granted<Pages<Mapping, Entry>>> {
        let mut refs = vec![GrantRef(0); pages];
        let gntalloc = &self.0.gntalloc;
        let writable = access == Access::ReadWrite;
        self.retired().sweep(now());
        let mut result = sys::alloc_grefs(gntalloc, peer, writable, &mut refs);
        if result == Err(Errno::NOSPC) && self.retired().give_up() {
            result = sys::alloc_grefs(gntalloc, peer, writable, &mut refs);
        }
        let index = result.map_err(|error| match error {
            Errno::NOSPC => {
                let text = std::fs::read_to_string(LIMIT).unwrap_or_default();
                let limit = text.trim().parse().unwrap_or(1024);
                Error::GrantLimit { wanted: pages, limit }
            }
            Errno::NOMEM => Error::OutOfMemory("granted pages"),
            error => system("granting pages (gntalloc)", "see the kernel's log (dmesg)")(error),
        })?;
        let entry = Entry { device: Arc::clone(gntalloc), index, count: pages, granted: true };
        let memory = mapping::map(&entry.run(), Access::ReadWrite)
            .map_err(system("mapping granted pages", "see the kernel's log (dmesg)"))?;
        Ok(Granted { memory: memory.map_extra(|()| entry), refs })
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Pages<Mapping, Entry>> {
        let gntdev = &self.0.gntdev;
        let gref = refs.first().copied().unwrap_or_default();
        let index = sys::map_grefs(gntdev, peer, refs).map_err(|error| match error {
            Errno::NOMEM => Error::OutOfMemory("mapped pages"),
            error => system("mapping grants (gntdev)", "see the kernel's log (dmesg)")(error),
        })?;
        let entry = Entry { device: Arc::clone(gntdev), index, count: refs.len(), granted: false };
        // Only this asks Xen; a grant that is not ours is refused here.
        let memory = mapping::map(&entry.run(), access).map_err(|error| match error {
            Errno::NOMEM => Error::OutOfMemory("mapped pages"),
            Errno::INVAL | Errno::PERM | Errno::FAULT => Error::BadGrant { peer, gref },
            error => system("mapping grants (gntdev)", "see the kernel's log (dmesg)")(error),
        })?;
        Ok(memory.map_extra(|()| entry))
    }

    fn announce_death(
        &self,
        memory: &Pages<Mapping, Entry>,
        offset: usize,
        event: &LinuxEvent,
    ) -> Result<()> {
        debug_assert!(offset < memory.extra().count * PAGE_SIZE);
        memory.extra().announce_death(offset, event.port)
    }

    fn retire(&self, ring: &Arc<RingMemory<Self::Memory>>) {
        self.retire_ring(ring, ring.writer.extra());
    }

    fn alloc_unbound(&self, peer: DomId) -> Result<LinuxEvent> {
        self.open_port(peer, |device| sys::alloc_unbound(device, peer))?.map_err(|error| match error {
            Errno::NOSPC => Error::OutOfMemory("event-channel ports"),
            error => system("allocating an event channel", "see the kernel's log (dmesg)")(error),
        })
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> Result<LinuxEvent> {
        self.open_port(peer, |device| sys::bind_interdomain(device, peer, port))?.map_err(|error| match error
        {
            Errno::NOSPC => Error::OutOfMemory("event-channel ports"),
            // No such domain, or no such port that is for us.
            Errno::SRCH | Errno::INVAL | Errno::NOENT => Error::PeerDied { peer },
            error => system("binding an event channel", "see the kernel's log (dmesg)")(error),
        })
    }

    fn now(&self) -> u64 {
        now()
    }

    fn sleep_until(&self, deadline: u64) {
        thread::sleep(Duration::from_nanos(deadline.saturating_sub(now())));
    }

    fn relax(&self) {
        // Linux takes care of the others; giving the processor away could cost a whole time slice.
        core::hint::spin_loop();
    }

    fn nonce(&self) -> u64 {
        super::native::random()
    }

    fn can_spin(&self) -> bool {
        // The peer is another domain: that this one has a single processor says nothing about where that one runs.
        true
    }

    fn serve(&self, service: ServiceName) -> Result<LinuxAcceptor> {
        XenAcceptor::new(self.store()?, service)
    }

    fn call(&self, dial: Dial, deadline: u64) -> Result<LinuxCall> {
        XenCall::new(self.store()?, dial, deadline)
    }
}

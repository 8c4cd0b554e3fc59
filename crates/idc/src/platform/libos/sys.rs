//! Calls of the library OS kernel, made safe. Their contracts are in `libos_sys`.
#![expect(unsafe_code, reason = "calls the kernel's entry points; one lock for cooperative threads")]

use alloc::vec;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use libos_sys as os;

use crate::platform::Access;
use crate::quarantine::Quarantine;
use crate::setup::PAGE_SIZE;
use crate::shm::Pages;
use crate::{DomId, EvtchnPort, GrantRef};

/// A (positive) Linux error number.
pub(super) type Errno = i32;

/// A value for all threads, used by one at a time. Threads are cooperative on one vCPU, so a closure that
/// calls nothing that switches threads never finds it in use.
pub(super) struct Shared<T> {
    used: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `used` lets one closure at a time reach the value.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) const fn new(value: T) -> Shared<T> {
        Shared { used: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// # Panics
    /// If the value is in use: a closure switched threads, or called this again.
    pub(super) fn with<R>(&self, op: impl FnOnce(&mut T) -> R) -> R {
        assert!(!self.used.swap(true, Ordering::Acquire), "a closure on a shared value switched threads");
        // SAFETY: `used` was false, so no other reference exists until it is false again.
        let result = op(unsafe { &mut *self.value.get() });
        self.used.store(false, Ordering::Release);
        result
    }

    /// Does nothing if the value is in use.
    fn try_with(&self, op: impl FnOnce(&mut T)) {
        if !self.used.load(Ordering::Acquire) {
            self.with(op);
        }
    }
}

fn check(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| result.wrapping_neg())
}

// ---- clock and threads ----

pub(super) fn now() -> u64 {
    os::libos_clock_monotonic()
}

pub(super) fn sleep_until(deadline: u64) {
    os::libos_sleep_until(deadline);
}

pub(super) fn yield_now() {
    os::libos_thread_yield();
}

pub(super) fn domid() -> DomId {
    let mut info = os::BootInfo::default();
    os::libos_boot_info(&mut info);
    DomId(info.domid)
}

/// Waits while the word has this value: whether the deadline is still ahead.
pub(super) fn wait(word: &AtomicU32, value: u32, deadline: u64) -> bool {
    os::libos_wait(word, value, deadline) != -os::errno::ETIMEDOUT
}

/// Changes the word and wakes all who wait for that.
pub(super) fn wake(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    os::libos_wake(word, u32::MAX);
}

// ---- events ----

pub(super) fn alloc_unbound(peer: DomId) -> Result<EvtchnPort, Errno> {
    check(os::libos_event_alloc_unbound(peer.0)).map(EvtchnPort)
}

pub(super) fn bind_interdomain(peer: DomId, port: EvtchnPort) -> Result<EvtchnPort, Errno> {
    check(os::libos_event_bind_interdomain(peer.0, port.0)).map(EvtchnPort)
}

pub(super) fn notify(port: EvtchnPort) -> Result<(), Errno> {
    check(os::libos_event_notify(port.0)).map(|_| ())
}

pub(super) fn close(port: EvtchnPort) {
    // The port is ours, so this does not fail.
    let _ = os::libos_event_close(port.0);
}

pub(super) fn status(port: EvtchnPort) -> Result<u32, Errno> {
    check(os::libos_event_status(port.0))
}

/// Waits for an event: whether one came before the deadline.
pub(super) fn wait_event(port: EvtchnPort, deadline: u64) -> Result<bool, Errno> {
    match check(os::event_wait(&[port.0], deadline)) {
        Ok(_) => Ok(true),
        Err(os::errno::ETIMEDOUT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

// ---- the end of the domain ----

/// An address in shared pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address(usize);

impl Address {
    fn of(base: NonNull<u8>) -> Address {
        Address(base.as_ptr().expose_provenance())
    }

    fn pointer(self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.0)
    }

    fn behind(self, bytes: usize) -> Address {
        Address(self.0 + bytes)
    }

    fn page(self, index: usize) -> Address {
        self.behind(index * PAGE_SIZE)
    }
}

/// A byte that tells a peer that this domain lives, and the port to wake it with.
struct Notice {
    byte: Address,
    port: EvtchnPort,
}

impl Notice {
    fn clear(&self) {
        // SAFETY: in shared pages, whose keeper takes the notice back before it gives them up.
        unsafe { AtomicU8::from_ptr(self.byte.pointer()) }.store(0, Ordering::Release);
    }
}

static NOTICES: Shared<Vec<Notice>> = Shared::new(Vec::new());

/// Clears the bytes and wakes the peers. Runs when the domain has panicked, too: whoever was in the middle of something
/// never goes on.
extern "C" fn give_notice() {
    NOTICES.try_with(|notices| {
        for notice in notices {
            notice.clear();
            let _ = notify(notice.port);
        }
    });
}

/// Has the kernel call [`give_notice`].
pub(super) fn at_end() {
    // SAFETY: it does not wait, allocate or unwind.
    unsafe { os::libos_at_end(give_notice) }
}

/// Clears the byte at `offset` of these pages and sends an event when this domain ends by itself, for as long as the
/// pages are there.
pub(super) fn announce(keeper: &Keeper, offset: usize, port: EvtchnPort) {
    let (base, pages, announced) = match keeper {
        Keeper::Granted(granted) => (granted.base, granted.pages, &granted.announced),
        Keeper::Mapped(mapped) => (mapped.base, mapped.handles.len(), &mapped.announced),
    };
    assert!(offset < pages * PAGE_SIZE, "a byte outside the pages");
    announced.store(true, Ordering::Relaxed);
    NOTICES.with(|notices| notices.push(Notice { byte: base.behind(offset), port }));
}

/// Takes back what was announced for pages that begin there, and says now that we are gone from them, as Linux does.
fn take_back(base: Address, pages: usize, announced: &AtomicBool) {
    if announced.load(Ordering::Relaxed) {
        let all = base..base.page(pages);
        NOTICES.with(|notices| {
            notices.retain(|notice| {
                let theirs = all.contains(&notice.byte);
                if theirs {
                    notice.clear();
                }
                !theirs
            });
        });
    }
}

// ---- grants ----

/// What keeps shared pages.
#[derive(Debug)]
pub enum Keeper {
    /// Ours, granted to a peer.
    Granted(Granted),
    /// A peer's, mapped here.
    Mapped(Mapped),
}

fn end_grant(gref: GrantRef) -> bool {
    os::libos_grant_end(gref.0) == 0
}

fn free(page: Address) {
    // SAFETY: one page of a run that `grant` allocated; its grant has ended and nobody uses it any more.
    unsafe { os::libos_pages_free(page.pointer(), 1) }
}

static QUARANTINE: Shared<Quarantine<Address>> = Shared::new(Quarantine::new());

/// Pages of ours that a peer may map.
#[derive(Debug)]
pub struct Granted {
    peer: DomId,
    base: Address,
    pages: usize,
    /// Of the first pages; all of them unless `grant` failed half way.
    refs: Vec<GrantRef>,
    announced: AtomicBool,
}

impl Drop for Granted {
    fn drop(&mut self) {
        take_back(self.base, self.pages, &self.announced);
        for index in 0..self.pages {
            // Not used any more: who used it owned this.
            let page = self.base.page(index);
            match self.refs.get(index) {
                Some(gref) => {
                    QUARANTINE.with(|quarantine| quarantine.retire(self.peer, *gref, page, end_grant, free));
                }
                None => free(page),
            }
        }
    }
}

/// Ends what grants can be ended by now; then whether the peer may have more pages.
pub(super) fn admit(peer: DomId) -> crate::Result<()> {
    QUARANTINE.with(|quarantine| {
        quarantine.sweep(end_grant, free);
        quarantine.admit(peer)
    })
}

/// Pages in quarantine, of one peer or of all.
pub(super) fn quarantined(peer: Option<DomId>) -> usize {
    QUARANTINE.with(|quarantine| {
        quarantine.sweep(end_grant, free);
        quarantine.held_by(peer)
    })
}

/// Why pages could not be granted.
pub(super) enum GrantError {
    NoMemory,
    Refused(crate::Error),
}

/// Allocates zeroed pages and grants them.
pub(super) fn grant(
    peer: DomId,
    pages: usize,
    access: Access,
) -> Result<(Pages<Keeper>, Vec<GrantRef>), GrantError> {
    admit(peer).map_err(GrantError::Refused)?;
    let base = NonNull::new(os::libos_pages_alloc(pages)).ok_or(GrantError::NoMemory)?;
    let address = Address::of(base);
    let mut granted =
        Granted { peer, base: address, pages, refs: Vec::new(), announced: AtomicBool::new(false) };
    granted.refs.try_reserve_exact(pages).map_err(|_| GrantError::NoMemory)?;
    let flags = if access == Access::ReadOnly { os::GRANT_READONLY } else { 0 };
    for index in 0..pages {
        // SAFETY: a page of the run; from now on it is used through `Pages` only, as shared memory.
        let gref = unsafe { os::libos_grant_access(peer.0, address.page(index).pointer(), flags) };
        // A negative result drops `granted`, which ends the grants made so far.
        granted.refs.push(GrantRef(u32::try_from(gref).map_err(|_| GrantError::NoMemory)?));
    }
    let refs = granted.refs.clone();
    // SAFETY: the run is page aligned and belongs to `granted`, which keeps it allocated; no reference into it
    // exists.
    Ok((unsafe { Pages::new(base, pages * PAGE_SIZE, Keeper::Granted(granted)) }, refs))
}

/// Pages of a peer.
#[derive(Debug)]
pub struct Mapped {
    base: Address,
    handles: Vec<u32>,
    announced: AtomicBool,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        take_back(self.base, self.handles.len(), &self.announced);
        // SAFETY: all three come from one call of `libos_grant_map`, and nobody uses the pages any more. If it
        // fails the address space is lost, and nothing else.
        let _ =
            unsafe { os::libos_grant_unmap(self.base.pointer(), self.handles.as_ptr(), self.handles.len()) };
    }
}

/// Maps pages of a peer one behind the other.
pub(super) fn map(peer: DomId, refs: &[GrantRef], access: Access) -> Result<Pages<Keeper>, Errno> {
    let numbers: Vec<u32> = refs.iter().map(|gref| gref.0).collect();
    let mut handles = vec![0; refs.len()];
    let flags = if access == Access::ReadOnly { os::GRANT_READONLY } else { 0 };
    // SAFETY: `numbers` is readable and `handles` writable for that many numbers.
    let address =
        unsafe { os::libos_grant_map(peer.0, numbers.as_ptr(), numbers.len(), flags, handles.as_mut_ptr()) };
    if address <= 0 {
        return Err(i32::try_from(-address).unwrap_or(os::errno::EIO));
    }
    // The kernel made this address for us.
    let base = NonNull::new(core::ptr::with_exposed_provenance_mut(address.unsigned_abs()))
        .ok_or(os::errno::EFAULT)?;
    let mapped = Mapped { base: Address::of(base), handles, announced: AtomicBool::new(false) };
    // SAFETY: so many pages are mapped there until `mapped` is dropped, with the access that was asked for; no
    // reference into them exists.
    Ok(unsafe { Pages::new(base, refs.len() * PAGE_SIZE, Keeper::Mapped(mapped)) })
}

// ---- xenstore ----

/// Sends a request; the body of the reply, or the error number.
pub(super) fn xenstore_request(kind: u32, body: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut reply = vec![0; xen_abi::xenstore::XENSTORE_PAYLOAD_MAX];
    let len = os::xenstore_request(kind, 0, body, &mut reply);
    match usize::try_from(len) {
        Ok(len) => {
            reply.truncate(len);
            Ok(reply)
        }
        Err(_) => Err(i32::try_from(-len).unwrap_or(os::errno::EIO)),
    }
}

/// Takes the next watch event; `None` when the deadline has passed.
pub(super) fn xenstore_event(deadline: u64) -> Result<Option<Vec<u8>>, Errno> {
    let mut event = vec![0; xen_abi::xenstore::XENSTORE_PAYLOAD_MAX];
    let len = os::xenstore_event(&mut event, deadline);
    match usize::try_from(len) {
        Ok(len) => {
            event.truncate(len);
            Ok(Some(event))
        }
        Err(_) if len == -(os::errno::ETIMEDOUT as isize) => Ok(None),
        Err(_) => Err(i32::try_from(-len).unwrap_or(os::errno::EIO)),
    }
}

//! What a C program holds in place of values of Rust.
//!
//! Invariants: a slot is allocated once and lives for ever; `state` says whether its value is there and who may
//! touch it; a slot that was given back waits behind [`SPARE`] others before it is given out again, so that a handle
//! is recognised as closed for some time.
#![expect(unsafe_code, reason = "handles that C programs hold, and the list of free ones")]

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::code::{Fail, idc_status::*};

const FREE: u32 = 0;
const IDLE: u32 = 1;
const BUSY: u32 = 2;

/// Slots that wait at least before one of them is used again.
const SPARE: usize = 64;

/// A type of C that stands for a value.
pub trait Handle: 'static {
    /// The value.
    type Value: Send + 'static;
    /// All slots for such values.
    fn pool() -> &'static Pool<Self::Value>;
}

/// Room for a value.
pub struct Slot<T: 'static> {
    state: AtomicU32,
    value: UnsafeCell<Option<Box<T>>>,
    /// The next in the list of free ones; belongs to whoever holds the pool's lock.
    next: UnsafeCell<Option<&'static Slot<T>>>,
}

// SAFETY: the value is touched only by the thread that made `state` busy (or has not handed the slot out yet), `next`
// only by the one that holds the pool's lock. The value itself may move between threads.
unsafe impl<T: Send> Sync for Slot<T> {}

/// Slots that are free.
pub struct Pool<T: 'static> {
    locked: AtomicBool,
    list: UnsafeCell<List<T>>,
}

struct List<T: 'static> {
    first: Option<&'static Slot<T>>,
    last: Option<&'static Slot<T>>,
    len: usize,
}

// SAFETY: `list` is touched only under the lock.
unsafe impl<T: Send> Sync for Pool<T> {}

impl<T: Send> Pool<T> {
    /// Without any slots.
    pub const fn new() -> Pool<T> {
        let list = UnsafeCell::new(List { first: None, last: None, len: 0 });
        Pool { locked: AtomicBool::new(false), list }
    }

    /// Nothing in `op` may wait or allocate: in a domain no other thread runs before this one lets it, and it would
    /// find the lock taken for ever.
    fn with<R>(&self, op: impl FnOnce(&mut List<T>) -> R) -> R {
        while self.locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: the lock is ours.
        let result = op(unsafe { &mut *self.list.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn take(&self) -> Option<&'static Slot<T>> {
        self.with(|list| {
            let slot = list.first.filter(|_| list.len > SPARE)?;
            // SAFETY: under the lock.
            list.first = unsafe { (*slot.next.get()).take() };
            list.len -= 1;
            Some(slot)
        })
    }

    fn give_back(&self, slot: &'static Slot<T>) {
        self.with(|list| {
            match list.last.replace(slot) {
                // SAFETY: under the lock.
                Some(last) => unsafe { *last.next.get() = Some(slot) },
                None => list.first = Some(slot),
            }
            list.len += 1;
        });
    }
}

/// A handle for this value.
pub fn make<H: Handle>(value: H::Value) -> *mut H {
    let slot = H::pool().take().unwrap_or_else(|| {
        Box::leak(Box::new(Slot {
            state: AtomicU32::new(FREE),
            value: UnsafeCell::new(None),
            next: UnsafeCell::new(None),
        }))
    });
    // SAFETY: it is in no list, and nobody enters it while it is free.
    unsafe { *slot.value.get() = Some(Box::new(value)) };
    slot.state.store(IDLE, Ordering::Release);
    core::ptr::from_ref(slot).cast_mut().cast()
}

/// The slot is ours until this is dropped.
struct Entered<T: 'static>(&'static Slot<T>);

impl<T> Drop for Entered<T> {
    fn drop(&mut self) {
        self.0.state.store(IDLE, Ordering::Release);
    }
}

fn enter<H: Handle>(handle: *mut H) -> Result<&'static Slot<H::Value>, Fail> {
    let slot = handle.cast_const().cast::<Slot<H::Value>>();
    if slot.is_null() || !slot.is_aligned() {
        return Err(IDC_E_INVALID.into());
    }
    // SAFETY: the C program promises that it is a pointer that `make` gave out; those stay valid for ever.
    let slot = unsafe { &*slot };
    match slot.state.compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Ok(slot),
        Err(BUSY) => Err(IDC_E_BUSY.into()),
        Err(_) => Err(IDC_E_CLOSED.into()),
    }
}

/// Works with the value of a handle.
pub fn with<H: Handle, R>(
    handle: *mut H,
    op: impl FnOnce(&mut H::Value) -> Result<R, Fail>,
) -> Result<R, Fail> {
    let entered = Entered(enter(handle)?);
    // SAFETY: `enter` made it ours.
    match unsafe { &mut *entered.0.value.get() } {
        Some(value) => op(value),
        None => Err(IDC_E_CLOSED.into()),
    }
}

/// Takes the value; the handle is closed.
pub fn close<H: Handle>(handle: *mut H) -> Result<H::Value, Fail> {
    let slot = enter(handle)?;
    // SAFETY: `enter` made it ours.
    let value = unsafe { (*slot.value.get()).take() };
    slot.state.store(FREE, Ordering::Release);
    H::pool().give_back(slot);
    value.map(|value| *value).ok_or_else(|| IDC_E_CLOSED.into())
}

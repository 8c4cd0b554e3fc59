//! Kernel state in statics.
//!
//! The kernel runs on one vCPU, takes no interrupts and switches threads only inside [`crate::sched`], so a
//! static needs no lock; it needs proof that nobody holds a second reference. [`Global::with`] gives that
//! proof at run time: a nested call for the same static panics.

#![expect(unsafe_code, reason = "shares a cell between threads that never run at the same time")]

use core::cell::{Cell, UnsafeCell};

/// A value owned by the kernel, reachable by one closure at a time.
pub struct Global<T> {
    busy: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: there is one vCPU and no interrupt handler, and threads switch only in `sched::switch`, which no
// closure given to `with` may reach: `busy` would make the next user panic instead of aliasing.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self { busy: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` with the value. Panics when called inside itself.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        assert!(!self.busy.replace(true));
        // SAFETY: `busy` was false, so no other reference to the value is alive.
        let result = f(unsafe { &mut *self.value.get() });
        self.busy.set(false);
        result
    }

    /// Forgets that a closure holds the value. For the last words of a dying domain only: the holder never
    /// runs again.
    pub fn steal(&self) {
        self.busy.set(false);
    }
}

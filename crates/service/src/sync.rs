//! Waiting for one another.

use crate::sys;
use core::sync::atomic::{AtomicU32, Ordering};
use libos_sys::NEVER;

/// Closed until somebody opens it, then open for ever.
pub struct Gate(AtomicU32);

impl Gate {
    /// A closed gate.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Opens it and wakes all who wait.
    pub fn open(&self) {
        self.0.store(1, Ordering::Release);
        sys::wake(&self.0, u32::MAX);
    }

    /// Waits until it is open.
    pub fn wait(&self) {
        while self.0.load(Ordering::Acquire) == 0 {
            // Woken, or opened in between: look again.
            let _ = sys::wait(&self.0, 0, NEVER);
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A counter that threads take from and wait for.
pub struct Semaphore(AtomicU32);

impl Semaphore {
    /// Starts with this count.
    pub const fn new(count: u32) -> Self {
        Self(AtomicU32::new(count))
    }

    /// Adds one and wakes one who waits.
    pub fn post(&self) {
        self.0.fetch_add(1, Ordering::Release);
        sys::wake(&self.0, 1);
    }

    /// Takes one, waiting until there is one.
    pub fn wait(&self) {
        loop {
            let count = self.0.load(Ordering::Acquire);
            if count == 0 {
                // Woken, or posted in between: look again.
                let _ = sys::wait(&self.0, 0, NEVER);
            } else if self.0.compare_exchange(count, count - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

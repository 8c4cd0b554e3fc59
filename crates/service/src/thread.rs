//! Cooperative threads.
//!
//! They never run at the same time and switch only inside calls of the kernel that wait, so what is shared between
//! them needs neither `Send` nor atomics: an `Rc<Cell<_>>` will do.

use crate::sync::Gate;
use crate::{Errno, sys, time};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::ffi::c_void;
use core::time::Duration;

/// Stack of a thread unless said otherwise, bytes.
pub const DEFAULT_STACK: usize = 32 << 10;

struct Packet<T> {
    done: Gate,
    result: Cell<Option<T>>,
}

/// A thread whose result can be waited for. Dropping it lets the thread run on.
pub struct JoinHandle<T> {
    id: i32,
    packet: Arc<Packet<T>>,
}

impl<T> JoinHandle<T> {
    /// The thread's id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Waits for the thread to end; what its function returned.
    pub fn join(self) -> T {
        loop {
            self.packet.done.wait();
            if let Some(result) = self.packet.result.take() {
                return result;
            }
        }
    }
}

/// Starts a thread with [`DEFAULT_STACK`].
///
/// # Errors
/// `EAGAIN` when there are too many threads, `ENOMEM`.
pub fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> Result<JoinHandle<T>, Errno> {
    spawn_with_stack(DEFAULT_STACK, f)
}

/// Starts a thread with a stack of at least `stack_bytes`.
///
/// # Errors
/// As for [`spawn`].
pub fn spawn_with_stack<T: 'static>(
    stack_bytes: usize,
    f: impl FnOnce() -> T + 'static,
) -> Result<JoinHandle<T>, Errno> {
    let packet = Arc::new(Packet { done: Gate::new(), result: Cell::new(None) });
    let theirs = packet.clone();
    let body: Box<dyn FnOnce()> = Box::new(move || {
        theirs.result.set(Some(f()));
        theirs.done.open();
    });
    let arg = Box::into_raw(Box::new(body)).cast::<c_void>();
    match sys::thread_spawn(run, arg, stack_bytes) {
        Ok(id) => Ok(JoinHandle { id, packet }),
        Err(error) => {
            drop(sys::unbox::<Box<dyn FnOnce()>>(arg));
            Err(error)
        }
    }
}

extern "C" fn run(arg: *mut c_void) {
    let body = sys::unbox::<Box<dyn FnOnce()>>(arg);
    body();
    sys::thread_exit()
}

/// Lets the other threads have a turn.
pub fn yield_now() {
    sys::thread_yield();
}

/// Sleeps.
pub fn sleep(span: Duration) {
    sys::sleep_until(time::deadline(span));
}

/// Id of the calling thread; the first one has 1.
pub fn id() -> i32 {
    sys::thread_self()
}

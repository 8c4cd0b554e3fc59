//! The kernel's functions with safe signatures: slices for pointer and length, results for negative numbers.
//!
//! Names and meaning are those of `libos_sys`. This file and the allocator are the only ones here with `unsafe`.

#![expect(unsafe_code, reason = "calls the kernel")]

use crate::Errno;
use core::ffi::c_void;
use libos_sys::{self as sys, BootInfo, EntropyInfo, MemoryInfo};

/// See [`libos_sys::libos_exit`].
pub fn exit(status: i32) -> ! {
    sys::libos_exit(status)
}

/// See [`libos_sys::libos_panic`].
pub fn panic(message: &[u8]) -> ! {
    // SAFETY: a slice.
    unsafe { sys::libos_panic(message.as_ptr(), message.len()) }
}

/// See [`libos_sys::libos_boot_info`].
pub fn boot_info() -> BootInfo {
    let mut info = BootInfo::default();
    sys::libos_boot_info(&mut info);
    info
}

/// See [`libos_sys::libos_memory_info`].
pub fn memory_info() -> MemoryInfo {
    let mut info = MemoryInfo::default();
    sys::libos_memory_info(&mut info);
    info
}

/// See [`libos_sys::libos_random`].
pub fn random(buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: a slice.
    let result = unsafe { sys::libos_random(buffer.as_mut_ptr(), buffer.len()) };
    Errno::check(result as i64).map(|_| ())
}

/// See [`libos_sys::libos_entropy_add`].
pub fn entropy_add(bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: a slice.
    let result = unsafe { sys::libos_entropy_add(bytes.as_ptr(), bytes.len()) };
    Errno::check(result.into()).map(|_| ())
}

/// See [`libos_sys::libos_entropy_info`].
pub fn entropy_info() -> EntropyInfo {
    let mut info = EntropyInfo::default();
    sys::libos_entropy_info(&mut info);
    info
}

/// See [`libos_sys::libos_console_write`].
pub fn console_write(bytes: &[u8]) {
    // SAFETY: a slice.
    unsafe { sys::libos_console_write(bytes.as_ptr(), bytes.len()) };
}

/// See [`libos_sys::libos_console_read`].
pub fn console_read(buffer: &mut [u8], deadline: u64) -> Result<usize, Errno> {
    // SAFETY: a slice.
    let result = unsafe { sys::libos_console_read(buffer.as_mut_ptr(), buffer.len(), deadline) };
    Errno::check(result as i64).map(|n| n as usize)
}

/// See [`libos_sys::libos_clock_monotonic`].
pub fn clock_monotonic() -> u64 {
    sys::libos_clock_monotonic()
}

/// See [`libos_sys::libos_clock_wall`].
pub fn clock_wall() -> u64 {
    sys::libos_clock_wall()
}

/// See [`libos_sys::libos_pages_alloc`]. Leaked unless [`pages_free`] gets it back.
pub fn pages_alloc(count: usize) -> Option<&'static mut [u8]> {
    let base = sys::libos_pages_alloc(count);
    // SAFETY: fresh zeroed pages that are nobody else's.
    (!base.is_null()).then(|| unsafe { core::slice::from_raw_parts_mut(base, count * sys::PAGE_SIZE) })
}

/// Gives back what [`pages_alloc`] returned. Panics unless it is whole pages.
pub fn pages_free(pages: &'static mut [u8]) {
    let count = pages.len() / sys::PAGE_SIZE;
    assert!(pages.as_ptr().addr().is_multiple_of(sys::PAGE_SIZE) && count * sys::PAGE_SIZE == pages.len());
    // SAFETY: the slice was the only way to the pages; the kernel refuses pages that it did not hand out.
    unsafe { sys::libos_pages_free(pages.as_mut_ptr(), count) };
}

/// See [`libos_sys::libos_thread_spawn`]. `start` runs once, on the new thread, with `arg`.
pub(crate) fn thread_spawn(
    start: extern "C" fn(*mut c_void),
    arg: *mut c_void,
    stack_bytes: usize,
) -> Result<i32, Errno> {
    // SAFETY: `start` takes any pointer as an address; callers pass one that it understands.
    Errno::check(unsafe { sys::libos_thread_spawn(start, arg, stack_bytes) }.into()).map(|id| id as i32)
}

/// Gives the ownership of a boxed value to the thread that it starts.
pub(crate) fn unbox<T>(arg: *mut c_void) -> alloc::boxed::Box<T> {
    // SAFETY: only `thread::spawn` uses this, with the pointer that it took from a box of the same type.
    unsafe { alloc::boxed::Box::from_raw(arg.cast()) }
}

/// See [`libos_sys::libos_thread_exit`].
pub fn thread_exit() -> ! {
    // SAFETY: takes no pointer.
    unsafe { sys::libos_thread_exit() }
}

/// See [`libos_sys::libos_thread_self`].
pub fn thread_self() -> i32 {
    sys::libos_thread_self()
}

/// See [`libos_sys::libos_thread_yield`].
pub fn thread_yield() {
    sys::libos_thread_yield();
}

/// See [`libos_sys::libos_sleep_until`].
pub fn sleep_until(deadline: u64) {
    sys::libos_sleep_until(deadline);
}

/// See [`libos_sys::libos_wait`].
pub fn wait(word: &core::sync::atomic::AtomicU32, expected: u32, deadline: u64) -> Result<(), Errno> {
    Errno::check(sys::libos_wait(word, expected, deadline).into()).map(|_| ())
}

/// See [`libos_sys::libos_wake`].
pub fn wake(word: &core::sync::atomic::AtomicU32, count: u32) -> u32 {
    sys::libos_wake(word, count) as u32
}

/// See [`libos_sys::libos_event_alloc_unbound`].
pub fn event_alloc_unbound(remote: u16) -> Result<u32, Errno> {
    Errno::check(sys::libos_event_alloc_unbound(remote).into()).map(|port| port as u32)
}

/// See [`libos_sys::libos_event_bind_interdomain`].
pub fn event_bind_interdomain(remote: u16, port: u32) -> Result<u32, Errno> {
    Errno::check(sys::libos_event_bind_interdomain(remote, port).into()).map(|port| port as u32)
}

/// See [`libos_sys::libos_event_notify`].
pub fn event_notify(port: u32) -> Result<(), Errno> {
    Errno::check(sys::libos_event_notify(port).into()).map(|_| ())
}

/// See [`libos_sys::libos_event_close`].
pub fn event_close(port: u32) -> Result<(), Errno> {
    Errno::check(sys::libos_event_close(port).into()).map(|_| ())
}

/// See [`libos_sys::libos_event_status`].
pub fn event_status(port: u32) -> Result<i32, Errno> {
    Errno::check(sys::libos_event_status(port).into()).map(|status| status as i32)
}

/// See [`libos_sys::libos_event_wait`].
pub fn event_wait(ports: &[u32], deadline: u64) -> Result<usize, Errno> {
    Errno::check(sys::event_wait(ports, deadline).into()).map(|index| index as usize)
}

/// See [`libos_sys::libos_xenstore_request`].
pub fn xenstore_request(kind: u32, tx: u32, body: &[u8], reply: &mut [u8]) -> Result<usize, Errno> {
    Errno::check(sys::xenstore_request(kind, tx, body, reply) as i64).map(|len| len as usize)
}

/// See [`libos_sys::libos_xenstore_event`].
pub fn xenstore_event(buffer: &mut [u8], deadline: u64) -> Result<usize, Errno> {
    Errno::check(sys::xenstore_event(buffer, deadline) as i64).map(|len| len as usize)
}

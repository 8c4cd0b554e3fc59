//! The kernel's side of the line to the application: the functions that `libos_sys` declares and documents.
//!
//! Every definition is checked against its declaration at compile time.

#![expect(unsafe_code, reason = "defines the foreign functions and receives the application's pointers")]

pub mod linux;
mod user;

use crate::entropy;
use crate::mm::{self, window};
use crate::report;
use crate::sched::{self, Wait};
use crate::start;
use crate::xen::{clock, console, evtchn, gnttab, xenstore};
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use libos_sys::{BootInfo, EntropyInfo, MemoryInfo, errno};
use user::{FromAbi, In, Out};

type Entry = extern "C" fn(*mut c_void);
type Hook = extern "C" fn();

macro_rules! line {
    ($(fn $name:ident($($arg:ident: $abi:ty => $kind:ty),*) $(-> $result:ty)? $body:block)*) => { $(
        /// See `libos_sys`.
        ///
        /// # Safety
        /// See `libos_sys`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $abi),*) $(-> $result)? {
            // SAFETY: the application promises what `libos_sys` asks for each pointer.
            $(let $arg: $kind = unsafe { FromAbi::from_abi($arg) };)*
            $body
        }
        const _: [unsafe extern "C" fn($($abi),*) $(-> $result)?; 2] = [libos_sys::$name, $name];
    )* };
}

line! {
    fn libos_panic(message: *const u8 => In<u8>, len: usize => usize) -> ! {
        report::panic(message.slice(len))
    }

    fn libos_boot_info(out: &mut BootInfo => &mut BootInfo) {
        let mut info = start::info();
        let mut text = [0; 8];
        let len = xenstore::request(2, 0, b"domid\0", &mut text);
        let digits = text.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
        info.domid = digits.iter().fold(0, |n: u16, d| n.wrapping_mul(10).wrapping_add((d - b'0').into()));
        *out = info;
    }

    fn libos_console_write(buf: *const u8 => In<u8>, len: usize => usize) -> isize {
        console::write(buf.slice(len));
        len as isize
    }

    fn libos_console_read(buf: *mut u8 => Out<u8>, len: usize => usize, deadline: u64 => u64) -> isize {
        console::read(buf.slice(len), deadline)
    }

    fn libos_clock_monotonic() -> u64 {
        clock::monotonic()
    }

    fn libos_clock_wall() -> u64 {
        clock::wall()
    }

    fn libos_pages_alloc(count: usize => usize) -> *mut u8 {
        mm::alloc(count as u64).map_or(core::ptr::null_mut(), |address| address as *mut u8)
    }

    fn libos_pages_free(base: *mut u8 => Out<u8>, count: usize => usize) {
        assert!(mm::free(base.address(), count as u64));
    }

    fn libos_memory_info(out: &mut MemoryInfo => &mut MemoryInfo) {
        *out = mm::info();
    }

    fn libos_thread_spawn(
        entry: Entry => Entry,
        arg: *mut c_void => Out<c_void>,
        stack_bytes: usize => usize
    ) -> i32 {
        // SAFETY: the application's promise for `entry`.
        unsafe { sched::spawn(entry, arg.address() as *mut c_void, stack_bytes, 0) }
    }

    fn libos_wait(word: &AtomicU32 => &AtomicU32, expected: u32 => u32, deadline: u64 => u64) -> i32 {
        if word.load(Ordering::SeqCst) != expected {
            return -errno::EAGAIN;
        }
        if sched::block(Wait::Word(word.as_ptr().addr()), deadline) { 0 } else { -errno::ETIMEDOUT }
    }

    fn libos_event_wait(ports: *const u32 => In<u32>, count: usize => usize, deadline: u64 => u64) -> i32 {
        evtchn::wait(ports.slice(count), deadline)
    }

    fn libos_grant_access(peer: u16 => u16, page: *const u8 => In<u8>, flags: u32 => u32) -> i64 {
        gnttab::access(peer, page.address(), flags)
    }

    fn libos_grant_map(
        peer: u16 => u16,
        grefs: *const u32 => In<u32>,
        count: usize => usize,
        flags: u32 => u32,
        handles: *mut u32 => Out<u32>
    ) -> isize {
        gnttab::map(peer, grefs.slice(count), flags, handles.slice(count))
    }

    fn libos_grant_unmap(base: *mut u8 => Out<u8>, handles: *const u32 => In<u32>, count: usize => usize) -> i32 {
        // SAFETY: the application's promise.
        if unsafe { window::unmap_grants(base.address(), handles.slice(count)) } { 0 } else { -errno::EINVAL }
    }

    fn libos_xenstore_request(
        kind: u32 => u32,
        tx: u32 => u32,
        body: *const u8 => In<u8>,
        body_len: usize => usize,
        reply: *mut u8 => Out<u8>,
        reply_cap: usize => usize
    ) -> isize {
        xenstore::request(kind, tx, body.slice(body_len), reply.slice(reply_cap))
    }

    fn libos_xenstore_event(buf: *mut u8 => Out<u8>, cap: usize => usize, deadline: u64 => u64) -> isize {
        xenstore::event(buf.slice(cap), deadline)
    }

    fn libos_random(buf: *mut u8 => Out<u8>, len: usize => usize) -> isize {
        entropy::fill(buf.slice(len)).map_or(-errno::EIO as isize, |()| 0)
    }

    fn libos_entropy_add(buf: *const u8 => In<u8>, len: usize => usize) -> i32 {
        match entropy::add(buf.slice(len)) {
            Ok(Ok(())) => 0,
            Ok(Err(_)) => -errno::EINVAL,
            Err(entropy::Starved) => -errno::EIO,
        }
    }

    fn libos_entropy_info(out: &mut EntropyInfo => &mut EntropyInfo) {
        *out = entropy::info();
    }

    fn libos_exit(status: i32 => i32) -> ! {
        exit(status)
    }

    fn libos_thread_exit() -> ! {
        sched::exit()
    }

    fn libos_thread_self() -> i32 {
        sched::current()
    }

    fn libos_thread_yield() {
        sched::yield_now();
    }

    fn libos_sleep_until(deadline: u64 => u64) {
        sched::block(Wait::Time, deadline);
    }

    fn libos_wake(word: &AtomicU32 => &AtomicU32, count: u32 => u32) -> i32 {
        sched::wake(word.as_ptr().addr(), count) as i32
    }

    fn libos_at_end(hook: Hook => Hook) {
        report::at_end(hook);
    }

    fn libos_event_alloc_unbound(remote: u16 => u16) -> i32 {
        evtchn::alloc_unbound(remote)
    }

    fn libos_event_bind_interdomain(remote: u16 => u16, remote_port: u32 => u32) -> i32 {
        evtchn::bind_interdomain(remote, remote_port)
    }

    fn libos_event_notify(port: u32 => u32) -> i32 {
        evtchn::notify(port)
    }

    fn libos_event_close(port: u32 => u32) -> i32 {
        evtchn::close(port)
    }

    fn libos_event_status(port: u32 => u32) -> i32 {
        evtchn::status(port)
    }

    fn libos_grant_end(gref: u32 => u32) -> i32 {
        gnttab::end(gref)
    }
}

/// Publishes the exit status, whose lowest 8 bits count, at `data/exit-status`.
pub fn publish_status(status: i32) {
    let digits = [b'0' + (status as u8 / 100), b'0' + (status as u8 / 10 % 10), b'0' + (status as u8 % 10)];
    let digits = &digits[if status as u8 >= 100 {
        0
    } else if status as u8 >= 10 {
        1
    } else {
        2
    }..];
    let mut body = *b"data/exit-status\0\0\0\0";
    body[17..17 + digits.len()].copy_from_slice(digits);
    // If xenstore does not answer, the shutdown reason still tells success from a crash.
    xenstore::request(11, 0, &body[..17 + digits.len()], &mut []);
}

/// Ends the domain in good order.
pub fn exit(status: i32) -> ! {
    publish_status(status);
    report::power_off()
}

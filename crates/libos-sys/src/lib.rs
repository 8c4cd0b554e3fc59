//! The line between the library OS kernel and the application.
//!
//! An application (a service, with or without a C library below it) reaches the kernel only through
//! the `libos_*` functions declared here, and the kernel reaches the application only through the
//! symbol `_start`. This file is the one place where that line is written down; the kernel checks its
//! definitions against these signatures at compile time.
//!
//! # Start
//! The kernel enters `_start` the way Linux enters a static program (System V psABI, 3.4.1): `rsp` is
//! 16-byte aligned and points at `argc`, followed by `argv[]`, 0, `envp[]`, 0 and the auxiliary vector
//! (`AT_PHDR`, `AT_PHENT`, `AT_PHNUM`, `AT_PAGESZ`, `AT_RANDOM`, `AT_ENTRY`). So a C library's `crt1.o`
//! fits as it is. The words of the domain's command line are the arguments; `env.NAME=VALUE` becomes an
//! environment variable, and words that begin with `libos.` are the kernel's own. The 16 bytes at `AT_RANDOM`
//! are good for a stack canary and for nothing else; see [`libos_random`].
//!
//! # Conventions
//! - A signed result below zero is a negated Linux `errno` value (see [`errno`]).
//! - A *deadline* is an absolute time of the monotonic clock in nanoseconds; [`NEVER`] waits for ever.
//! - There is one vCPU and threads are cooperative: another thread runs only while the caller is inside
//!   one of the functions marked *switches*. No signal, interrupt or upcall runs in between.
//! - Pages are 4,096 bytes. Memory that another domain can write is never the target of a pointer
//!   given to these functions, apart from the page arguments of the grant calls.
#![no_std]
#![expect(
    unsafe_code,
    reason = "declares the foreign functions of the kernel, and calls those that take slices"
)]

use core::ffi::c_void;
use core::sync::atomic::AtomicU32;

/// Version of this interface, in [`BootInfo::abi_version`].
pub const ABI_VERSION: u32 = 1;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// Deadline that never passes.
pub const NEVER: u64 = u64::MAX;

/// Linux `errno` values that the kernel returns, negated.
pub mod errno {
    /// Operation not permitted.
    pub const EPERM: i32 = 1;
    /// No such entry, domain or port.
    pub const ENOENT: i32 = 2;
    /// Interrupted: the wait was cut short.
    pub const EINTR: i32 = 4;
    /// Input or output error.
    pub const EIO: i32 = 5;
    /// Bad descriptor.
    pub const EBADF: i32 = 9;
    /// Try again; for a wait: the word no longer held the expected value.
    pub const EAGAIN: i32 = 11;
    /// Out of memory, frames, ports or grant entries.
    pub const ENOMEM: i32 = 12;
    /// Access refused by the toolstack.
    pub const EACCES: i32 = 13;
    /// Bad address.
    pub const EFAULT: i32 = 14;
    /// Still in use (for a grant: the peer has it mapped).
    pub const EBUSY: i32 = 16;
    /// Already there.
    pub const EEXIST: i32 = 17;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// No space: a limit or quota of the other side.
    pub const ENOSPC: i32 = 28;
    /// The result does not fit into the buffer.
    pub const ERANGE: i32 = 34;
    /// Not available on this system.
    pub const ENOSYS: i32 = 38;
    /// The other side broke the protocol.
    pub const EPROTO: i32 = 71;
    /// The deadline passed.
    pub const ETIMEDOUT: i32 = 110;
}

/// How the domain was booted ([`BootInfo::mode`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BootMode {
    /// Para-virtualised: page tables through hypercalls, ring 3.
    Pv = 1,
    /// PVH: hardware virtualisation without emulated devices, ring 0.
    Pvh = 2,
}

/// Facts about this boot, filled by [`libos_boot_info`].
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct BootInfo {
    /// [`ABI_VERSION`] of the kernel.
    pub abi_version: u32,
    /// A [`BootMode`] as a number.
    pub mode: u32,
    /// Time-stamp counter at the first instruction of the domain.
    pub tsc_entry: u64,
    /// Time-stamp counter just before `_start`.
    pub tsc_start: u64,
    /// Xen's version, `major << 16 | minor`.
    pub xen_version: u32,
    /// This domain's id.
    pub domid: u16,
    /// Zero.
    pub reserved: u16,
}

/// State of the domain's memory in pages, filled by [`libos_memory_info`].
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct MemoryInfo {
    /// Pages of RAM that the domain was given.
    pub total: u64,
    /// Pages that [`libos_pages_alloc`] can still hand out.
    pub free: u64,
    /// First address behind the image (text, data, zeroed data).
    pub image_end: u64,
    /// First address of the image.
    pub image_start: u64,
    /// First address behind the text.
    pub text_end: u64,
    /// First address behind the read-only data.
    pub rodata_end: u64,
}

/// Index of RDSEED or RDRAND in [`EntropyInfo::sources`].
pub const ENTROPY_HARDWARE: usize = 0;
/// Index of the jitter of time in [`EntropyInfo::sources`].
pub const ENTROPY_JITTER: usize = 1;
/// Index of the toolstack's seed in [`EntropyInfo::sources`].
pub const ENTROPY_SEED: usize = 2;

/// A source of randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EntropySource {
    /// 1: it is there and was used; 0: not there, switched off, or not looked at yet.
    pub present: u32,
    /// 1: it has passed every test so far.
    pub healthy: u32,
    /// Samples taken: words of the hardware, times, bytes of the seed.
    pub samples: u64,
    /// Times that it failed a test, was malformed, or did not answer.
    pub failures: u64,
}

/// What the kernel knows of its sources of randomness, filled by [`libos_entropy_info`]. Nothing is looked at
/// before the first [`libos_random`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EntropyInfo {
    /// The sources, by the `ENTROPY_` numbers.
    pub sources: [EntropySource; 3],
    /// How often the generator was fed anew after its start.
    pub reseeds: u64,
}

/// State of an event channel, as `EVTCHNOP_status` reports it (`xen/event_channel.h`).
pub mod evtchn_status {
    /// Not in use.
    pub const CLOSED: i32 = 0;
    /// Waits for the peer to bind.
    pub const UNBOUND: i32 = 1;
    /// Bound to a port of another domain.
    pub const INTERDOMAIN: i32 = 2;
}

/// Flag of [`libos_grant_access`] and [`libos_grant_map`]: the peer (or we) may only read.
pub const GRANT_READONLY: u32 = 1;

unsafe extern "C" {
    // ---- life ------------------------------------------------------------------------------------

    /// Ends the domain. Drains the console, publishes `status` (0 to 255) at `data/exit-status` below the
    /// domain's xenstore home and powers off.
    pub safe fn libos_exit(status: i32) -> !;

    /// Ends the domain as crashed: prints `message` (UTF-8, `len` bytes) and a backtrace of the caller,
    /// and shuts down with reason *crash*, which the test bed counts as exit status 134.
    ///
    /// # Safety
    /// `message` points at `len` readable bytes.
    pub fn libos_panic(message: *const u8, len: usize) -> !;

    /// Fills `out`.
    pub safe fn libos_boot_info(out: &mut BootInfo);

    // ---- console ---------------------------------------------------------------------------------

    /// Writes to the console; returns `len`. *Switches* while the ring is full.
    ///
    /// # Safety
    /// `buf` points at `len` readable bytes.
    pub fn libos_console_write(buf: *const u8, len: usize) -> isize;

    /// Reads what has come in, at least one byte: the number of bytes, or `-ETIMEDOUT`. *Switches.*
    ///
    /// # Safety
    /// `buf` points at `len` writable bytes.
    pub fn libos_console_read(buf: *mut u8, len: usize, deadline: u64) -> isize;

    // ---- clock -----------------------------------------------------------------------------------

    /// Nanoseconds since the hypervisor started; never goes backwards.
    pub safe fn libos_clock_monotonic() -> u64;

    /// Nanoseconds since 1970-01-01 00:00 UTC.
    pub safe fn libos_clock_wall() -> u64;

    // ---- memory ----------------------------------------------------------------------------------

    /// Allocates `count` contiguous zeroed pages, readable and writable, never executable. Null when there
    /// is no such run.
    pub safe fn libos_pages_alloc(count: usize) -> *mut u8;

    /// Gives pages back.
    ///
    /// # Safety
    /// `base` and `count` are a run (or a part of one, on page boundaries) from [`libos_pages_alloc`] that
    /// nothing uses any more; no grant for them is active.
    pub fn libos_pages_free(base: *mut u8, count: usize);

    /// Fills `out`.
    pub safe fn libos_memory_info(out: &mut MemoryInfo);

    // ---- randomness ------------------------------------------------------------------------------

    /// Fills `buf` with random bytes fit for keys, from a generator that at least two healthy sources feed (RDSEED
    /// or RDRAND, jitter, the toolstack's seed). 0, or `-EIO` when fewer are healthy: the console says which, once,
    /// and `buf` holds zeros. *Switches.*
    ///
    /// # Safety
    /// `buf` points at `len` writable bytes.
    pub fn libos_random(buf: *mut u8, len: usize) -> isize;

    /// Feeds the generator at once, with bytes that the application got from somewhere it trusts (a manager, over IDC).
    /// They count as the toolstack's seed does, if they pass its tests: 32 to 256 of them, not stuck and not biased.
    /// They go beside what the other sources give, and take nothing away from it. 0; `-EINVAL` when they fail the
    /// tests, and nothing has changed then; `-EIO` when fewer than two sources are healthy even so. *Switches.*
    ///
    /// # Safety
    /// `buf` points at `len` readable bytes.
    pub fn libos_entropy_add(buf: *const u8, len: usize) -> i32;

    /// Fills `out`.
    pub safe fn libos_entropy_info(out: &mut EntropyInfo);

    // ---- threads ---------------------------------------------------------------------------------

    /// Starts a thread on a stack of its own of at least `stack_bytes`, with a guard page below it;
    /// returns its id (above 0), or `-ENOMEM`.
    ///
    /// # Safety
    /// `entry` may be called with `arg` on another stack; it must not unwind.
    pub fn libos_thread_spawn(entry: extern "C" fn(*mut c_void), arg: *mut c_void, stack_bytes: usize)
    -> i32;

    /// Ends the calling thread; its stack is freed. *Switches.* The first thread ending this way ends only
    /// itself.
    pub fn libos_thread_exit() -> !;

    /// Id of the calling thread; the first one has 1.
    pub safe fn libos_thread_self() -> i32;

    /// Lets every other thread that can run have a turn. *Switches.*
    pub safe fn libos_thread_yield();

    /// Sleeps until the deadline. *Switches.*
    pub safe fn libos_sleep_until(deadline: u64);

    /// Waits, if `*word == expected`, until [`libos_wake`] names the same word: 0 when woken, `-EAGAIN` when
    /// the word held something else, `-ETIMEDOUT`. *Switches.* The same contract as Linux's `FUTEX_WAIT`.
    pub safe fn libos_wait(word: &AtomicU32, expected: u32, deadline: u64) -> i32;

    /// Wakes at most `count` threads that wait on `word`; returns how many.
    pub safe fn libos_wake(word: &AtomicU32, count: u32) -> i32;

    /// Names what runs when the domain ends by itself: after `libos_exit`, a panic or an exception, when no
    /// thread runs any more. It replaces an earlier one, and runs once at most: an exception in it ends the
    /// domain.
    ///
    /// # Safety
    /// `hook` may be called at any moment, on any stack with some KiB left. It does not wait, allocate or unwind.
    pub fn libos_at_end(hook: extern "C" fn());

    // ---- event channels (xen/event_channel.h) ----------------------------------------------------

    /// Allocates a port that `remote` may bind to; returns the port.
    pub safe fn libos_event_alloc_unbound(remote: u16) -> i32;

    /// Binds to `remote_port` of domain `remote`; returns the local port.
    pub safe fn libos_event_bind_interdomain(remote: u16, remote_port: u32) -> i32;

    /// Sends an event. 0 or a negative `errno`.
    pub safe fn libos_event_notify(port: u32) -> i32;

    /// Closes a port. 0 or a negative `errno`.
    pub safe fn libos_event_close(port: u32) -> i32;

    /// State of a local port: one of [`evtchn_status`] or a higher number (PIRQ, VIRQ, IPI), or a
    /// negative `errno`.
    pub safe fn libos_event_status(port: u32) -> i32;

    /// Waits until one of `count` ports has an event, takes it, and returns the index of that port in
    /// `ports`; `-ETIMEDOUT` when the deadline passes first. An event that came before the call counts.
    /// With a deadline in the past it polls. *Switches* unless an event is already there.
    ///
    /// # Safety
    /// `ports` points at `count` readable numbers.
    pub fn libos_event_wait(ports: *const u32, count: usize, deadline: u64) -> i32;

    // ---- grants (xen/grant_table.h) ----------------------------------------------------------------

    /// Grants domain `peer` access to one of our pages; returns the grant reference, or `-ENOMEM`.
    ///
    /// # Safety
    /// `page` is page aligned and belongs to the caller, who from now on treats its content as shared
    /// with the peer until [`libos_grant_end`] has returned 0.
    pub fn libos_grant_access(peer: u16, page: *const u8, flags: u32) -> i64;

    /// Withdraws a grant: 0, or `-EBUSY` while the peer has it mapped (the grant then stays as it was).
    pub safe fn libos_grant_end(gref: u32) -> i32;

    /// Maps `count` granted pages of domain `peer` at consecutive addresses and stores one handle each in
    /// `handles`; returns the address of the first, or a negative `errno` (then nothing is mapped).
    ///
    /// # Safety
    /// `grefs` is readable and `handles` writable for `count` numbers.
    pub fn libos_grant_map(
        peer: u16,
        grefs: *const u32,
        count: usize,
        flags: u32,
        handles: *mut u32,
    ) -> isize;

    /// Unmaps what [`libos_grant_map`] mapped. 0 or a negative `errno`.
    ///
    /// # Safety
    /// `base`, `handles` and `count` come from one call of [`libos_grant_map`] and nothing uses the pages
    /// any more.
    pub fn libos_grant_unmap(base: *mut u8, handles: *const u32, count: usize) -> i32;

    // ---- xenstore (xen/io/xs_wire.h) ---------------------------------------------------------------

    /// Sends one request of type `kind` (an `XS_*` number) in transaction `tx` (0: none) with `body`, and
    /// waits for the reply: its length, copied to `reply`; or the negated `errno` that xenstored named;
    /// `-ERANGE` when `reply` is too small. *Switches.* Concurrent callers queue.
    ///
    /// # Safety
    /// `body` is readable for `body_len` bytes and `reply` writable for `reply_cap` bytes.
    pub fn libos_xenstore_request(
        kind: u32,
        tx: u32,
        body: *const u8,
        body_len: usize,
        reply: *mut u8,
        reply_cap: usize,
    ) -> isize;

    /// Takes the next watch event (`path\0token\0`) into `buf`; its length, or `-ETIMEDOUT`, or `-ERANGE`
    /// (the event is dropped). *Switches.* About 2 KiB of events are kept; when more come, the oldest are
    /// dropped and the next call returns `-EIO` once.
    ///
    /// # Safety
    /// `buf` is writable for `cap` bytes.
    pub fn libos_xenstore_event(buf: *mut u8, cap: usize, deadline: u64) -> isize;

    // ---- what a C library calls (musl with the overlay of `sdk/`) ------------------------------------

    /// A Linux system call by its number (x86-64). Numbers, arguments and results are Linux's; the result is
    /// negative from -4095 to -1 for an error. *Switches* where Linux would block. What a domain does not have
    /// answers `-ENOSYS` or `-ENOENT`.
    ///
    /// # Safety
    /// The arguments are valid for the call.
    pub fn libos_syscall(number: i64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64;

    /// The same for a call that is a cancellation point (`pthread_cancel`): answers `-EINTR` when the handler
    /// for musl's signal 33 says that the thread is to be cancelled while it waits.
    ///
    /// # Safety
    /// As for [`libos_syscall`].
    pub fn libos_syscall_cp(number: i64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64;

    /// Starts a thread that runs `entry(arg)` on the stack that ends at `stack`, with the arguments of musl's
    /// `__clone`; its id, or a negative `errno` (`-ENOSYS` for a process).
    ///
    /// # Safety
    /// The stack is the new thread's alone until it has ended; the words at `parent_tid` and `child_tid` stay
    /// valid as long as the flags need them.
    pub fn libos_clone(
        entry: extern "C" fn(*mut c_void) -> i32,
        stack: u64,
        flags: i32,
        arg: *mut c_void,
        parent_tid: u64,
        tls: u64,
        child_tid: u64,
    ) -> i32;

    /// Ends the calling thread, and unmaps its stack after it has left it. *Switches.*
    ///
    /// # Safety
    /// The range came from `mmap`, and nothing else uses it.
    pub fn libos_unmapself(base: u64, size: u64) -> !;

    /// Where a signal handler would return to on Linux. The kernel calls handlers as functions, so nothing
    /// comes here; if something does, the domain ends with a report.
    pub fn libos_sigreturn() -> !;
}

// ---- the same for slices, for `crates/service` and `crates/idc` ----

/// [`libos_event_wait`] for a slice.
pub fn event_wait(ports: &[u32], deadline: u64) -> i32 {
    // SAFETY: a slice.
    unsafe { libos_event_wait(ports.as_ptr(), ports.len(), deadline) }
}

/// [`libos_xenstore_request`] for slices.
pub fn xenstore_request(kind: u32, tx: u32, body: &[u8], reply: &mut [u8]) -> isize {
    // SAFETY: slices.
    unsafe { libos_xenstore_request(kind, tx, body.as_ptr(), body.len(), reply.as_mut_ptr(), reply.len()) }
}

/// [`libos_xenstore_event`] for a slice.
pub fn xenstore_event(buf: &mut [u8], deadline: u64) -> isize {
    // SAFETY: a slice.
    unsafe { libos_xenstore_event(buf.as_mut_ptr(), buf.len(), deadline) }
}

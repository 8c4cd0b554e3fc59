//! The system calls of a C library, as function calls.
//!
//! Numbers, arguments and results are Linux's for x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`); what a
//! domain does not have says so with Linux's errors: `ENOSYS` for processes, sockets and calls that nobody
//! needed yet, `ENOENT` for files. A call that this file does not know is named once on the console.
//!
//! A call is one small function `fn(Args) -> Result<u64>`; [`dispatch`] is the table of them. Signals are
//! delivered as plain calls of the handler, before a system call returns or while it waits (see `signal`), so
//! there is no signal frame and nothing to return from.

#![expect(unsafe_code, reason = "defines the foreign functions and receives the application's pointers")]

mod info;
mod io;
mod memory;
mod names;
mod pipe;
mod signal;
mod thread;
mod time;

use super::user::Caller;
use crate::arch::cell::Global;
use crate::arch::x86_64::switch;
use crate::report;
use core::ffi::c_void;

/// A Linux `errno` value (`asm-generic/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(u16);

macro_rules! errors {
    ($($name:ident = $value:expr;)*) => {
        #[expect(missing_docs, reason = "the names are those of errno(3) without the E")]
        impl Errno { $(pub const $name: Self = Self($value);)* }
    };
}

errors! {
    PERM = 1; NOENT = 2; SRCH = 3; INTR = 4; IO = 5; BADF = 9; CHILD = 10; AGAIN = 11; NOMEM = 12; ACCES = 13;
    FAULT = 14; EXIST = 17; NODEV = 19; INVAL = 22; MFILE = 24; NOTTY = 25; SPIPE = 29; PIPE = 32; NOSYS = 38;
    TIMEDOUT = 110;
}

/// What a system call returns.
pub type Result<T> = core::result::Result<T, Errno>;

/// The arguments of a system call.
#[derive(Clone, Copy)]
pub struct Args {
    values: [u64; 6],
    /// The right to use addresses among them.
    pub caller: Caller,
}

impl Args {
    /// All of them.
    pub fn values(&self) -> [u64; 6] {
        self.values
    }

    /// Argument `index` as a C `int`.
    pub fn int(&self, index: usize) -> i32 {
        self.values[index] as i32
    }
}

/// Calls that are only answered with an error, and are not worth a word on the console.
fn refused(number: u64) -> Option<Errno> {
    Some(match number {
        // Sockets: socket to getsockopt, accept4, recvmmsg, sendmmsg.
        41..=55 | 288 | 299 | 307 => Errno::NOSYS,
        // Processes: vfork, fork, clone (the C library's comes by `libos_clone`), execve, waitid, clone3, execveat.
        56..=59 | 247 | 322 | 435 => Errno::NOSYS,
        // wait4
        61 => Errno::NOSYS,
        // Files: stat, lstat, access, truncate, getcwd, chdir, rename to readlink, chmod, chown, lchown, statfs.
        4 | 6 | 21 | 76 | 79 | 80 | 82..=90 | 92 | 94 | 137 => Errno::NOENT,
        // open, openat to readlinkat, fchmodat, faccessat, utimensat, renameat2, statx, openat2, faccessat2
        2 | 257..=269 | 280 | 316 | 332 | 437 | 439 => Errno::NOENT,
        // Extended attributes of files, and the thread's place in a cgroup.
        188..=199 => Errno::NOENT,
        _ => return None,
    })
}

/// The table of system calls.
fn dispatch(number: u64, a: Args) -> Result<u64> {
    match number {
        0 => io::read(a),
        1 => io::write(a),
        3 => io::close(a),
        5 => io::fstat(a),
        7 => io::poll(a),
        8 | 17 | 18 => io::lseek(a), // and pread64, pwrite64
        9 => memory::mmap(a),
        10 => memory::mprotect(a),
        11 => memory::munmap(a),
        12 => memory::brk(a),
        13 => signal::sigaction(a),
        14 => signal::sigprocmask(a),
        16 => io::ioctl(a),
        19 => io::readv(a),
        20 => io::writev(a),
        22 | 293 => pipe::pipe(number, a), // pipe, pipe2
        24 => thread::sched_yield(a),
        25 => memory::mremap(a),
        28 => memory::madvise(a),
        32 => io::dup(a),
        33 | 292 => io::dup3(number, a), // dup2, dup3
        34 => signal::pause(a),
        35 => time::nanosleep(a),
        39 | 110 | 111 | 121 | 124 => thread::getpid(number, a), // getpid, getppid, getpgrp, getpgid, getsid
        60 => thread::exit(a),
        62 => signal::kill(a),
        63 => info::uname(a),
        72 => io::fcntl(a),
        74 | 75 | 77 => io::no_file(a), // fsync, fdatasync, ftruncate
        95 => info::umask(a),
        96 => time::gettimeofday(a),
        97 | 302 => info::rlimit(number, a), // getrlimit, prlimit64
        98 => time::getrusage(a),
        99 => info::sysinfo(a),
        100 => time::times(a),
        102 | 104 | 107 | 108 => Ok(0), // getuid, getgid, geteuid, getegid: there is one user
        127 => signal::sigpending(a),
        128 => signal::sigtimedwait(a),
        130 => signal::sigsuspend(a),
        131 => signal::sigaltstack(a),
        142..=148 => thread::scheduling(number, a),
        149..=152 => memory::locked(a), // mlock to munlockall
        157 => thread::prctl(a),
        158 => thread::arch_prctl(a),
        186 => thread::gettid(a),
        200 => signal::tkill(a),
        201 => time::time(a),
        202 => thread::futex(a),
        204 => thread::getaffinity(a),
        218 => thread::set_tid_address(a),
        228 => time::clock_gettime(a),
        229 => time::clock_getres(a),
        230 => time::clock_nanosleep(a),
        231 => thread::exit_group(a),
        234 => signal::tgkill(a),
        271 => io::ppoll(a),
        273 => thread::set_robust_list(a),
        309 => info::getcpu(a),
        318 => info::getrandom(a),
        324 => info::membarrier(a),
        _ => {
            let error = refused(number).unwrap_or_else(|| unknown(number));
            Err(error)
        }
    }
}

/// Calls that were reported: one bit each, the last one for all numbers that are none.
static REPORTED: Global<[u64; 8]> = Global::new([0; 8]);

/// Names an unknown call on the console, once.
fn unknown(number: u64) -> Errno {
    let bit = number.min(511);
    let first = REPORTED.with(|r| {
        let word = &mut r[bit as usize / 64];
        let old = *word;
        *word |= 1 << (bit % 64);
        old != *word
    });
    if first {
        report::text("libos: system call ");
        match names::name(number) {
            Some(name) => report::text(name),
            None if number > i64::MAX as u64 => {
                report::text("-");
                report::decimal(number.wrapping_neg());
            }
            None => report::decimal(number),
        }
        report::text(" is not available (ENOSYS)\n");
    }
    Errno::NOSYS
}

/// For what a thread asked to be done at its end.
fn owner() -> Caller {
    // SAFETY: the application's promise when it gave the address.
    unsafe { Caller::new() }
}

fn call(number: i64, values: [u64; 6], cancellable: bool) -> i64 {
    thread::bury();
    // SAFETY: the application's promise for its system calls.
    let caller = unsafe { Caller::new() };
    signal::enter(cancellable);
    let result = dispatch(number as u64, Args { values, caller });
    let result = signal::leave(result);
    match result {
        Ok(value) => value as i64,
        Err(Errno(number)) => -i64::from(number),
    }
}

/// See `libos_sys`.
///
/// # Safety
/// See `libos_sys`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libos_syscall(n: i64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    call(n, [a, b, c, d, e, f], false)
}

/// See `libos_sys`.
///
/// # Safety
/// See `libos_sys`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libos_syscall_cp(n: i64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    call(n, [a, b, c, d, e, f], true)
}

/// See `libos_sys`.
///
/// # Safety
/// See `libos_sys`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libos_clone(
    entry: extern "C" fn(*mut c_void) -> i32,
    stack: u64,
    flags: i32,
    arg: *mut c_void,
    parent_tid: u64,
    tls: u64,
    child_tid: u64,
) -> i32 {
    thread::bury();
    // SAFETY: the application's promise: the stack is the new thread's own.
    let caller = unsafe { Caller::new() };
    let start = |top: u64, begin: extern "C" fn(*mut c_void)| {
        // SAFETY: as above; `thread` leaves room for the two words, and `begin` reads them there.
        unsafe {
            (top as *mut (extern "C" fn(*mut c_void) -> i32, *mut c_void)).write((entry, arg));
            crate::sched::spawn_on(top as usize, begin, top as *mut c_void, tls)
        }
    };
    match thread::clone(caller, stack, flags as u32, parent_tid, child_tid, start) {
        Ok(id) => id,
        Err(Errno(number)) => -i32::from(number),
    }
}

/// Runs a thread made by `libos_clone` from the words that it left on the new stack.
extern "C" fn begin(words: *mut c_void) {
    // SAFETY: written by `libos_clone`.
    let (entry, arg) = unsafe { words.cast::<(extern "C" fn(*mut c_void) -> i32, *mut c_void)>().read() };
    entry(arg);
    thread::end()
}

/// See `libos_sys`.
///
/// # Safety
/// See `libos_sys`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libos_unmapself(base: u64, size: u64) -> ! {
    thread::unmap_and_end(base, size)
}

/// See `libos_sys`.
///
/// # Safety
/// See `libos_sys`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn libos_sigreturn() -> ! {
    report::panic(b"sigreturn without a signal frame")
}

const _: () = {
    use libos_sys as line;
    let _: [unsafe extern "C" fn(i64, u64, u64, u64, u64, u64, u64) -> i64; 4] =
        [line::libos_syscall, libos_syscall, line::libos_syscall_cp, libos_syscall_cp];
    let _: [unsafe extern "C" fn() -> !; 2] = [line::libos_sigreturn, libos_sigreturn];
    let _: [unsafe extern "C" fn(u64, u64) -> !; 2] = [line::libos_unmapself, libos_unmapself];
};

/// Calls a signal handler of the application: `handler(signal, info, context)`, on `stack` (its end; 0: on the
/// running one).
fn call_handler(handler: u64, signal: i32, info: u64, context: u64, stack: u64) {
    // SAFETY: the application gave the handler and the stack for this.
    unsafe { switch::call_on(stack, handler, [signal as u64, info, context]) }
}

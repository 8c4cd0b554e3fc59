//! Threads: `clone`, the end of threads, `futex`, and what says who and where a thread is.
//!
//! A C library's thread runs on a stack of the application's. At its end the kernel still runs on that stack, so
//! it announces the end first and leaves the stack for good at the next switch of threads; nobody can free or
//! reuse it in between, because nobody else runs.

use super::{Args, Caller, Errno, Result, begin, memory, signal};
use crate::arch::cell::Global;
use crate::sched::{self, MAX_THREADS, Wait, Woken};
use crate::xen::clock;
use core::ffi::c_void;
use libos_sys::NEVER;

/// Linux's ids of this process and its first thread are one number, and 1 is another process.
const OFFSET: i32 = 1;

/// A thread's id as the C library knows it.
pub fn tid(id: i32) -> i32 {
    id + OFFSET
}

/// The thread with this id of the C library's, if there is one.
pub fn by_tid(tid: i32) -> Option<i32> {
    tid.checked_sub(OFFSET).filter(|id| *id > 0 && sched::is_alive(*id))
}

/// The one process.
pub const PID: i32 = 1 + OFFSET;

const CLONE_VM: u32 = 0x100;
const CLONE_THREAD: u32 = 0x1_0000;
const CLONE_SETTLS: u32 = 0x8_0000;
const CLONE_PARENT_SETTID: u32 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u32 = 0x20_0000;
const CLONE_CHILD_SETTID: u32 = 0x100_0000;

struct Threads {
    /// Word of each thread that is zeroed and woken at its end (0: none).
    clear: [u64; MAX_THREADS],
    /// Names, for `PR_GET_NAME`.
    names: [[u8; 16]; MAX_THREADS],
    /// The stack of a thread that has ended, to be unmapped.
    grave: (u64, u64),
}

static THREADS: Global<Threads> =
    Global::new(Threads { clear: [0; MAX_THREADS], names: [[0; 16]; MAX_THREADS], grave: (0, 0) });

fn slot(id: i32) -> usize {
    id as usize - 1
}

/// Starts a thread of the C library's; its id. `start` gets the end of the stack, with room for two words above.
pub fn clone(
    caller: Caller,
    stack: u64,
    flags: u32,
    parent_tid: u64,
    child_tid: u64,
    start: impl FnOnce(u64, extern "C" fn(*mut c_void)) -> i32,
) -> Result<i32> {
    if flags & CLONE_THREAD == 0 || flags & CLONE_VM == 0 || flags & CLONE_SETTLS == 0 {
        // A process.
        return Err(Errno::NOSYS);
    }
    let top = (stack & !15).checked_sub(16).ok_or(Errno::INVAL)?;
    // `switch::first_frame` takes 64 bytes.
    caller.slice_mut::<u64>(top - 64, 10)?;
    for (flag, word) in [
        (CLONE_PARENT_SETTID, parent_tid),
        (CLONE_CHILD_SETTID, child_tid),
        (CLONE_CHILD_CLEARTID, child_tid),
    ] {
        if flags & flag != 0 {
            caller.word(word)?;
        }
    }
    let id = start(top, begin);
    if id < 0 {
        return Err(Errno::AGAIN);
    }
    if flags & CLONE_PARENT_SETTID != 0 {
        caller.set_word(parent_tid, tid(id) as u32)?;
    }
    if flags & CLONE_CHILD_SETTID != 0 {
        caller.set_word(child_tid, tid(id) as u32)?;
    }
    let (creator, clear) = (sched::current(), if flags & CLONE_CHILD_CLEARTID != 0 { child_tid } else { 0 });
    THREADS.with(|t| {
        t.clear[slot(id)] = clear;
        t.names[slot(id)] = t.names[slot(creator)];
    });
    signal::inherit(creator, id);
    Ok(tid(id))
}

/// Ends the running thread.
pub fn end() -> ! {
    let word = THREADS.with(|t| core::mem::take(&mut t.clear[slot(sched::current())]));
    if word != 0 {
        // A word that is gone by now is nobody's loss.
        if super::owner().set_word(word, 0).is_ok() {
            sched::wake(word as usize, 1);
        }
    }
    if sched::count() == 1 {
        crate::sys::exit(0);
    }
    sched::exit()
}

/// Ends the running thread and unmaps its stack afterwards.
pub fn unmap_and_end(base: u64, size: u64) -> ! {
    bury();
    THREADS.with(|t| t.grave = (base, size));
    end()
}

/// Unmaps the stack of a thread that has ended. At every entry of the kernel: the caller is another thread.
pub fn bury() {
    let (base, size) = THREADS.with(|t| core::mem::take(&mut t.grave));
    if size > 0 {
        // Unmapping what is not mapped is no error, and a stack with no memory to split its pages stays.
        let _ = memory::unmap(base & !0xfff, size.div_ceil(4096));
    }
}

/// `exit(status)`: of this thread.
pub fn exit(_: Args) -> Result<u64> {
    end()
}

/// `exit_group(status)`.
pub fn exit_group(a: Args) -> Result<u64> {
    crate::sys::exit(a.int(0))
}

/// `gettid()`.
pub fn gettid(_: Args) -> Result<u64> {
    Ok(tid(sched::current()) as u64)
}

/// `getpid()` and its relatives: there is no parent, and one group and session.
pub fn getpid(number: u64, _: Args) -> Result<u64> {
    Ok(if number == 110 { 0 } else { PID as u64 })
}

/// `set_tid_address(word)`.
pub fn set_tid_address(a: Args) -> Result<u64> {
    THREADS.with(|t| t.clear[slot(sched::current())] = a.values()[0]);
    gettid(a)
}

/// `set_robust_list(head, len)`: for mutexes shared with other processes, of which there are none.
pub fn set_robust_list(a: Args) -> Result<u64> {
    if a.values()[1] == 24 { Ok(0) } else { Err(Errno::INVAL) }
}

/// `sched_yield()`.
pub fn sched_yield(_: Args) -> Result<u64> {
    sched::yield_now();
    Ok(0)
}

/// `sched_setparam` to `sched_rr_get_interval`: one policy (`SCHED_OTHER`), one priority.
pub fn scheduling(number: u64, a: Args) -> Result<u64> {
    let policy = match number {
        146 | 147 => a.int(0), // sched_get_priority_max, sched_get_priority_min
        144 => a.int(1),       // sched_setscheduler
        _ => 0,
    };
    match (number, policy) {
        (146, 1 | 2) => return Ok(99),
        (147, 1 | 2) => return Ok(1),
        (144, 1 | 2) => return Err(Errno::PERM),
        (_, 0) => {}
        _ => return Err(Errno::INVAL),
    }
    if matches!(number, 142..=145 | 148) && a.int(0) != 0 && by_tid(a.int(0)).is_none() {
        return Err(Errno::SRCH);
    }
    match number {
        142 | 144 => {
            let parameter = a.values()[if number == 142 { 1 } else { 2 }];
            if a.caller.read::<i32>(parameter)? != 0 {
                return Err(Errno::INVAL);
            }
        }
        143 => a.caller.write(a.values()[1], 0i32)?,
        148 => a.caller.write(a.values()[1], [0u64, 0])?,
        _ => {}
    }
    Ok(0)
}

/// `sched_getaffinity(tid, size, mask)`: one processor.
pub fn getaffinity(a: Args) -> Result<u64> {
    let [_, size, mask, ..] = a.values();
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    if a.int(0) != 0 && by_tid(a.int(0)).is_none() {
        return Err(Errno::SRCH);
    }
    a.caller.write(mask, 1u64)?;
    Ok(8)
}

const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;

/// `prctl(PR_SET_NAME or PR_GET_NAME, name)`.
pub fn prctl(a: Args) -> Result<u64> {
    let address = a.values()[1];
    let own = slot(sched::current());
    match a.int(0) {
        PR_SET_NAME => {
            let mut name = [0; 16];
            for (i, place) in name[..15].iter_mut().enumerate() {
                *place = a.caller.read::<u8>(address + i as u64)?;
                if *place == 0 {
                    break;
                }
            }
            THREADS.with(|t| t.names[own] = name);
        }
        PR_GET_NAME => a.caller.write(address, THREADS.with(|t| t.names[own]))?,
        _ => return Err(Errno::INVAL),
    }
    Ok(0)
}

const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;

/// `arch_prctl(ARCH_SET_FS or ARCH_GET_FS, address)`.
pub fn arch_prctl(a: Args) -> Result<u64> {
    let address = a.values()[1];
    match a.int(0) {
        ARCH_SET_FS if address < 1 << 47 => sched::set_fs(address),
        ARCH_SET_FS => return Err(Errno::PERM),
        ARCH_GET_FS => a.caller.write(address, sched::fs())?,
        _ => return Err(Errno::INVAL),
    }
    Ok(0)
}

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX_REQUEUE: u64 = 3;
const FUTEX_CMP_REQUEUE: u64 = 4;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAKE_BITSET: u64 = 10;
const FUTEX_PRIVATE: u64 = 128;
const FUTEX_CLOCK_REALTIME: u64 = 256;

/// `futex(word, operation, value, timeout or value2, word2, value3)`, without priority inheritance and without
/// bit sets other than the full one.
pub fn futex(a: Args) -> Result<u64> {
    let [word, operation, value, four, word2, value3] = a.values();
    let operation = operation & !FUTEX_PRIVATE;
    let (command, realtime) = (operation & !FUTEX_CLOCK_REALTIME, operation & FUTEX_CLOCK_REALTIME != 0);
    let current = a.caller.word(word)?;
    let count = |n: u64| u32::try_from(n as i32).map_err(|_| Errno::INVAL);
    match command {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            if command == FUTEX_WAIT_BITSET && value3 as u32 != u32::MAX {
                return Err(Errno::NOSYS);
            }
            let deadline = match four {
                0 => NEVER,
                _ => {
                    let time = super::time::read(a.caller, four)?;
                    match (command, realtime) {
                        (FUTEX_WAIT, _) => clock::monotonic().saturating_add(time),
                        (_, true) => super::time::from_wall(time),
                        (_, false) => time,
                    }
                }
            };
            if current != value as u32 {
                return Err(Errno::AGAIN);
            }
            loop {
                match signal::wait(Wait::Word(word as usize), deadline)? {
                    Woken::Fulfilled => return Ok(0),
                    Woken::TimedOut => return Err(Errno::TIMEDOUT),
                    // A handler ran: is there still something to wait for?
                    Woken::Interrupted if a.caller.word(word)? != value as u32 => return Err(Errno::AGAIN),
                    Woken::Interrupted => {}
                }
            }
        }
        FUTEX_WAKE | FUTEX_WAKE_BITSET => {
            if command == FUTEX_WAKE_BITSET && value3 as u32 != u32::MAX {
                return Err(Errno::NOSYS);
            }
            Ok(sched::wake(word as usize, count(value)?).into())
        }
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            a.caller.word(word2)?;
            if command == FUTEX_CMP_REQUEUE && current != value3 as u32 {
                return Err(Errno::AGAIN);
            }
            let woken = sched::wake(word as usize, count(value)?);
            let moved = sched::requeue(word as usize, word2 as usize, count(four)?);
            Ok((woken + if command == FUTEX_CMP_REQUEUE { moved } else { 0 }).into())
        }
        _ => Err(Errno::NOSYS),
    }
}

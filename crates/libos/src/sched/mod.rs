//! Cooperative threads on one vCPU.
//!
//! A thread runs until it waits: for time, for a word of memory, or for an event. This is the only place where
//! the kernel switches stacks and the only place where the domain blocks. When nobody can run, the domain
//! blocks in `SCHEDOP_poll` on every open port until the nearest deadline, which Xen wakes correctly although
//! upcalls are masked, also when a port became pending just before.

#![expect(unsafe_code, reason = "thread stacks")]

use crate::arch::cell::Global;
use crate::arch::x86_64::{hypercall, switch};
use crate::mm::{self, Protection};
use crate::xen::{clock, evtchn};
use core::ffi::c_void;
use libos_sys::{NEVER, errno};

/// Threads at once, the first one included.
pub const MAX_THREADS: usize = 64;
/// Most bytes of a stack.
const MAX_STACK: usize = 1 << 30;

/// What a blocked thread waits for, besides its deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Time only.
    Time,
    /// [`wake`] for this address.
    Word(usize),
    /// Any event; the thread looks for itself whether it was one of its own.
    Event,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Free,
    Ready,
    Blocked,
    /// Ended; its stack is freed by the next thread that runs.
    Ended,
}

#[derive(Clone, Copy)]
struct Thread {
    state: State,
    /// What it waits for while it is blocked.
    wait: Wait,
    pointer: usize,
    /// First address (the guard page) and pages of the stack.
    stack: (u64, u64),
    deadline: u64,
    /// When it began to wait, to wake in order.
    since: u64,
    timed_out: bool,
}

/// All zero, so that the table costs nothing in the image.
const FREE: Thread = Thread {
    state: State::Free,
    wait: Wait::Time,
    pointer: 0,
    stack: (0, 0),
    deadline: 0,
    since: 0,
    timed_out: false,
};

struct Sched {
    threads: [Thread; MAX_THREADS],
    current: usize,
    waits: u64,
    ended: bool,
    /// The number of the last harvest of events that was looked at.
    harvests: u32,
}

static SCHED: Global<Sched> =
    Global::new(Sched { threads: [FREE; MAX_THREADS], current: 0, waits: 0, ended: false, harvests: 0 });

/// Starts a thread; its id, or a negative `errno`. The top `reserve` bytes of the stack (a multiple of 16,
/// fewer than `stack_bytes`) are left alone.
///
/// # Safety
/// `entry` may be called with `arg` on another stack, and does not unwind.
pub unsafe fn spawn(
    entry: extern "C" fn(*mut c_void),
    arg: *mut c_void,
    stack_bytes: usize,
    reserve: usize,
) -> i32 {
    reap();
    if stack_bytes > MAX_STACK {
        return -errno::ENOMEM;
    }
    let Some(slot) = SCHED.with(|s| s.threads.iter().position(|t| t.state == State::Free)) else {
        return -errno::EAGAIN;
    };
    let pages = (stack_bytes.max(4096) as u64).div_ceil(4096) + 1;
    let Some(base) = mm::alloc(pages) else { return -errno::ENOMEM };
    if !mm::protect(base, 1, Protection::None) {
        mm::free(base, pages);
        return -errno::ENOMEM;
    }
    let top = (base + (pages << 12)) as usize;
    // SAFETY: a fresh stack; the caller's promise for the entry.
    let pointer = unsafe { switch::first_frame(top - reserve, entry, arg) };
    SCHED.with(|s| s.threads[slot] = Thread { state: State::Ready, pointer, stack: (base, pages), ..FREE });
    slot as i32 + 1
}

/// Leaves the boot stack for the first thread, for good.
pub fn start() -> ! {
    let to = SCHED.with(|s| s.threads[0].pointer);
    let mut boot = 0;
    // SAFETY: made by `spawn`; nobody ever switches back to the boot stack.
    unsafe { switch::switch(&raw mut boot, to) };
    unreachable!()
}

/// Id of the running thread.
pub fn current() -> i32 {
    SCHED.with(|s| s.current as i32 + 1)
}

/// The running thread's stack without the guard page: first address and end.
pub fn stack() -> (u64, u64) {
    SCHED.with(|s| {
        let (base, pages) = s.threads[s.current].stack;
        (base + 4096, base + (pages << 12))
    })
}

/// The thread whose guard page holds `address`.
pub fn guard_owner(address: u64) -> Option<i32> {
    SCHED.with(|s| {
        let hit = |t: &Thread| t.state != State::Free && t.stack.1 > 0 && address & !0xfff == t.stack.0;
        s.threads.iter().position(hit).map(|slot| slot as i32 + 1)
    })
}

/// Ends the running thread.
pub fn exit() -> ! {
    SCHED.with(|s| {
        s.threads[s.current].state = State::Ended;
        s.ended = true;
    });
    run_next();
    unreachable!()
}

/// Lets the other threads have a turn.
pub fn yield_now() {
    run_next();
}

/// Blocks the running thread; false when the deadline passed first.
pub fn block(wait: Wait, deadline: u64) -> bool {
    SCHED.with(|s| {
        s.waits += 1;
        let since = s.waits;
        let t = &mut s.threads[s.current];
        (t.state, t.wait, t.deadline, t.since, t.timed_out) = (State::Blocked, wait, deadline, since, false);
    });
    run_next();
    SCHED.with(|s| !s.threads[s.current].timed_out)
}

/// Wakes at most `count` threads that wait for the word at `address`, oldest first; how many.
pub fn wake(address: usize, count: u32) -> u32 {
    let mut woken = 0;
    SCHED.with(|s| {
        while woken < count {
            let waiting = |t: &&mut Thread| t.state == State::Blocked && t.wait == Wait::Word(address);
            let Some(t) = s.threads.iter_mut().filter(waiting).min_by_key(|t| t.since) else { break };
            t.state = State::Ready;
            woken += 1;
        }
    });
    woken
}

/// Makes ready whoever waits for events, if any came, and whoever's deadline passed.
fn look_around(s: &mut Sched) {
    let harvests = evtchn::harvest();
    let events = core::mem::replace(&mut s.harvests, harvests) != harvests;
    let mut now = None;
    for t in &mut s.threads {
        if t.state != State::Blocked {
            continue;
        }
        if t.wait == Wait::Event && events {
            t.state = State::Ready;
        } else if t.deadline != NEVER && t.deadline <= *now.get_or_insert_with(clock::monotonic) {
            t.state = State::Ready;
            t.timed_out = true;
        }
    }
}

/// Runs the next thread that can run, which may be the caller itself; blocks the domain while there is none.
fn run_next() {
    loop {
        let next = SCHED.with(|s| {
            look_around(s);
            let slots = (1..=MAX_THREADS).map(|i| (s.current + i) % MAX_THREADS);
            let next = slots.into_iter().find(|slot| s.threads[*slot].state == State::Ready)?;
            let from = core::mem::replace(&mut s.current, next);
            Some((from != next).then(|| (&raw mut s.threads[from].pointer, s.threads[next].pointer)))
        });
        match next {
            Some(Some((save, to))) => {
                // SAFETY: `to` was saved by `switch` or made by `spawn`; the table is static, so `save` stays.
                unsafe { switch::switch(save, to) };
                reap();
                return;
            }
            Some(None) => return,
            None => idle(),
        }
    }
}

/// Blocks the domain until an event comes or the nearest deadline passes.
fn idle() {
    let deadline = SCHED.with(|s| {
        let blocked = s.threads.iter().filter(|t| t.state == State::Blocked);
        blocked.map(|t| t.deadline).min().unwrap_or(NEVER)
    });
    evtchn::with_open_ports(|ports, all| {
        // Ports that do not fit into one poll are looked at every 10 ms.
        let slice = if all { NEVER } else { clock::monotonic() + 10_000_000 };
        let until = deadline.min(slice);
        // With neither ports nor a deadline nothing can ever wake us, and Xen refuses such a poll: look again
        // once a second.
        let until =
            if until == NEVER && ports.is_empty() { clock::monotonic() + 1_000_000_000 } else { until };
        hypercall::poll(ports, if until == NEVER { 0 } else { until.max(1) });
    });
}

/// Frees the stacks of threads that have ended.
fn reap() {
    while let Some((base, pages)) = SCHED.with(|s| {
        if !s.ended {
            return None;
        }
        let current = s.current;
        let dead = s.threads.iter_mut().enumerate().find(|(i, t)| t.state == State::Ended && *i != current);
        let found = dead.map(|(_, t)| core::mem::replace(t, FREE).stack);
        s.ended = found.is_some();
        found
    }) {
        mm::protect(base, 1, Protection::ReadWrite);
        mm::free(base, pages);
    }
}

/// Lets the dying domain look at the threads even if it died in here.
pub fn steal() {
    SCHED.steal();
}

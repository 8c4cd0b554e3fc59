//! Cooperative threads on one vCPU.
//!
//! A thread runs until it waits: for time, for a word of memory, or for an event. This is the only place where
//! the kernel switches stacks and the only place where the domain blocks. When nobody can run, the domain
//! blocks in `SCHEDOP_poll` on every open port until the nearest deadline, which Xen wakes correctly although
//! upcalls are masked, also when a port became pending just before.
//!
//! A thread runs on a stack that it was spawned with, or (for a C library's `clone`) on one that belongs to the
//! application, and has its own FS base, where C libraries keep thread-local data.

#![expect(unsafe_code, reason = "thread stacks")]

use crate::arch::cell::Global;
use crate::arch::x86_64::{cpu, hypercall, switch};
use crate::mm::{self, Protection};
use crate::xen::{clock, evtchn};
use core::ffi::c_void;
use libos_sys::{NEVER, errno};

/// Threads at once, the first one included.
pub const MAX_THREADS: usize = 128;
/// Most bytes of a stack.
const MAX_STACK: usize = 1 << 30;

/// What a blocked thread waits for, besides its deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Time only.
    Time,
    /// [`wake`] for this address.
    Word(usize),
    /// Any event, or [`poke`]; the thread looks for itself whether it was one of its own.
    Event,
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Woken {
    /// By what it waited for.
    Fulfilled,
    /// By its deadline.
    TimedOut,
    /// By [`interrupt`].
    Interrupted,
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
    /// First address (the guard page) and pages of the stack; none when it is the application's.
    stack: (u64, u64),
    /// Base of FS while it runs.
    fs: u64,
    /// Time-stamp cycles for which it has run.
    cycles: u64,
    deadline: u64,
    /// When it began to wait, to wake in order.
    since: u64,
    /// How its last wait ended.
    woken: Woken,
    /// Whether [`interrupt`] may end its wait.
    interruptible: bool,
}

/// All zero, so that the table costs nothing in the image.
const FREE: Thread = Thread {
    state: State::Free,
    wait: Wait::Time,
    pointer: 0,
    stack: (0, 0),
    fs: 0,
    cycles: 0,
    deadline: 0,
    since: 0,
    woken: Woken::Fulfilled,
    interruptible: false,
};

struct Sched {
    threads: [Thread; MAX_THREADS],
    /// Slots that were ever in use.
    slots: usize,
    current: usize,
    waits: u64,
    /// What the processor has as the base of FS.
    fs: u64,
    /// Nanoseconds in which no thread could run.
    idle: u64,
    /// Time stamp up to which the running thread's cycles are counted.
    counted: u64,
    ended: bool,
    /// The number of the last harvest of events that was looked at.
    harvests: u32,
}

static SCHED: Global<Sched> = Global::new(Sched {
    threads: [FREE; MAX_THREADS],
    slots: 0,
    current: 0,
    waits: 0,
    fs: 0,
    idle: 0,
    counted: 0,
    ended: false,
    harvests: 0,
});

impl Sched {
    /// The slots in use, and some that were.
    fn threads(&mut self) -> &mut [Thread] {
        &mut self.threads[..self.slots]
    }

    fn free_slot(&self) -> Option<usize> {
        self.threads.iter().position(|t| t.state == State::Free)
    }

    fn add(&mut self, slot: usize, thread: Thread) -> i32 {
        self.threads[slot] = thread;
        self.slots = self.slots.max(slot + 1);
        slot as i32 + 1
    }
}

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
    let Some(slot) = SCHED.with(|s| s.free_slot()) else {
        return -errno::EAGAIN;
    };
    let pages = (stack_bytes.max(4096) as u64).div_ceil(4096) + 1;
    let Some(base) = mm::alloc_stale(pages) else { return -errno::ENOMEM };
    if !mm::protect(base, 1, Protection::None) {
        mm::free(base, pages);
        return -errno::ENOMEM;
    }
    let top = (base + (pages << 12)) as usize;
    // SAFETY: a fresh stack; the caller's promise for the entry.
    let pointer = unsafe { switch::first_frame(top - reserve, entry, arg) };
    SCHED.with(|s| s.add(slot, Thread { state: State::Ready, pointer, stack: (base, pages), ..FREE }))
}

/// Starts a thread on a stack of the application's, which ends below `top` (16-byte aligned); its id, or a
/// negative `errno`.
///
/// # Safety
/// As for [`spawn`]; the stack is writable and the thread's alone until it has ended.
pub unsafe fn spawn_on(top: usize, entry: extern "C" fn(*mut c_void), arg: *mut c_void, fs: u64) -> i32 {
    reap();
    let Some(slot) = SCHED.with(|s| s.free_slot()) else { return -errno::EAGAIN };
    // SAFETY: the caller's promise.
    let pointer = unsafe { switch::first_frame(top, entry, arg) };
    SCHED.with(|s| s.add(slot, Thread { state: State::Ready, pointer, fs, ..FREE }))
}

/// Gives the running thread another FS base.
pub fn set_fs(base: u64) {
    SCHED.with(|s| {
        s.threads[s.current].fs = base;
        s.load_fs();
    });
}

/// The running thread's FS base.
pub fn fs() -> u64 {
    SCHED.with(|s| s.threads[s.current].fs)
}

impl Sched {
    /// Counts the running thread's cycles up to now.
    fn count(&mut self) {
        let now = cpu::rdtsc();
        self.threads[self.current].cycles += now.saturating_sub(self.counted);
        self.counted = now;
    }

    fn load_fs(&mut self) {
        let fs = self.threads[self.current].fs;
        // In PV this is a hypercall, so only if need be.
        if core::mem::replace(&mut self.fs, fs) != fs {
            cpu::set_fs_base(fs);
        }
    }
}

/// Leaves the boot stack for the first thread, for good.
pub fn start() -> ! {
    let to = SCHED.with(|s| {
        s.counted = cpu::rdtsc();
        s.threads[0].pointer
    });
    let mut boot = 0;
    // SAFETY: made by `spawn`; nobody ever switches back to the boot stack.
    unsafe { switch::switch(&raw mut boot, to) };
    unreachable!()
}

/// Id of the running thread.
pub fn current() -> i32 {
    SCHED.with(|s| s.current as i32 + 1)
}

/// Number of threads that have not ended.
pub fn count() -> usize {
    SCHED.with(|s| s.threads().iter().filter(|t| !matches!(t.state, State::Free | State::Ended)).count())
}

/// Whether there is a thread with this id that has not ended.
pub fn is_alive(id: i32) -> bool {
    let slot = (id as usize).wrapping_sub(1);
    SCHED.with(|s| s.threads().get(slot).is_some_and(|t| matches!(t.state, State::Ready | State::Blocked)))
}

/// Time-stamp cycles for which the running thread has run.
pub fn cycles() -> u64 {
    SCHED.with(|s| {
        s.count();
        s.threads[s.current].cycles
    })
}

/// Nanoseconds in which no thread could run.
pub fn idle_time() -> u64 {
    SCHED.with(|s| s.idle)
}

/// Bytes of the stack that thread `id` was spawned with, without the guard page.
pub fn stack_size(id: i32) -> u64 {
    let slot = (id as usize).wrapping_sub(1);
    SCHED.with(|s| s.threads().get(slot).map_or(0, |t| t.stack.1.saturating_sub(1) << 12))
}

/// End of the stack that thread `id` was spawned with (0: it runs on one of the application's).
pub fn stack_end(id: i32) -> u64 {
    let slot = (id as usize).wrapping_sub(1);
    SCHED.with(|s| s.threads().get(slot).map_or(0, |t| t.stack.0 + (t.stack.1 << 12)))
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
    block_until(wait, deadline, false) == Woken::Fulfilled
}

/// Blocks the running thread; [`interrupt`] may end the wait if it is `interruptible`.
pub fn block_until(wait: Wait, deadline: u64, interruptible: bool) -> Woken {
    SCHED.with(|s| {
        s.waits += 1;
        let since = s.waits;
        let t = &mut s.threads[s.current];
        (t.state, t.wait, t.deadline, t.since) = (State::Blocked, wait, deadline, since);
        (t.woken, t.interruptible) = (Woken::Fulfilled, interruptible);
    });
    run_next();
    SCHED.with(|s| s.threads[s.current].woken)
}

/// Ends the wait of a thread, if it is in one that may be interrupted.
pub fn interrupt(id: i32) {
    SCHED.with(|s| {
        if let Some(t) = s.threads().get_mut((id as usize).wrapping_sub(1))
            && t.state == State::Blocked
            && t.interruptible
        {
            (t.state, t.woken) = (State::Ready, Woken::Interrupted);
        }
    });
}

/// Lets every thread that waits for events look again.
pub fn poke() {
    SCHED.with(|s| {
        let waiting = |t: &&mut Thread| t.state == State::Blocked && t.wait == Wait::Event;
        s.threads().iter_mut().filter(waiting).for_each(|t| t.state = State::Ready);
    });
}

/// Wakes at most `count` threads that wait for the word at `address`, oldest first; how many.
pub fn wake(address: usize, count: u32) -> u32 {
    each_waiting(address, count, |t| t.state = State::Ready)
}

/// Lets at most `count` threads that wait for the word at `from`, oldest first, wait for the one at `to`
/// instead; how many.
pub fn requeue(from: usize, to: usize, count: u32) -> u32 {
    if from == to { 0 } else { each_waiting(from, count, |t| t.wait = Wait::Word(to)) }
}

fn each_waiting(address: usize, count: u32, mut change: impl FnMut(&mut Thread)) -> u32 {
    let mut changed = 0;
    SCHED.with(|s| {
        while changed < count {
            let waiting = |t: &&mut Thread| t.state == State::Blocked && t.wait == Wait::Word(address);
            let Some(t) = s.threads().iter_mut().filter(waiting).min_by_key(|t| t.since) else { break };
            change(t);
            changed += 1;
        }
    });
    changed
}

/// Makes ready whoever waits for events, if any came, and whoever's deadline passed.
fn look_around(s: &mut Sched) {
    let harvests = evtchn::harvest();
    let events = core::mem::replace(&mut s.harvests, harvests) != harvests;
    let mut now = None;
    for t in s.threads() {
        if t.state != State::Blocked {
            continue;
        }
        if t.wait == Wait::Event && events {
            t.state = State::Ready;
        } else if t.deadline != NEVER && t.deadline <= *now.get_or_insert_with(clock::monotonic) {
            t.state = State::Ready;
            t.woken = Woken::TimedOut;
        }
    }
}

/// Runs the next thread that can run, which may be the caller itself; blocks the domain while there is none.
fn run_next() {
    loop {
        let next = SCHED.with(|s| {
            look_around(s);
            let slots = (1..=s.slots).map(|i| (s.current + i) % s.slots);
            let next = slots.into_iter().find(|slot| s.threads[*slot].state == State::Ready)?;
            if next == s.current {
                return Some(None);
            }
            s.count();
            let from = core::mem::replace(&mut s.current, next);
            s.load_fs();
            Some(Some((&raw mut s.threads[from].pointer, s.threads[next].pointer)))
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
        let blocked = s.threads().iter().filter(|t| t.state == State::Blocked);
        blocked.map(|t| t.deadline).min().unwrap_or(NEVER)
    });
    SCHED.with(Sched::count);
    let before = clock::monotonic();
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
    let idle = clock::monotonic() - before;
    SCHED.with(|s| {
        s.idle += idle;
        s.counted = cpu::rdtsc();
    });
}

/// Frees the stacks of threads that have ended.
fn reap() {
    while let Some((base, pages)) = SCHED.with(|s| {
        if !s.ended {
            return None;
        }
        let current = s.current;
        let dead = s.threads().iter_mut().enumerate().find(|(i, t)| t.state == State::Ended && *i != current);
        let found = dead.map(|(_, t)| core::mem::replace(t, FREE).stack);
        s.ended = found.is_some();
        found
    }) {
        if pages > 0 {
            mm::protect(base, 1, Protection::ReadWrite);
            mm::free(base, pages);
        }
    }
}

/// Lets the dying domain look at the threads even if it died in here.
pub fn steal() {
    SCHED.steal();
}

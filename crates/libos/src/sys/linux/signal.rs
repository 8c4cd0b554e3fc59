//! Signals between the threads of one program, as far as `raise`, `abort` and `pthread_cancel` need them.
//!
//! Nothing interrupts running code here (see `docs/decisions/0001`), so a signal waits until its thread is in a
//! system call: a blocked call ends early, any other one delivers on its way out. A handler is then simply
//! called, with a `siginfo_t` and a `ucontext_t` as it expects them; there is no frame to return through, and a
//! handler that jumps away (`siglongjmp`) leaves nothing behind. Processor exceptions are not signals here.
//!
//! Cancellation: musl's handler for its signal 33 changes the program counter in the context when the interrupted
//! thread stood at a cancellation point. The kernel shows it `__cp_begin` for a call that came by
//! `libos_syscall_cp` and is waiting; if the handler changed that, the call answers `EINTR`, upon which musl cancels.

use super::{Args, Errno, Result, thread};
use crate::arch::cell::Global;
use crate::arch::x86_64::{cpu, image};
use crate::report;
use crate::sched::{self, MAX_THREADS, Wait, Woken};
use crate::xen::clock;
use libos_sys::NEVER;

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const SIGNALS: usize = 64;

const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

const SS_ONSTACK: u64 = 1;
const SS_DISABLE: u64 = 2;
const MINSIGSTKSZ: u64 = 2048;
const SI_TKILL: u32 = (-6i32) as u32;

/// What to do for a signal: handler, flags, restorer (unused), mask (`struct kernel_sigaction`).
type Action = [u64; 4];

#[derive(Clone, Copy)]
struct Thread {
    mask: u64,
    pending: u64,
    /// What `sigtimedwait` waits for.
    wanted: u64,
    /// Alternate stack: address and size (0: none).
    stack: (u64, u64),
    /// The call that it is in is a cancellation point.
    cancellable: bool,
}

const NEW: Thread = Thread { mask: 0, pending: 0, wanted: 0, stack: (0, 0), cancellable: false };

struct Signals {
    actions: [Action; SIGNALS],
    threads: [Thread; MAX_THREADS],
}

static SIGNALS_STATE: Global<Signals> =
    Global::new(Signals { actions: [[0; 4]; SIGNALS], threads: [NEW; MAX_THREADS] });

fn with<R>(f: impl FnOnce(&mut Signals, &mut Thread) -> R) -> R {
    let own = sched::current() as usize - 1;
    SIGNALS_STATE.with(|s| {
        let mut thread = s.threads[own];
        let result = f(s, &mut thread);
        s.threads[own] = thread;
        result
    })
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

/// A system call begins.
pub fn enter(cancellable: bool) {
    with(|_, t| t.cancellable = cancellable);
}

/// A system call ends: delivers what has come for the running thread.
pub fn leave(result: Result<u64>) -> Result<u64> {
    deliver(false);
    result
}

/// A new thread begins with its creator's mask and nothing pending.
pub fn inherit(creator: i32, id: i32) {
    SIGNALS_STATE.with(|s| {
        s.threads[id as usize - 1] = Thread { mask: s.threads[creator as usize - 1].mask, ..NEW };
    });
}

/// What [`deliver`] did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivered {
    /// No handler ran.
    Nothing,
    /// Handlers ran, and all of them want calls to go on.
    Restart,
    /// A handler ran that wants the call to end, or the thread is to be cancelled.
    Interrupt,
}

/// Takes the first signal that may be delivered to the running thread: its number and action, and the mask
/// before it.
fn take() -> Option<(i32, Action, u64)> {
    with(|s, t| {
        loop {
            let ready = t.pending & !t.mask;
            if ready == 0 {
                return None;
            }
            let signal = ready.trailing_zeros() as i32 + 1;
            t.pending &= !bit(signal);
            let action = s.actions[signal as usize - 1];
            if action[0] == SIG_IGN || action[0] == SIG_DFL && is_ignored(signal) {
                continue;
            }
            let before = t.mask;
            if action[0] != SIG_DFL {
                t.mask |=
                    (action[3] | if action[1] & SA_NODEFER == 0 { bit(signal) } else { 0 }) & !UNBLOCKABLE;
                if action[1] & SA_RESETHAND != 0 {
                    s.actions[signal as usize - 1][0] = SIG_DFL;
                }
            }
            return Some((signal, action, before));
        }
    })
}

/// Runs the handlers of what is pending. `waiting`: the thread is in a call that would block.
fn deliver(waiting: bool) -> Delivered {
    let mut done = Delivered::Nothing;
    while let Some((signal, action, before)) = take() {
        if action[0] == SIG_DFL {
            terminate(signal);
        }
        let cancellable = with(|_, t| t.cancellable);
        let pc = if waiting && cancellable { image::cancellation_point() } else { 0 };
        let moved = handle(signal, action, before, pc);
        with(|_, t| t.cancellable = cancellable);
        if moved || action[1] & SA_RESTART == 0 {
            done = Delivered::Interrupt;
        } else if done == Delivered::Nothing {
            done = Delivered::Restart;
        }
        if moved {
            break;
        }
    }
    done
}

// Words of `ucontext_t` (musl's bits/signal.h): flags, link, stack, general registers, ..., signal mask.
const UC_STACK: usize = 2;
const UC_RSP: usize = 5 + 15;
const UC_RIP: usize = 5 + 16;
const UC_MASK: usize = 37;

/// Calls one handler; whether it changed the program counter.
fn handle(signal: i32, action: Action, mask: u64, pc: u64) -> bool {
    let here = cpu::frame_pointer() as u64;
    let (base, size) = with(|_, t| t.stack);
    let on_it = (base..base + size).contains(&here);
    let stack = if action[1] & SA_ONSTACK != 0 && size > 0 && !on_it { base + size } else { 0 };
    let mut info = [0u32; 32];
    (info[0], info[2], info[4]) = (signal as u32, SI_TKILL, thread::PID as u32);
    let mut context = [0u64; 128];
    context[UC_STACK..UC_STACK + 3].copy_from_slice(&describe(base, size, here));
    (context[UC_RSP], context[UC_RIP], context[UC_MASK]) = (here, pc, mask);
    let context_address = (&raw mut context) as u64;
    super::call_handler(action[0], signal, (&raw mut info) as u64, context_address, stack);
    // The handler wrote through the address.
    let context = core::hint::black_box(&context);
    with(|_, t| t.mask = context[UC_MASK] & !UNBLOCKABLE);
    context[UC_RIP] != pc
}

/// An alternate stack as a `stack_t`.
fn describe(base: u64, size: u64, here: u64) -> [u64; 3] {
    match size {
        0 => [0, SS_DISABLE, 0],
        _ if (base..base + size).contains(&here) => [base, SS_ONSTACK, size],
        _ => [base, 0, size],
    }
}

/// SIGCHLD, SIGCONT, SIGURG, SIGWINCH, and, since nobody controls jobs here, those that stop a process.
fn is_ignored(signal: i32) -> bool {
    matches!(signal, 17..=23 | 28)
}

/// The default action of every other signal ends the program: with status 128 + signal, as a shell reports it,
/// and as crashed where Linux would leave a core file.
fn terminate(signal: i32) -> ! {
    if !matches!(signal, 3..=8 | 11 | 24 | 25 | 31) {
        crate::sys::exit(128 + signal);
    }
    crate::sys::publish_status(128 + signal);
    let mut message = *b"ended by signal 00";
    message[16] += signal as u8 / 10;
    message[17] += signal as u8 % 10;
    report::panic(&message)
}

/// Blocks the running thread until it is woken, as [`sched::block_until`] does; `Interrupted` means that a
/// signal came and the call should look again, `EINTR` that a handler wants it to end.
pub fn wait(wait: Wait, deadline: u64) -> Result<Woken> {
    wait_as(wait, deadline, true)
}

/// The same; a call that is not `restartable` ends whenever a handler ran, as Linux's `poll` and sleeps do.
pub fn wait_as(wait: Wait, deadline: u64, restartable: bool) -> Result<Woken> {
    if pending_now() {
        return after(deliver(true), restartable);
    }
    match sched::block_until(wait, deadline, true) {
        Woken::Interrupted => after(deliver(true), restartable),
        woken => Ok(woken),
    }
}

fn pending_now() -> bool {
    with(|_, t| t.pending & !t.mask != 0)
}

fn after(delivered: Delivered, restartable: bool) -> Result<Woken> {
    match delivered {
        Delivered::Interrupt => Err(Errno::INTR),
        Delivered::Restart if !restartable => Err(Errno::INTR),
        _ => Ok(Woken::Interrupted),
    }
}

/// Sends a signal (0: none) to a thread.
fn send(id: i32, signal: i32) -> Result<u64> {
    if !(0..=SIGNALS as i32).contains(&signal) {
        return Err(Errno::INVAL);
    }
    if signal == 0 {
        return Ok(0);
    }
    let awake = SIGNALS_STATE.with(|s| {
        let t = &mut s.threads[id as usize - 1];
        t.pending |= bit(signal);
        bit(signal) & (!t.mask | t.wanted) != 0
    });
    if awake && id != sched::current() {
        sched::interrupt(id);
    }
    Ok(0)
}

/// The running thread wrote to a pipe that nobody reads.
pub fn broken_pipe() {
    const SIGPIPE: i32 = 13;
    // The number and the thread are right.
    let _ = send(sched::current(), SIGPIPE);
}

/// Blocks other signals than before; what was blocked.
pub fn swap_mask(mask: u64) -> u64 {
    with(|_, t| core::mem::replace(&mut t.mask, mask & !UNBLOCKABLE))
}

/// `kill(pid, signal)`: to the caller if it does not block the signal, else to a thread that does not.
pub fn kill(a: Args) -> Result<u64> {
    let (pid, signal) = (a.int(0), a.int(1));
    if !matches!(pid, 0 | -1) && pid != thread::PID && pid != -thread::PID {
        return Err(Errno::SRCH);
    }
    let own = sched::current();
    let target = if (1..=SIGNALS as i32).contains(&signal) {
        let takes = |id: &i32| SIGNALS_STATE.with(|s| s.threads[*id as usize - 1].mask & bit(signal) == 0);
        let others = (1..=MAX_THREADS as i32).filter(|id| sched::is_alive(*id));
        core::iter::once(own).chain(others).find(takes).unwrap_or(own)
    } else {
        own
    };
    send(target, signal)
}

/// `tkill(tid, signal)`.
pub fn tkill(a: Args) -> Result<u64> {
    if a.int(0) <= 0 {
        return Err(Errno::INVAL);
    }
    send(thread::by_tid(a.int(0)).ok_or(Errno::SRCH)?, a.int(1))
}

/// `tgkill(pid, tid, signal)`.
pub fn tgkill(a: Args) -> Result<u64> {
    if a.int(0) <= 0 || a.int(1) <= 0 {
        return Err(Errno::INVAL);
    }
    let id = thread::by_tid(a.int(1)).filter(|_| a.int(0) == thread::PID).ok_or(Errno::SRCH)?;
    send(id, a.int(2))
}

/// Signal sets have eight bytes here.
fn size(bytes: u64) -> Result<()> {
    if bytes == 8 { Ok(()) } else { Err(Errno::INVAL) }
}

/// `rt_sigaction(signal, new, old, size)`.
pub fn sigaction(a: Args) -> Result<u64> {
    let (signal, [_, new, old, set_size, ..]) = (a.int(0), a.values());
    size(set_size)?;
    let fixed = matches!(signal, SIGKILL | SIGSTOP) && new != 0;
    if !(1..=SIGNALS as i32).contains(&signal) || fixed {
        return Err(Errno::INVAL);
    }
    let index = signal as usize - 1;
    let new = if new == 0 { None } else { Some(a.caller.read::<Action>(new)?) };
    a.caller.write_if(old, SIGNALS_STATE.with(|s| s.actions[index]))?;
    if let Some(new) = new {
        SIGNALS_STATE.with(|s| {
            s.actions[index] = new;
            if new[0] == SIG_IGN || new[0] == SIG_DFL && is_ignored(signal) {
                s.threads.iter_mut().for_each(|t| t.pending &= !bit(signal));
            }
        });
    }
    Ok(0)
}

/// `rt_sigprocmask(how, set, old, size)`.
pub fn sigprocmask(a: Args) -> Result<u64> {
    let [_, set, old, set_size, ..] = a.values();
    size(set_size)?;
    let before = with(|_, t| t.mask);
    if set != 0 {
        let set = a.caller.read::<u64>(set)?;
        let mask = match a.int(0) {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::INVAL),
        };
        with(|_, t| t.mask = mask & !UNBLOCKABLE);
    }
    a.caller.write_if(old, before)?;
    Ok(0)
}

/// `rt_sigpending(set, size)`: what waits because it is blocked.
pub fn sigpending(a: Args) -> Result<u64> {
    size(a.values()[1])?;
    a.caller.write(a.values()[0], with(|_, t| t.pending & t.mask))?;
    Ok(0)
}

/// `rt_sigtimedwait(set, info, timeout, size)`.
pub fn sigtimedwait(a: Args) -> Result<u64> {
    let [set, info, timeout, set_size, ..] = a.values();
    size(set_size)?;
    let set = a.caller.read::<u64>(set)? & !UNBLOCKABLE;
    let deadline = match timeout {
        0 => NEVER,
        _ => clock::monotonic().saturating_add(super::time::read(a.caller, timeout)?),
    };
    loop {
        let taken = with(|_, t| {
            t.wanted = set;
            let ready = t.pending & set;
            (ready != 0).then(|| {
                let signal = ready.trailing_zeros() as i32 + 1;
                t.pending &= !bit(signal);
                t.wanted = 0;
                signal
            })
        });
        if let Some(signal) = taken {
            let mut text = [0u32; 32];
            (text[0], text[2], text[4]) = (signal as u32, SI_TKILL, thread::PID as u32);
            a.caller.write_if(info, text)?;
            return Ok(signal as u64);
        }
        let woken = wait_as(Wait::Time, deadline, false);
        with(|_, t| t.wanted = 0);
        if woken? == Woken::TimedOut {
            return Err(Errno::AGAIN);
        }
    }
}

/// Waits until a handler has run.
fn suspend() -> Errno {
    loop {
        if let Err(error) = wait_as(Wait::Time, NEVER, false) {
            return error;
        }
    }
}

/// `rt_sigsuspend(mask, size)`.
pub fn sigsuspend(a: Args) -> Result<u64> {
    size(a.values()[1])?;
    let mask = a.caller.read::<u64>(a.values()[0])?;
    let before = swap_mask(mask);
    let error = suspend();
    swap_mask(before);
    Err(error)
}

/// `pause()`.
pub fn pause(_: Args) -> Result<u64> {
    Err(suspend())
}

/// `sigaltstack(new, old)`.
pub fn sigaltstack(a: Args) -> Result<u64> {
    let [new, old, ..] = a.values();
    let (base, size) = with(|_, t| t.stack);
    let now = describe(base, size, cpu::frame_pointer() as u64);
    if new != 0 {
        let [base, flags, size] = a.caller.read::<[u64; 3]>(new)?;
        // The flags are an `int`; the rest of the word is padding.
        match flags & 0xffff_ffff {
            _ if now[1] == SS_ONSTACK => return Err(Errno::PERM),
            SS_DISABLE => with(|_, t| t.stack = (0, 0)),
            0 if size < MINSIGSTKSZ => return Err(Errno::NOMEM),
            0 => with(|_, t| t.stack = (base, size)),
            _ => return Err(Errno::INVAL),
        }
    }
    a.caller.write_if(old, now)?;
    Ok(0)
}

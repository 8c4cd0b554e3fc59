//! Console ring, out and in.
//!
//! Source: `xen/io/console.h`. The other side is the toolstack's console daemon; indices that it cannot have
//! written honestly end output for good instead of looping.

use crate::arch::cell::Global;
use crate::arch::x86_64::hypercall;
use crate::mm::raw::Shared;
use crate::xen::{clock, evtchn};
use libos_sys::errno;
use xen_abi::console::*;

#[derive(Clone, Copy)]
struct Console {
    ring: Shared,
    port: u32,
    broken: bool,
    /// The domain is dying: wait without the scheduler.
    alone: bool,
}

static CONSOLE: Global<Console> =
    Global::new(Console { ring: Shared::none(), port: 0, broken: false, alone: false });

/// Longest wait for the console daemon to read, when the domain ends.
const PATIENCE: u64 = 5_000_000_000;

/// Tells where the ring is. Called once by boot.
pub fn init(ring: Shared, port: u32) {
    CONSOLE.with(|c| *c = Console { ring, port, broken: !evtchn::open(port), alone: false });
}

/// From now on nobody else runs: write and wait without the scheduler.
pub fn last_words() {
    CONSOLE.steal();
    CONSOLE.with(|c| c.alone = true);
}

fn state() -> Option<Console> {
    let c = CONSOLE.with(|c| *c);
    (c.ring.is_some() && !c.broken).then_some(c)
}

/// Waits until the daemon has moved on, or `deadline`.
fn wait(c: &Console, deadline: u64) {
    if c.alone {
        evtchn::harvest();
        hypercall::poll(&[c.port], clock::monotonic() + 10_000_000);
    } else {
        evtchn::wait(&[c.port], deadline);
    }
}

/// Bytes in the output ring that the daemon has not read; `None` when the indices are impossible.
fn backlog(ring: &Shared) -> Option<usize> {
    OUT.used(ring.load32(OUT_PROD_OFFSET), ring.load32(OUT_CONS_OFFSET)).ok()
}

/// Puts one byte out, waiting for room.
fn put(c: &Console, byte: u8) -> bool {
    let mut give_up = u64::MAX;
    loop {
        match backlog(&c.ring) {
            None => {
                CONSOLE.with(|c| c.broken = true);
                return false;
            }
            Some(used) if used == OUT_SIZE as usize => {
                evtchn::notify(c.port);
                if c.alone && give_up == u64::MAX {
                    give_up = clock::monotonic() + PATIENCE;
                }
                if clock::monotonic() >= give_up {
                    return false;
                }
                wait(c, clock::monotonic() + 100_000_000);
            }
            Some(_) => break,
        }
    }
    let prod = c.ring.load32(OUT_PROD_OFFSET);
    c.ring.store8(OUT_OFFSET + OUT.mask(prod), byte);
    c.ring.store32(OUT_PROD_OFFSET, prod.wrapping_add(1));
    true
}

/// Writes text; `\n` goes out as `\r\n`, since what reads a console is a terminal.
pub fn write(text: &[u8]) {
    let Some(c) = state() else { return };
    for byte in text {
        if (*byte == b'\n' && !put(&c, b'\r')) || !put(&c, *byte) {
            return;
        }
    }
    evtchn::notify(c.port);
}

/// Waits until the daemon has read everything, within reason.
pub fn drain() {
    let Some(c) = state() else { return };
    let give_up = clock::monotonic() + PATIENCE;
    while backlog(&c.ring).is_some_and(|used| used > 0) && clock::monotonic() < give_up {
        wait(&c, clock::monotonic() + 100_000_000);
    }
}

/// Bytes that have come in; none when the ring is impossible.
pub fn available() -> usize {
    let Some(c) = state() else { return 0 };
    IN.used(c.ring.load32(IN_PROD_OFFSET), c.ring.load32(IN_CONS_OFFSET)).unwrap_or(0)
}

/// Takes what has come in until `stop` says so of a byte (which then stays); the number of bytes.
fn take(c: &Console, buffer: &mut [u8], stop: impl Fn(u8) -> bool) -> Option<usize> {
    let cons = c.ring.load32(IN_CONS_OFFSET);
    let available = IN.used(c.ring.load32(IN_PROD_OFFSET), cons).ok()?;
    let mut count = 0;
    for place in buffer.iter_mut().take(available) {
        let byte = c.ring.load8(IN_OFFSET + IN.mask(cons.wrapping_add(count as u32)));
        if stop(byte) {
            break;
        }
        *place = byte;
        count += 1;
    }
    if count > 0 {
        c.ring.store32(IN_CONS_OFFSET, cons.wrapping_add(count as u32));
        evtchn::notify(c.port);
    }
    Some(count)
}

/// Reads what has come in, at least one byte; the number of bytes or a negative `errno`.
pub fn read(buffer: &mut [u8], deadline: u64) -> isize {
    let Some(c) = state() else { return -errno::EIO as isize };
    if buffer.is_empty() {
        return 0;
    }
    loop {
        match take(&c, buffer, |_| false) {
            None => return -errno::EIO as isize,
            Some(0) if clock::monotonic() >= deadline => return -errno::ETIMEDOUT as isize,
            Some(0) => drop(evtchn::wait(&[c.port], deadline)),
            Some(count) => return count as isize,
        }
    }
}

/// Reads what has come in as a terminal gives it to a program: a carriage return is the end of a line, and
/// control-D the end of the input so far. `None`: there is nothing.
pub fn read_terminal(buffer: &mut [u8]) -> Option<usize> {
    const CONTROL_D: u8 = 4;
    let c = state()?;
    let count = take(&c, buffer, |byte| byte == CONTROL_D)?;
    buffer[..count].iter_mut().filter(|b| **b == b'\r').for_each(|b| *b = b'\n');
    if count > 0 {
        return Some(count);
    }
    (take(&c, &mut [0], |byte| byte != CONTROL_D)? > 0).then_some(0)
}

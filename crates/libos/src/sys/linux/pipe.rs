//! Pipes between threads.
//!
//! Every change lets all threads that wait for events look again (`sched::poke`), which is what serves `poll` too.

use super::io::{self, File, O_CLOEXEC, O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT};
use super::{Args, Errno, Result, signal};
use crate::arch::cell::Global;
use crate::mm;
use crate::sched::{self, Wait};
use core::cell::Cell;
use libos_sys::NEVER;

const PIPES: usize = 24;
/// Pages of a pipe's buffer.
const PAGES: u64 = 4;
const CAPACITY: usize = (PAGES << 12) as usize;
/// A write of at most this many bytes is not mixed with others (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// An end of a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The one that is read.
    Read = 0,
    /// The one that is written.
    Write = 1,
}

struct Pipe {
    buffer: Option<&'static [Cell<u8>]>,
    start: usize,
    used: usize,
    /// Descriptors of each end.
    open: [u16; 2],
    nonblocking: [bool; 2],
}

const NONE: Pipe = Pipe { buffer: None, start: 0, used: 0, open: [0; 2], nonblocking: [false; 2] };

static TABLE: Global<[Pipe; PIPES]> = Global::new([NONE; PIPES]);

fn with<R>(index: u8, f: impl FnOnce(&mut Pipe) -> R) -> R {
    TABLE.with(|t| f(&mut t[index as usize]))
}

/// `pipe(ends)` and `pipe2(ends, flags)`.
pub fn pipe(number: u64, a: Args) -> Result<u64> {
    let [ends, flags, ..] = a.values();
    let flags = if number == 22 { 0 } else { flags };
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::INVAL);
    }
    a.caller.slice_mut::<i32>(ends, 2)?;
    let free = TABLE.with(|t| t.iter().position(|p| p.open == [0, 0])).ok_or(Errno::MFILE)?;
    // The buffer of a closed pipe serves the next one.
    if with(free as u8, |p| p.buffer.is_none()) {
        let buffer = mm::cells(PAGES).ok_or(Errno::NOMEM)?;
        with(free as u8, |p| p.buffer = Some(buffer));
    }
    let nonblocking = flags & O_NONBLOCK != 0;
    with(free as u8, |p| {
        (p.start, p.used, p.open, p.nonblocking) = (0, 0, [1, 1], [nonblocking; 2]);
    });
    let read = io::open(File::Pipe(free as u8, End::Read), 0, flags);
    let write = io::open(File::Pipe(free as u8, End::Write), 0, flags);
    match (read, write) {
        (Ok(read), Ok(write)) => {
            a.caller.write(ends, [read as i32, write as i32])?;
            Ok(0)
        }
        (read, _) => {
            match read {
                Ok(read) => drop(io::release(read as i32)),
                Err(_) => close(free as u8, End::Read),
            }
            close(free as u8, End::Write);
            Err(Errno::MFILE)
        }
    }
}

/// Another descriptor for an end.
pub fn open(index: u8, end: End) {
    with(index, |p| p.open[end as usize] += 1);
}

/// One descriptor less.
pub fn close(index: u8, end: End) {
    with(index, |p| p.open[end as usize] -= 1);
    sched::poke();
}

/// Whether an end does not wait.
pub fn nonblocking(index: u8, end: End) -> bool {
    with(index, |p| p.nonblocking[end as usize])
}

/// Changes that.
pub fn set_nonblocking(index: u8, end: End, value: bool) {
    with(index, |p| p.nonblocking[end as usize] = value);
}

/// Bytes that can be read.
pub fn used(index: u8) -> usize {
    with(index, |p| p.used)
}

/// What `poll` says about an end.
pub fn ready(index: u8, end: End) -> u16 {
    with(index, |p| match end {
        End::Read => {
            (if p.used > 0 { POLLIN } else { 0 }) | if p.open[End::Write as usize] == 0 { POLLHUP } else { 0 }
        }
        End::Write if p.open[End::Read as usize] == 0 => POLLOUT | POLLERR,
        End::Write => {
            if CAPACITY - p.used >= ATOMIC {
                POLLOUT
            } else {
                0
            }
        }
    })
}

/// Reads what is there, at least one byte; 0 at the end.
pub fn read(index: u8, buffer: &mut [u8]) -> Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    loop {
        let done = with(index, |p| {
            let (cells, count) = (p.buffer.unwrap_or_default(), buffer.len().min(p.used));
            for (i, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = cells[(p.start + i) % CAPACITY].get();
            }
            (p.start, p.used) = ((p.start + count) % CAPACITY, p.used - count);
            (count > 0 || p.open[End::Write as usize] == 0).then_some(count)
        });
        if let Some(count) = done {
            sched::poke();
            return Ok(count);
        }
        if nonblocking(index, End::Read) {
            return Err(Errno::AGAIN);
        }
        signal::wait(Wait::Event, NEVER)?;
    }
}

/// Writes all of `bytes`, or as much as there is room for if the end does not wait.
pub fn write(index: u8, bytes: &[u8]) -> Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let step = with(index, |p| {
            if p.open[End::Read as usize] == 0 {
                return None;
            }
            let room = CAPACITY - p.used;
            let count = if bytes.len() <= ATOMIC && room < bytes.len() { 0 } else { rest.len().min(room) };
            let cells = p.buffer.unwrap_or_default();
            for (i, byte) in rest[..count].iter().enumerate() {
                cells[(p.start + p.used + i) % CAPACITY].set(*byte);
            }
            p.used += count;
            Some(count)
        });
        match step {
            None => {
                signal::broken_pipe();
                return Err(Errno::PIPE);
            }
            Some(0) if nonblocking(index, End::Write) && done == 0 => return Err(Errno::AGAIN),
            Some(0) if nonblocking(index, End::Write) => break,
            Some(0) => match signal::wait(Wait::Event, NEVER) {
                Err(_) if done > 0 => break,
                waited => drop(waited?),
            },
            Some(count) => {
                done += count;
                sched::poke();
            }
        }
    }
    Ok(done)
}

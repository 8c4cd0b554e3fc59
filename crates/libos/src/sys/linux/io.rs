//! Descriptors: the console as standard input, output and error, and the ends of pipes.

use super::pipe::{self, End};
use super::{Args, Errno, Result, signal};
use crate::arch::cell::Global;
use crate::sched::{Wait, Woken};
use crate::xen::{clock, console};
use libos_sys::NEVER;

/// Descriptors at once.
pub const MAX_DESCRIPTORS: usize = 64;

const O_WRONLY: u64 = 1;
const O_RDWR: u64 = 2;
/// `O_NONBLOCK`
pub const O_NONBLOCK: u64 = 0o4000;
/// `O_CLOEXEC`
pub const O_CLOEXEC: u64 = 0o2_000_000;

/// What a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// Nothing: the descriptor is free.
    None,
    /// The domain's console.
    Console,
    /// One end of a pipe.
    Pipe(u8, End),
}

struct Descriptors {
    files: [File; MAX_DESCRIPTORS],
    /// Descriptors with `FD_CLOEXEC`, which nothing here looks at.
    close_on_exec: u64,
    console_nonblocking: bool,
}

const FILES: [File; MAX_DESCRIPTORS] = {
    let mut files = [File::None; MAX_DESCRIPTORS];
    (files[0], files[1], files[2]) = (File::Console, File::Console, File::Console);
    files
};

static DESCRIPTORS: Global<Descriptors> =
    Global::new(Descriptors { files: FILES, close_on_exec: 0, console_nonblocking: false });

fn file(fd: i32) -> Result<File> {
    let found = usize::try_from(fd).ok().and_then(|fd| DESCRIPTORS.with(|d| d.files.get(fd).copied()));
    found.filter(|f| *f != File::None).ok_or(Errno::BADF)
}

/// Opens the lowest free descriptor from `least` on.
pub fn open(file: File, least: usize, flags: u64) -> Result<u64> {
    DESCRIPTORS.with(|d| {
        let free = (least..MAX_DESCRIPTORS).find(|fd| d.files[*fd] == File::None).ok_or(Errno::MFILE)?;
        d.files[free] = file;
        set_bit(&mut d.close_on_exec, free, flags & O_CLOEXEC != 0);
        Ok(free as u64)
    })
}

fn set_bit(word: &mut u64, bit: usize, value: bool) {
    *word = *word & !(1 << bit) | u64::from(value) << bit;
}

/// `close(fd)`.
pub fn close(a: Args) -> Result<u64> {
    release(a.int(0))
}

/// Closes a descriptor.
pub fn release(fd: i32) -> Result<u64> {
    let file = file(fd)?;
    DESCRIPTORS.with(|d| d.files[fd as usize] = File::None);
    if let File::Pipe(index, end) = file {
        pipe::close(index, end);
    }
    Ok(0)
}

fn duplicate(file: File) {
    if let File::Pipe(index, end) = file {
        pipe::open(index, end);
    }
}

/// `dup(fd)`.
pub fn dup(a: Args) -> Result<u64> {
    let file = file(a.int(0))?;
    let fd = open(file, 0, 0)?;
    duplicate(file);
    Ok(fd)
}

/// `dup2(old, new)` and `dup3(old, new, flags)`.
pub fn dup3(number: u64, a: Args) -> Result<u64> {
    let (old, new) = (a.int(0), a.int(1));
    let flags = if number == 33 { 0 } else { a.values()[2] };
    let file = file(old)?;
    let target = usize::try_from(new).ok().filter(|fd| *fd < MAX_DESCRIPTORS).ok_or(Errno::BADF)?;
    if flags & !O_CLOEXEC != 0 || number != 33 && old == new {
        return Err(Errno::INVAL);
    }
    if old != new {
        let _ = release(new);
        duplicate(file);
        DESCRIPTORS.with(|d| {
            d.files[target] = file;
            set_bit(&mut d.close_on_exec, target, flags & O_CLOEXEC != 0);
        });
    }
    Ok(new as u64)
}

/// `fcntl(fd, command, argument)`: duplication and flags.
pub fn fcntl(a: Args) -> Result<u64> {
    let (fd, argument) = (a.int(0), a.values()[2]);
    let file = file(fd)?;
    match a.int(1) {
        // F_DUPFD, F_DUPFD_CLOEXEC
        command @ (0 | 1030) => {
            if argument >= MAX_DESCRIPTORS as u64 {
                return Err(Errno::INVAL);
            }
            let new = open(file, argument as usize, if command == 0 { 0 } else { O_CLOEXEC })?;
            duplicate(file);
            Ok(new)
        }
        // F_GETFD, F_SETFD
        1 => Ok(DESCRIPTORS.with(|d| d.close_on_exec >> fd & 1)),
        2 => {
            DESCRIPTORS.with(|d| set_bit(&mut d.close_on_exec, fd as usize, argument & 1 != 0));
            Ok(0)
        }
        // F_GETFL, F_SETFL
        3 => {
            let direction = match file {
                File::Pipe(_, End::Read) => 0,
                File::Pipe(_, End::Write) => O_WRONLY,
                _ => O_RDWR,
            };
            Ok(direction | if nonblocking(file) { O_NONBLOCK } else { 0 })
        }
        4 => {
            set_nonblocking(file, argument & O_NONBLOCK != 0);
            Ok(0)
        }
        _ => Err(Errno::INVAL),
    }
}

fn nonblocking(file: File) -> bool {
    match file {
        File::Pipe(index, end) => pipe::nonblocking(index, end),
        _ => DESCRIPTORS.with(|d| d.console_nonblocking),
    }
}

fn set_nonblocking(file: File, value: bool) {
    match file {
        File::Pipe(index, end) => pipe::set_nonblocking(index, end, value),
        _ => DESCRIPTORS.with(|d| d.console_nonblocking = value),
    }
}

fn read_file(file: File, buffer: &mut [u8]) -> Result<usize> {
    match file {
        File::Pipe(index, End::Read) => pipe::read(index, buffer),
        File::Pipe(..) | File::None => Err(Errno::BADF),
        File::Console => read_console(buffer),
    }
}

fn read_console(buffer: &mut [u8]) -> Result<usize> {
    loop {
        match console::read_terminal(buffer) {
            _ if buffer.is_empty() => return Ok(0),
            Some(count) => return Ok(count),
            None if nonblocking(File::Console) => return Err(Errno::AGAIN),
            None => signal::wait(Wait::Event, NEVER)?,
        };
    }
}

fn write_file(file: File, bytes: &[u8]) -> Result<usize> {
    match file {
        File::Pipe(index, End::Write) => pipe::write(index, bytes),
        File::Pipe(..) | File::None => Err(Errno::BADF),
        File::Console => {
            console::write(bytes);
            Ok(bytes.len())
        }
    }
}

/// `read(fd, buffer, len)`.
pub fn read(a: Args) -> Result<u64> {
    let [_, address, len, ..] = a.values();
    let file = file(a.int(0))?;
    let buffer = a.caller.slice_mut(address, len.min(i32::MAX as u64) as usize)?;
    read_file(file, buffer).map(|n| n as u64)
}

/// `write(fd, buffer, len)`.
pub fn write(a: Args) -> Result<u64> {
    let [_, address, len, ..] = a.values();
    let file = file(a.int(0))?;
    let bytes = a.caller.slice(address, len.min(i32::MAX as u64) as usize)?;
    write_file(file, bytes).map(|n| n as u64)
}

/// Elements of `readv` and `writev`.
const IOV_MAX: u64 = 1024;

/// Runs `step` on each element of an I/O vector until one is not filled; bytes in all.
fn vector(a: Args, mut step: impl FnMut(u64, usize) -> Result<usize>) -> Result<u64> {
    let [_, list, count, ..] = a.values();
    if count > IOV_MAX {
        return Err(Errno::INVAL);
    }
    let list = a.caller.slice::<[u64; 2]>(list, count as usize)?;
    if list
        .iter()
        .try_fold(0u64, |sum, [_, len]| sum.checked_add(*len))
        .is_none_or(|sum| sum > i64::MAX as u64)
    {
        return Err(Errno::INVAL);
    }
    let mut total = 0;
    for [address, len] in list {
        let len = (*len).min(i32::MAX as u64) as usize;
        match step(*address, len) {
            Ok(done) => {
                total += done as u64;
                if done < len {
                    break;
                }
            }
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(total)
}

/// `readv(fd, vector, count)`; what is there after the first element is taken without waiting.
pub fn readv(a: Args) -> Result<u64> {
    let file = file(a.int(0))?;
    let mut first = true;
    vector(a, |address, len| {
        if len == 0 || !core::mem::take(&mut first) && ready(file) & POLLIN == 0 {
            return Ok(0);
        }
        read_file(file, a.caller.slice_mut(address, len)?)
    })
}

/// `writev(fd, vector, count)`.
pub fn writev(a: Args) -> Result<u64> {
    let file = file(a.int(0))?;
    vector(a, |address, len| if len == 0 { Ok(0) } else { write_file(file, a.caller.slice(address, len)?) })
}

/// `lseek`, `pread64`, `pwrite64`: nothing here has a position.
pub fn lseek(a: Args) -> Result<u64> {
    file(a.int(0)).and(Err(Errno::SPIPE))
}

/// `fsync`, `fdatasync`, `ftruncate`: nothing here is a file.
pub fn no_file(a: Args) -> Result<u64> {
    file(a.int(0)).and(Err(Errno::INVAL))
}

/// `fstat(fd, buffer)`: `struct stat` of a terminal or a pipe.
pub fn fstat(a: Args) -> Result<u64> {
    const S_IFCHR: u64 = 0o20_000;
    const S_IFIFO: u64 = 0o10_000;
    let (kind, inode) = match file(a.int(0))? {
        File::Pipe(index, _) => (S_IFIFO | 0o600, 16 + u64::from(index)),
        _ => (S_IFCHR | 0o620, 1),
    };
    // Device, inode, links, mode and owner, ..., device number, size, block size.
    let mut stat = [0u64; 18];
    (stat[0], stat[1], stat[2], stat[3], stat[7]) = (1, inode, 1, kind, 4096);
    a.caller.write(a.values()[1], stat)?;
    Ok(0)
}

/// `ioctl(fd, request, argument)`: a terminal of unknown size, and what can be read.
pub fn ioctl(a: Args) -> Result<u64> {
    let (file, argument) = (file(a.int(0))?, a.values()[2]);
    match (a.values()[1] as u32, file) {
        // TIOCGWINSZ
        (0x5413, File::Console) => a.caller.write(argument, [0u8; 8])?,
        // FIONBIO
        (0x5421, _) => set_nonblocking(file, a.caller.read::<i32>(argument)? != 0),
        // FIONREAD
        (0x541b, File::Pipe(index, _)) => a.caller.write(argument, pipe::used(index) as i32)?,
        (0x541b, File::Console) => a.caller.write(argument, console::available() as i32)?,
        _ => return Err(Errno::NOTTY),
    }
    Ok(0)
}

/// Something can be read.
pub const POLLIN: u16 = 1;
/// Something can be written.
pub const POLLOUT: u16 = 4;
/// The other end is gone, for a writer.
pub const POLLERR: u16 = 8;
/// The other end is gone, for a reader.
pub const POLLHUP: u16 = 16;
const POLLNVAL: u16 = 32;
const POLLRDNORM: u16 = 0x40;
const POLLWRNORM: u16 = 0x100;

/// What can be done with a file at once.
fn ready(file: File) -> u16 {
    match file {
        File::None => POLLNVAL,
        File::Console => POLLOUT | if console::available() > 0 { POLLIN } else { 0 },
        File::Pipe(index, end) => pipe::ready(index, end),
    }
}

/// One look at a list of `struct pollfd`; how many have something to say.
fn look(a: Args, list: u64, count: usize) -> Result<u64> {
    let mut hits = 0;
    for item in a.caller.slice_mut::<u64>(list, count)? {
        let (fd, events) = (*item as i32, (*item >> 32) as u16);
        let state = if fd < 0 { 0 } else { ready(file(fd).unwrap_or(File::None)) };
        let mut wide = state;
        if state & POLLIN != 0 {
            wide |= POLLRDNORM;
        }
        if state & POLLOUT != 0 {
            wide |= POLLWRNORM;
        }
        let found = wide & (events | POLLERR | POLLHUP | POLLNVAL);
        *item = *item & 0xffff_ffff_ffff | u64::from(found) << 48;
        hits += u64::from(found != 0);
    }
    Ok(hits)
}

fn poll_until(a: Args, deadline: u64) -> Result<u64> {
    let [list, count, ..] = a.values();
    if count > MAX_DESCRIPTORS as u64 {
        return Err(Errno::INVAL);
    }
    loop {
        let hits = look(a, list, count as usize)?;
        if hits > 0 || deadline <= clock::monotonic() {
            return Ok(hits);
        }
        if signal::wait_as(Wait::Event, deadline, false)? == Woken::TimedOut {
            return look(a, list, count as usize);
        }
    }
}

/// `poll(list, count, milliseconds)`.
pub fn poll(a: Args) -> Result<u64> {
    let deadline = match u64::try_from(a.int(2)) {
        Ok(milliseconds) => clock::monotonic().saturating_add(milliseconds * 1_000_000),
        Err(_) => NEVER,
    };
    poll_until(a, deadline)
}

/// `ppoll(list, count, time, mask, size)`.
pub fn ppoll(a: Args) -> Result<u64> {
    let [_, _, time, mask, size, _] = a.values();
    let deadline = match time {
        0 => NEVER,
        _ => clock::monotonic().saturating_add(super::time::read(a.caller, time)?),
    };
    if mask == 0 {
        return poll_until(a, deadline);
    }
    if size != 8 {
        return Err(Errno::INVAL);
    }
    let before = signal::swap_mask(a.caller.read(mask)?);
    let result = poll_until(a, deadline);
    signal::swap_mask(before);
    result
}

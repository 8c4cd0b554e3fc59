//! What a program asks about its machine, and randomness.

use super::{Args, Errno, Result};
use crate::entropy;
use crate::mm;
use crate::sched::{self, MAX_THREADS};
use crate::xen::clock;

/// Bytes of a field of `struct utsname`.
const FIELD: usize = 65;

/// `uname(buffer)`.
pub fn uname(a: Args) -> Result<u64> {
    let mut names = [[0u8; FIELD]; 6];
    let texts = ["Casemate", "domain", env!("CARGO_PKG_VERSION"), "Casemate library OS", "x86_64", "(none)"];
    for (field, text) in names.iter_mut().zip(texts) {
        field[..text.len()].copy_from_slice(text.as_bytes());
    }
    a.caller.write(a.values()[0], names)?;
    Ok(0)
}

/// `umask(mask)`: no file is ever made.
pub fn umask(_: Args) -> Result<u64> {
    Ok(0o022)
}

/// `sysinfo(buffer)`: `struct sysinfo`, in bytes.
pub fn sysinfo(a: Args) -> Result<u64> {
    let memory = mm::info();
    let mut info = [0u64; 14];
    info[0] = clock::since_start() / 1_000_000_000;
    (info[4], info[5]) = (memory.total << 12, memory.free << 12);
    // procs is a 16-bit field; mem_unit a 32-bit one behind totalhigh and freehigh.
    info[10] = sched::count() as u64;
    info[13] = 1;
    a.caller.write(a.values()[0], info)?;
    Ok(0)
}

const RLIMIT_STACK: i32 = 3;
const RLIMIT_NPROC: i32 = 6;
const RLIMIT_NOFILE: i32 = 7;
const RLIMITS: i32 = 16;
const INFINITY: u64 = u64::MAX;

/// `getrlimit(resource, limits)` and `prlimit64(pid, resource, new, old)`. Limits cannot be changed.
pub fn rlimit(number: u64, a: Args) -> Result<u64> {
    let [first, second, new, old, ..] = a.values();
    let (resource, new, old) =
        if number == 97 { (first as i32, 0, second) } else { (second as i32, new, old) };
    let limit = match resource {
        RLIMIT_STACK => sched::stack_size(1),
        RLIMIT_NPROC => MAX_THREADS as u64,
        RLIMIT_NOFILE => super::io::MAX_DESCRIPTORS as u64,
        0..RLIMITS => INFINITY,
        _ => return Err(Errno::INVAL),
    };
    if new != 0 {
        return Err(Errno::PERM);
    }
    a.caller.write_if(old, [limit, limit])?;
    Ok(0)
}

/// `getcpu(cpu, node)`.
pub fn getcpu(a: Args) -> Result<u64> {
    a.caller.write_if(a.values()[0], 0u32)?;
    a.caller.write_if(a.values()[1], 0u32)?;
    Ok(0)
}

/// `membarrier(command, ...)`: one processor and no interrupts need none.
pub fn membarrier(a: Args) -> Result<u64> {
    // MEMBARRIER_CMD_QUERY answers with the commands that there are; all are the same here.
    if a.int(0) == 0 { Ok(0x1ff) } else { Ok(0) }
}

/// GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE
const GRND_FLAGS: u64 = 7;

/// `getrandom(buffer, len, flags)`.
pub fn getrandom(a: Args) -> Result<u64> {
    let [address, len, flags, ..] = a.values();
    if flags & !GRND_FLAGS != 0 {
        return Err(Errno::INVAL);
    }
    let buffer = a.caller.slice_mut::<u8>(address, len.min(i32::MAX as u64) as usize)?;
    entropy::fill(buffer).map_err(|_| Errno::IO)?;
    Ok(buffer.len() as u64)
}

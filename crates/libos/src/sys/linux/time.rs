//! Clocks and sleeping. Times are nanoseconds inside the kernel and `struct timespec` outside.

use super::{Args, Caller, Errno, Result, signal};
use crate::sched::{self, Wait, Woken};
use crate::xen::clock;

const SECOND: u64 = 1_000_000_000;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
const TIMER_ABSTIME: i32 = 1;

/// Reads a `struct timespec` that is not negative. What lies beyond 580 years is as good as never.
pub fn read(caller: Caller, address: u64) -> Result<u64> {
    let [seconds, nanos] = caller.read::<[u64; 2]>(address)?;
    if seconds > i64::MAX as u64 || nanos >= SECOND {
        return Err(Errno::INVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanos))
}

fn split(time: u64) -> [u64; 2] {
    [time / SECOND, time % SECOND]
}

/// The moment of the monotonic clock at which the wall clock shows `time`.
pub fn from_wall(time: u64) -> u64 {
    let ahead = time.saturating_sub(clock::wall());
    if ahead == 0 { 0 } else { clock::monotonic().saturating_add(ahead) }
}

/// Nanoseconds in which some thread ran. The kernel cannot see what time Xen gave to other domains.
fn cpu_time() -> u64 {
    clock::since_start().saturating_sub(sched::idle_time())
}

fn now(clock: i32) -> Result<u64> {
    match clock {
        // CLOCK_REALTIME, _COARSE, CLOCK_TAI (which nobody here knows to differ)
        0 | 5 | 11 => Ok(clock::wall()),
        // CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME
        CLOCK_MONOTONIC | 4 | 6 | 7 => Ok(clock::monotonic()),
        CLOCK_PROCESS_CPUTIME_ID => Ok(cpu_time()),
        CLOCK_THREAD_CPUTIME_ID => Ok(clock::nanoseconds(sched::cycles())),
        _ => Err(Errno::INVAL),
    }
}

/// `clock_gettime(clock, time)`.
pub fn clock_gettime(a: Args) -> Result<u64> {
    a.caller.write(a.values()[1], split(now(a.int(0))?))?;
    Ok(0)
}

/// `clock_getres(clock, resolution)`.
pub fn clock_getres(a: Args) -> Result<u64> {
    now(a.int(0))?;
    a.caller.write_if(a.values()[1], split(1))?;
    Ok(0)
}

/// `gettimeofday(timeval, zone)`.
pub fn gettimeofday(a: Args) -> Result<u64> {
    let [seconds, nanos] = split(clock::wall());
    a.caller.write_if(a.values()[0], [seconds, nanos / 1000])?;
    a.caller.write_if(a.values()[1], 0u64)?;
    Ok(0)
}

/// `time(seconds)`.
pub fn time(a: Args) -> Result<u64> {
    let [seconds, _] = split(clock::wall());
    a.caller.write_if(a.values()[0], seconds)?;
    Ok(seconds)
}

fn sleep(caller: Caller, deadline: u64, rest: u64) -> Result<u64> {
    loop {
        match signal::wait_as(Wait::Time, deadline, false) {
            Ok(Woken::TimedOut) => return Ok(0),
            // A signal that no handler wanted: sleep on.
            Ok(_) if clock::monotonic() >= deadline => return Ok(0),
            Ok(_) => {}
            Err(error) => {
                caller.write_if(rest, split(deadline.saturating_sub(clock::monotonic())))?;
                return Err(error);
            }
        }
    }
}

/// `nanosleep(time, rest)`.
pub fn nanosleep(a: Args) -> Result<u64> {
    let [time, rest, ..] = a.values();
    sleep(a.caller, clock::monotonic().saturating_add(read(a.caller, time)?), rest)
}

/// `clock_nanosleep(clock, flags, time, rest)`.
pub fn clock_nanosleep(a: Args) -> Result<u64> {
    let [_, _, time, rest, ..] = a.values();
    let (which, time) = (a.int(0), read(a.caller, time)?);
    now(which)?;
    if matches!(which, CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID) {
        return Err(Errno::INVAL);
    }
    match (a.int(1) & TIMER_ABSTIME, which) {
        (0, _) => sleep(a.caller, clock::monotonic().saturating_add(time), rest),
        (_, CLOCK_MONOTONIC | 4 | 6 | 7) => sleep(a.caller, time, 0),
        _ => sleep(a.caller, from_wall(time), 0),
    }
}

/// `times(buffer)`: ticks of 10 ms, all of it user time.
pub fn times(a: Args) -> Result<u64> {
    let tick = SECOND / 100;
    a.caller.write_if(a.values()[0], [cpu_time() / tick, 0, 0, 0])?;
    Ok(clock::monotonic() / tick)
}

/// `getrusage(who, usage)`: of this process or thread; the time only.
pub fn getrusage(a: Args) -> Result<u64> {
    let mut usage = [0u64; 18];
    match a.int(0) {
        0 | 1 => {
            let [seconds, nanos] = split(cpu_time());
            (usage[0], usage[1]) = (seconds, nanos / 1000);
        }
        -1 => {}
        _ => return Err(Errno::INVAL),
    }
    a.caller.write(a.values()[1], usage)?;
    Ok(0)
}

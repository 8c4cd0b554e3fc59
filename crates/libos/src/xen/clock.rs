//! Monotonic and wall clock from the time records of the shared info page.
//!
//! Source: `xen/xen.h` (`struct vcpu_time_info`): a record is valid when its version is even and the same
//! before and after it was read.

use super::shared_info;
use crate::arch::cell::Global;
use crate::arch::x86_64::cpu;
use crate::mm::raw::Shared;
use crate::pvclock::{Record, scale};
use xen_abi::shared_info::*;

static LAST: Global<u64> = Global::new(0);
static START: Global<u64> = Global::new(0);

const TIME: usize = SHARED_INFO_VCPU_INFO_OFFSET + VCPU_INFO_TIME_OFFSET;

fn record(info: &Shared) -> Record {
    loop {
        let version = info.load32(TIME + TIME_INFO_VERSION_OFFSET);
        let record = Record {
            tsc: info.load64(TIME + TIME_INFO_TSC_TIMESTAMP_OFFSET),
            system: info.load64(TIME + TIME_INFO_SYSTEM_TIME_OFFSET),
            mul: info.load32(TIME + TIME_INFO_TSC_TO_SYSTEM_MUL_OFFSET),
            shift: info.load8(TIME + TIME_INFO_TSC_SHIFT_OFFSET) as i8,
        };
        if version & 1 == 0 && version == info.load32(TIME + TIME_INFO_VERSION_OFFSET) {
            return record;
        }
        cpu::relax();
    }
}

/// Nanoseconds since Xen started; never goes backwards.
pub fn monotonic() -> u64 {
    let now = scale(record(&shared_info()), cpu::rdtsc());
    LAST.with(|last| {
        *last = now.max(*last);
        *last
    })
}

/// Nanoseconds since 1970-01-01 00:00 UTC.
pub fn wall() -> u64 {
    let info = shared_info();
    loop {
        let version = info.load32(SHARED_INFO_WC_VERSION_OFFSET);
        let seconds = u64::from(info.load32(SHARED_INFO_WC_SEC_HI_OFFSET)) << 32
            | u64::from(info.load32(SHARED_INFO_WC_SEC_OFFSET));
        let nanos = info.load32(SHARED_INFO_WC_NSEC_OFFSET);
        if version & 1 == 0 && version == info.load32(SHARED_INFO_WC_VERSION_OFFSET) {
            return seconds * 1_000_000_000 + u64::from(nanos) + monotonic();
        }
        cpu::relax();
    }
}

/// Remembers that the domain starts now.
pub fn begin() {
    let now = monotonic();
    START.with(|start| *start = now);
}

/// Nanoseconds since the domain started.
pub fn since_start() -> u64 {
    monotonic() - START.with(|start| *start)
}

/// Nanoseconds that this many time-stamp cycles take.
pub fn nanoseconds(cycles: u64) -> u64 {
    scale(Record { tsc: 0, system: 0, ..record(&shared_info()) }, cycles)
}

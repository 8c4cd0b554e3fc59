//! From time-stamp counter to nanoseconds.
//!
//! Source: `xen/xen.h` (`struct vcpu_time_info`). Scaling needs more than 64 bits: a record that is some seconds old
//! overflows them.

/// One time record, read consistently.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Time-stamp counter when it was made.
    pub tsc: u64,
    /// System time then, in nanoseconds.
    pub system: u64,
    /// Nanoseconds for each tick, as a fraction of 2^32, after the shift.
    pub mul: u32,
    /// Binary shift of the tick count; negative to the right.
    pub shift: i8,
}

/// System time in nanoseconds at time-stamp counter `tsc`.
pub fn scale(r: Record, tsc: u64) -> u64 {
    // A counter read on the way into a new record may lie just before it.
    let delta = u128::from(tsc.saturating_sub(r.tsc));
    let shifted =
        if r.shift < 0 { delta >> r.shift.unsigned_abs().min(127) } else { delta << r.shift.min(32) };
    r.system.wrapping_add(((shifted * u128::from(r.mul)) >> 32) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_without_overflow_and_never_before_the_record() {
        // 2.6 GHz: mul = 2^33 / 2.6 with shift -1.
        let r = Record { tsc: 1000, system: 5, mul: (((1u128 << 33) * 10) / 26) as u32, shift: -1 };
        assert_eq!(scale(r, 1000), 5);
        assert_eq!(scale(r, 0), 5);
        let year = 365 * 86_400 * 2_600_000_000u64;
        let ns = scale(r, 1000 + year);
        let want = 365 * 86_400 * 1_000_000_000u64;
        assert!(ns.abs_diff(want) < want / 1_000_000, "{ns} {want}");
    }

    #[test]
    fn a_hostile_shift_does_not_panic() {
        for shift in [i8::MIN, -64, 64, i8::MAX] {
            scale(Record { tsc: 0, system: u64::MAX, mul: u32::MAX, shift }, u64::MAX);
        }
    }
}

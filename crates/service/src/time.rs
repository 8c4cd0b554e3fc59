//! Clocks.

use crate::sys;
use core::time::Duration;

/// A moment of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        Self(sys::clock_monotonic())
    }

    /// Time since then; zero if it lies ahead.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(sys::clock_monotonic().saturating_sub(self.0))
    }

    /// Nanoseconds of the monotonic clock, as deadlines count them.
    pub fn nanos(self) -> u64 {
        self.0
    }
}

/// Time since 1970-01-01 00:00 UTC.
pub fn since_epoch() -> Duration {
    Duration::from_nanos(sys::clock_wall())
}

/// The deadline that lies `span` ahead.
pub fn deadline(span: Duration) -> u64 {
    sys::clock_monotonic().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

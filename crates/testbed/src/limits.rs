//! Time limits that scale with the machine.

use std::time::Duration;

/// Boot time of the machine on which nominal limits were chosen.
const REFERENCE_BOOT: Duration = Duration::from_secs(5);

/// Environment variable that multiplies every limit but the boot's.
const FACTOR_VARIABLE: &str = "CASEMATE_TIME_FACTOR";

/// Environment variable for the limit of the boot itself, in seconds.
const BOOT_VARIABLE: &str = "CASEMATE_BOOT_LIMIT";

/// Limit of the boot when nothing else is said. There is nothing to scale it with, so it is generous.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// Derives time limits from the observed boot time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    factor: f64,
}

impl Limits {
    /// Limits for a machine that took `boot` to come up.
    pub fn from_boot(boot: Duration) -> Self {
        let user = std::env::var(FACTOR_VARIABLE).ok().and_then(|v| v.parse::<f64>().ok());
        Self::new(boot, user)
    }

    fn new(boot: Duration, user: Option<f64>) -> Self {
        let user = user.filter(|f| f.is_finite() && *f > 0.0).unwrap_or(1.0);
        Self { factor: (boot.as_secs_f64() / REFERENCE_BOOT.as_secs_f64()).clamp(1.0, 1000.0) * user }
    }

    /// The limit for work that takes well below `nominal` on a machine that boots in five seconds.
    pub fn scale(&self, nominal: Duration) -> Duration {
        nominal.mul_f64(self.factor)
    }

    /// The limit of the boot itself: `CASEMATE_BOOT_LIMIT` in seconds, or five minutes.
    pub fn boot() -> Duration {
        let user = std::env::var(BOOT_VARIABLE).ok().and_then(|v| v.parse().ok());
        user.map_or(BOOT_LIMIT, Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_machines_get_more_time_and_fast_ones_no_less() {
        let second = Duration::from_secs(1);
        assert_eq!(Limits::new(second, None).scale(second), second);
        assert_eq!(Limits::new(50 * second, None).scale(second), 10 * second);
        assert_eq!(Limits::new(50 * second, Some(2.0)).scale(second), 20 * second);
        assert_eq!(Limits::new(5 * second, Some(f64::NAN)).scale(second), second);
    }
}

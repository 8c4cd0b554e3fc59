//! The continuous health tests of NIST SP 800-90B, 4.4: repetition count and adaptive proportion.
//!
//! A source claims that each sample has at least H bits of min-entropy, so that no value is likelier than
//! p = 2^-H. With alpha = 2^-30, the chance that a source which keeps its claim fails:
//! - repetition count (4.4.1): it fails at C equal samples in a row, C = 1 + ceil(30 / H);
//! - adaptive proportion (4.4.2): it fails when the first of [`WINDOW`] samples comes C times in that window, C the
//!   least number with P(Binomial(WINDOW - 1, p) >= C - 1) <= alpha.
//!
//! The unit tests compute both anew from the claims.

/// Samples in a window of the adaptive proportion test (4.4.2, for sources that are not binary).
pub const WINDOW: u32 = 512;
/// Samples of the start-up test (4.3: at least 1,024).
pub const START_UP: usize = 1024;

/// Cut-offs for one claim.
pub struct Limits {
    repetitions: u32,
    proportion: u32,
}

/// A word of RDSEED or RDRAND, 64 bits, of which half is claimed: H = 32. One equal pair is one too many; in a
/// window one pair may happen.
pub const WORDS: Limits = Limits { repetitions: 2, proportion: 3 };
/// A byte of such a word, or of the toolstack's seed: H = 4.
pub const BYTES: Limits = Limits { repetitions: 9, proportion: 71 };
/// Time of a walk through memory and the hypervisor: H = 1/3.
pub const TIMES: Limits = Limits { repetitions: 91, proportion: 459 };

/// State of both tests for one kind of sample.
#[derive(Default)]
pub struct Health {
    last: u64,
    run: u32,
    first: u64,
    matches: u32,
    seen: u32,
}

impl Health {
    /// Before the first sample.
    pub const fn new() -> Self {
        Self { last: 0, run: 0, first: 0, matches: 0, seen: 0 }
    }

    /// Takes the next sample; the error says what is wrong with the source.
    pub fn check(&mut self, limits: &Limits, sample: u64) -> Result<(), &'static str> {
        self.run = if self.run > 0 && sample == self.last { self.run + 1 } else { 1 };
        self.last = sample;
        if self.seen == 0 {
            (self.first, self.matches) = (sample, 0);
        }
        self.matches += u32::from(sample == self.first);
        self.seen = (self.seen + 1) % WINDOW;
        if self.run >= limits.repetitions {
            return Err("stuck");
        }
        if self.matches >= limits.proportion { Err("biased") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 1.0 / (1 << 30) as f64;

    /// P(Binomial(n, p) >= k), summed up in logarithms.
    fn tail(n: u32, p: f64, k: u32) -> f64 {
        let ln_choose = |i: u32| (1..=i).map(|j| f64::from(n - i + j).ln() - f64::from(j).ln()).sum::<f64>();
        let term = |i: u32| ln_choose(i) + f64::from(i) * p.ln() + f64::from(n - i) * (-p).ln_1p();
        (k..=n).map(|i| term(i).exp()).sum()
    }

    #[test]
    fn cut_offs_follow_from_the_claims() {
        for (limits, h) in [(WORDS, 32.0), (BYTES, 4.0), (TIMES, 1.0 / 3.0)] {
            assert_eq!(limits.repetitions, 1 + (30.0f64 / h).ceil() as u32);
            let p = (-h).exp2();
            let least = (2..).find(|c| tail(WINDOW - 1, p, c - 1) <= ALPHA).unwrap();
            assert_eq!(limits.proportion, least);
        }
    }

    /// Reproducible noise (xorshift64*).
    pub fn noise(state: &mut u64) -> u64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Samples until the test fails, at most `most`.
    fn fails_after(
        limits: &Limits,
        most: u32,
        mut source: impl FnMut(u32) -> u64,
    ) -> Option<(u32, &'static str)> {
        let mut health = Health::new();
        (0..most).find_map(|i| health.check(limits, source(i)).err().map(|why| (i + 1, why)))
    }

    #[test]
    fn a_stuck_source_fails_at_the_cut_off() {
        for limits in [WORDS, BYTES, TIMES] {
            for value in [0, u64::MAX] {
                assert_eq!(fails_after(&limits, 1000, |_| value), Some((limits.repetitions, "stuck")));
            }
            // One that gets stuck later.
            let late = fails_after(&limits, 1000, |i| if i < 200 { i.into() } else { 7 });
            assert_eq!(late, Some((200 + limits.repetitions, "stuck")));
        }
    }

    #[test]
    fn a_biased_source_fails_within_two_windows() {
        let mut state = 1;
        // Every second byte is the same, the others are random: one bit of min-entropy instead of four.
        let half = |i: u32| if i.is_multiple_of(2) { 0x55 } else { noise(&mut state) & 0xff };
        assert!(fails_after(&BYTES, 2 * WINDOW, half).is_some_and(|(_, why)| why == "biased"));
        // Nineteen times of twenty the same, never long in a row.
        let mostly = |i: u32| if i % 20 == 19 { u64::from(i) } else { 3 };
        assert!(fails_after(&TIMES, 2 * WINDOW, mostly).is_some_and(|(_, why)| why == "biased"));
    }

    #[test]
    fn a_good_source_passes() {
        let mut state = 1;
        assert_eq!(fails_after(&WORDS, 1 << 20, |_| noise(&mut state)), None);
        assert_eq!(fails_after(&BYTES, 1 << 20, |_| noise(&mut state) >> 56), None);
        // Two values at 3 to 1: H = 0.41.
        assert_eq!(fails_after(&TIMES, 1 << 20, |_| u64::from(noise(&mut state) >> 62 == 0)), None);
    }
}

//! Health tests of a noise source: the repetition count test and the adaptive proportion test.
//!
//! Source: NIST SP 800-90B, 4.4.1 and 4.4.2, with a false-positive probability of 2^-20 for each test. A source
//! that fails once stays out of use until the next boot.

/// What a source is believed to deliver, and so when its tests fail.
#[derive(Clone, Copy)]
pub struct Claim {
    /// Repetition count: this many equal samples in a row fail. `1 + ceil(20 / H)` for H bits of min-entropy a
    /// sample.
    pub repetitions: u32,
    /// Adaptive proportion: a sample that occurs this often among [`WINDOW`] fails.
    /// `1 + CRITBINOM(WINDOW, 2^-H, 1 - 2^-20)`.
    pub proportion: u32,
}

/// Samples in a window of the adaptive proportion test (more than two values).
pub const WINDOW: u32 = 512;

impl Claim {
    /// Half a bit a sample.
    pub const HALF_BIT: Self = Self { repetitions: 41, proportion: 410 };
    /// Six bits a sample.
    pub const SIX_BITS: Self = Self { repetitions: 5, proportion: 27 };
}

/// Both tests of one source, fed with every sample that it delivers.
pub struct Health {
    claim: Claim,
    last: u64,
    run: u32,
    /// First sample of the window.
    subject: u64,
    seen: u32,
    position: u32,
    failed: bool,
}

impl Health {
    /// A source with this claim that nothing is known against.
    pub const fn new(claim: Claim) -> Self {
        Self { claim, last: 0, run: 0, subject: 0, seen: 0, position: 0, failed: false }
    }

    /// Takes note of a sample.
    pub fn feed(&mut self, sample: u64) {
        self.run = if self.run > 0 && sample == self.last { self.run + 1 } else { 1 };
        self.last = sample;
        if self.position == 0 {
            (self.subject, self.seen) = (sample, 0);
        }
        self.seen += u32::from(sample == self.subject);
        self.position = (self.position + 1) % WINDOW;
        self.failed |= self.run >= self.claim.repetitions || self.seen >= self.claim.proportion;
    }

    /// Fails the source for a reason of its own, for example that it gave no sample.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether it has passed all tests so far.
    pub fn good(&self) -> bool {
        !self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest `k` with `P(X <= k) >= 1 - 2^-20` for `X` of the binomial distribution.
    fn critical(n: u32, p: f64) -> u32 {
        let mut term = (1.0 - p).powi(n as i32);
        let (mut sum, mut k) = (term, 0);
        while sum < 1.0 - 2f64.powi(-20) {
            k += 1;
            term *= f64::from(n - k + 1) / f64::from(k) * p / (1.0 - p);
            sum += term;
        }
        k
    }

    #[test]
    fn cutoffs_are_those_of_the_standard() {
        for (claim, bits) in [(Claim::HALF_BIT, 0.5f64), (Claim::SIX_BITS, 6.0)] {
            assert_eq!(claim.repetitions, 1 + (20.0 / bits).ceil() as u32);
            assert_eq!(claim.proportion, 1 + critical(WINDOW, 2f64.powf(-bits)));
        }
    }

    fn samples(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        core::iter::from_fn(move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            Some(state >> 33)
        })
    }

    #[test]
    fn a_good_source_passes() {
        let mut health = Health::new(Claim::SIX_BITS);
        samples(1).take(100_000).for_each(|s| health.feed(s & 0xff));
        assert!(health.good());
        let mut health = Health::new(Claim::HALF_BIT);
        samples(2).take(100_000).for_each(|s| health.feed(s & 1));
        assert!(health.good());
    }

    #[test]
    fn a_stuck_source_fails_at_the_cutoff() {
        let mut health = Health::new(Claim::SIX_BITS);
        for _ in 0..4 {
            health.feed(0xff);
            assert!(health.good());
        }
        health.feed(0xff);
        assert!(!health.good());
        samples(3).take(1000).for_each(|s| health.feed(s));
        assert!(!health.good(), "a failure is for good");
    }

    #[test]
    fn a_source_with_a_favourite_fails() {
        let mut health = Health::new(Claim::SIX_BITS);
        samples(4).take(2048).for_each(|s| {
            health.feed(if s % 8 == 0 { 7 } else { s >> 8 });
            health.feed(7);
        });
        assert!(!health.good());
        let mut health = Health::new(Claim::HALF_BIT);
        samples(5).take(4096).for_each(|s| health.feed(u64::from(s % 16 == 0)));
        assert!(!health.good());
    }

    #[test]
    fn a_repeated_word_fails() {
        let mut health = Health::new(Claim::SIX_BITS);
        for _ in 0..64 {
            0x0123_4567_89ab_cdef_u64.to_le_bytes().iter().for_each(|b| health.feed((*b).into()));
        }
        assert!(!health.good());
    }
}

//! The sources, their states, and the generator that they feed: all decisions, no devices.
//!
//! Each source is hashed on its own (SHA-256 is a vetted conditioning component, SP 800-90B, 3.1.5.1.2), and what
//! comes out goes side by side into the generator, so that no source can take away what another one gives.
//!
//! Invariant: there is a generator only while at least [`ENOUGH`] sources are healthy.

use super::drbg::{Drbg, Hash, MAX_REQUEST};
use super::health::{self, Health, START_UP};
use zeroize::Zeroize;

/// Index of a source: RDSEED or RDRAND.
pub const HARDWARE: usize = 0;
/// The time that a piece of work takes.
pub const JITTER: usize = 1;
/// What the toolstack left in xenstore.
pub const SEED: usize = 2;
/// Fewest healthy sources.
pub const ENOUGH: usize = 2;
/// Requests between two reseedings (SP 800-90A allows 2^48). A reseeding takes milliseconds, and some hundreds of
/// them in PVH under emulation, where reading the time traps.
pub const INTERVAL: u32 = 4096;
/// Words of the hardware for a reseeding: 512 bits claimed. Conditioning to full 256 bits takes 320 of them.
const WORDS: usize = 16;
/// Times that make up a seeding: 341 bits claimed.
const TIMES: usize = START_UP;

/// What is known of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not looked at yet.
    Untested,
    /// Switched off by the command line.
    Off,
    /// Not there.
    Absent,
    /// Passed every test so far.
    Healthy,
    /// Failed, and why. For ever, but for the seed: each is judged by itself.
    Failed(&'static str),
}

/// Fewer than [`ENOUGH`] sources are healthy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Starved;

/// The devices.
pub trait Noise {
    /// Whether the processor has a generator.
    fn has_hardware(&self) -> bool;
    /// A word from it; `None` when it does not answer.
    fn hardware(&mut self) -> Option<u64>;
    /// The time that a piece of work took.
    fn time(&mut self) -> u64;
}

/// A source.
#[derive(Clone, Copy)]
pub struct Source {
    /// What is known of it.
    pub state: State,
    /// Samples taken.
    pub samples: u64,
    /// Times that it failed.
    pub failures: u64,
    /// It failed since [`Pool::news`].
    new: bool,
}

const UNTESTED: Source = Source { state: State::Untested, samples: 0, failures: 0, new: false };

/// Sources and generator.
pub struct Pool {
    /// The sources, by their indices.
    pub sources: [Source; 3],
    words: Health,
    bytes: Health,
    times: Health,
    /// The time before, and how much it differed from the one before that.
    before: [u64; 2],
    drbg: Option<Drbg>,
    requests: u32,
    /// Reseedings of the generator since it was made.
    pub reseeds: u64,
    starved: bool,
    starved_new: bool,
}

impl Pool {
    /// Before the first use.
    pub const fn new() -> Self {
        Self {
            sources: [UNTESTED; 3],
            words: Health::new(),
            bytes: Health::new(),
            times: Health::new(),
            before: [0; 2],
            drbg: None,
            requests: 0,
            reseeds: 0,
            starved: false,
            starved_new: false,
        }
    }

    /// Whether [`Self::refill`] has to come before the next request.
    pub fn is_due(&self) -> bool {
        self.drbg.is_none() || self.requests >= INTERVAL
    }

    /// After a restore: other copies of this domain may know the seed that was used.
    pub fn forget_seed(&mut self) {
        if self.sources[SEED].state == State::Healthy {
            self.sources[SEED].state = State::Absent;
        }
    }

    /// Asks every source and feeds the generator. `seed` is what the toolstack left since the last time. An error
    /// takes the generator away.
    pub fn refill(
        &mut self,
        noise: &mut dyn Noise,
        seed: Option<Result<&[u8], &'static str>>,
    ) -> Result<(), Starved> {
        let mut entropy = [[0; 32]; 3];
        for (i, place) in entropy.iter_mut().enumerate() {
            let old = self.sources[i].state;
            let got = match (i, old) {
                (_, State::Off) | (HARDWARE | JITTER, State::Absent | State::Failed(_)) => continue,
                (HARDWARE, State::Untested) if !noise.has_hardware() => None,
                (HARDWARE, _) => Some(self.hardware(noise)),
                (JITTER, _) => Some(self.jitter(noise)),
                _ => match seed {
                    // What it gave before is still in the generator.
                    None if old != State::Untested => continue,
                    seed => seed.map(|s| s.map(|bytes| self.condition_seed(bytes))),
                },
            };
            let source = &mut self.sources[i];
            source.state = match got {
                None => State::Absent,
                Some(Ok(digest)) => {
                    *place = digest;
                    State::Healthy
                }
                Some(Err(why)) => {
                    source.failures += 1;
                    source.new = true;
                    State::Failed(why)
                }
            };
        }
        let healthy = self.sources.iter().filter(|s| s.state == State::Healthy).count();
        self.starved_new |= healthy < ENOUGH && !self.starved;
        self.starved = healthy < ENOUGH;
        self.requests = 0;
        match &mut self.drbg {
            drbg if self.starved => *drbg = None,
            // Each healthy source gave 256 bits, so that input and nonce are there.
            None => self.drbg = Some(Drbg::new(entropy.as_flattened())),
            Some(drbg) => {
                drbg.reseed(entropy.as_flattened());
                self.reseeds += 1;
            }
        }
        entropy.zeroize();
        if self.starved { Err(Starved) } else { Ok(()) }
    }

    /// One request: fills at most [`MAX_REQUEST`] bytes.
    pub fn generate(&mut self, out: &mut [u8]) -> Result<(), Starved> {
        debug_assert!(out.len() <= MAX_REQUEST);
        self.requests += 1;
        self.drbg.as_mut().map(|drbg| drbg.generate(out)).ok_or(Starved)
    }

    /// States of the sources, which failed since the last call, and whether they have become too few since then.
    pub fn news(&mut self) -> ([State; 3], [bool; 3], bool) {
        let failed = self.sources.each_mut().map(|s| core::mem::take(&mut s.new));
        (self.sources.map(|s| s.state), failed, core::mem::take(&mut self.starved_new))
    }

    fn hardware(&mut self, noise: &mut dyn Noise) -> Result<[u8; 32], &'static str> {
        let count = if self.sources[HARDWARE].samples == 0 { START_UP } else { WORDS };
        let mut hash = Hash::new();
        for _ in 0..count {
            let word = noise.hardware().ok_or("no answer")?;
            self.sources[HARDWARE].samples += 1;
            self.words.check(&health::WORDS, word)?;
            for byte in word.to_le_bytes() {
                self.bytes.check(&health::BYTES, byte.into())?;
            }
            hash.update(&word.to_le_bytes());
        }
        Ok(hash.finish())
    }

    /// Beyond the health tests, which look at values only: a time counts when it differs from the one before by
    /// another amount than that did from its own, so that a regular sequence (1, 2, 3, ...) is no noise.
    fn jitter(&mut self, noise: &mut dyn Noise) -> Result<[u8; 32], &'static str> {
        let mut hash = Hash::new();
        let mut counted = 0;
        for _ in 0..4 * TIMES {
            let time = noise.time();
            self.sources[JITTER].samples += 1;
            self.times.check(&health::TIMES, time)?;
            let change = time.wrapping_sub(self.before[0]);
            counted += usize::from(time != 0 && change != 0 && change != self.before[1]);
            self.before = [time, change];
            hash.update(&time.to_le_bytes());
            if counted == TIMES {
                return Ok(hash.finish());
            }
        }
        Err("too regular")
    }

    fn condition_seed(&mut self, bytes: &[u8]) -> [u8; 32] {
        self.sources[SEED].samples += bytes.len() as u64;
        let mut hash = Hash::new();
        hash.update(bytes);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices that can be broken.
    struct Bench {
        state: u64,
        has_hardware: bool,
        /// Calls after which the hardware says nothing, or always the same.
        silent_after: usize,
        stuck_after: usize,
        words: usize,
        time: fn(&mut Bench) -> u64,
        times: u64,
    }

    impl Bench {
        fn new(seed: u64) -> Self {
            Self {
                state: seed,
                has_hardware: true,
                silent_after: usize::MAX,
                stuck_after: usize::MAX,
                words: 0,
                time: |b| b.random() & 63,
                times: 0,
            }
        }

        fn random(&mut self) -> u64 {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    impl Noise for Bench {
        fn has_hardware(&self) -> bool {
            self.has_hardware
        }

        fn hardware(&mut self) -> Option<u64> {
            self.words += 1;
            match self.words {
                n if n > self.silent_after => None,
                n if n > self.stuck_after => Some(u64::MAX),
                _ => Some(self.random()),
            }
        }

        fn time(&mut self) -> u64 {
            self.times += 1;
            (self.time)(self)
        }
    }

    const GOOD: &[u8] = b"a seed from the toolstack, 32 bytes";

    fn states(pool: &Pool) -> [State; 3] {
        pool.sources.map(|s| s.state)
    }

    fn output(pool: &mut Pool) -> [u8; 32] {
        let mut out = [0; 32];
        pool.generate(&mut out).unwrap();
        out
    }

    #[test]
    fn all_healthy() {
        let (mut pool, mut bench) = (Pool::new(), Bench::new(1));
        assert!(pool.is_due());
        assert_eq!(pool.generate(&mut [0; 4]), Err(Starved));
        assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))), Ok(()));
        assert_eq!(states(&pool), [State::Healthy; 3]);
        assert_eq!(pool.news(), ([State::Healthy; 3], [false; 3], false));
        assert!(pool.sources[HARDWARE].samples == 1024 && pool.sources[JITTER].samples >= 1024);
        assert_eq!(pool.sources[SEED].samples, GOOD.len() as u64);
        assert_ne!(output(&mut pool), output(&mut pool));
    }

    /// Each source alone changes everything.
    #[test]
    fn every_source_reaches_the_output() {
        let first = |mut bench: Bench, seed: &[u8]| {
            let mut pool = Pool::new();
            pool.refill(&mut bench, Some(Ok(seed))).unwrap();
            output(&mut pool)
        };
        let bench = || Bench { time: |b| b.times * b.times * b.times % 61, ..Bench::new(1) };
        let normal = first(bench(), GOOD);
        assert_eq!(normal, first(bench(), GOOD));
        assert_ne!(normal, first(bench(), b"another seed from the toolstack.."));
        assert_ne!(normal, first(Bench { state: 2, ..bench() }, GOOD));
        assert_ne!(normal, first(Bench { time: |b| b.times * b.times * b.times % 67, ..bench() }, GOOD));
    }

    #[test]
    fn two_are_enough_and_one_is_not() {
        for off in 0u8..8 {
            let (mut pool, mut bench) = (Pool::new(), Bench::new(1));
            for i in (0..3).filter(|i| off >> i & 1 == 1) {
                pool.sources[i].state = State::Off;
            }
            let enough = off.count_ones() <= 1;
            assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))).is_ok(), enough, "{off}");
            assert_eq!(pool.generate(&mut [0; 8]).is_ok(), enough);
            assert_eq!(pool.news().2, !enough);
            for i in 0..3 {
                let want = if off >> i & 1 == 1 { State::Off } else { State::Healthy };
                assert_eq!(pool.sources[i].state, want);
            }
        }
        let mut pool = Pool::new();
        let mut bench = Bench { has_hardware: false, ..Bench::new(1) };
        assert_eq!(pool.refill(&mut bench, None), Err(Starved));
        assert_eq!(states(&pool), [State::Absent, State::Healthy, State::Absent]);
        // It is said once.
        assert!(pool.news().2);
        assert_eq!(pool.refill(&mut bench, None), Err(Starved));
        assert!(!pool.news().2);
        // A seed that comes later helps.
        assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))), Ok(()));
        output(&mut pool);
    }

    #[test]
    fn a_source_that_breaks_later_is_retired_for_ever() {
        for (broken, why) in [
            (Bench { stuck_after: 1030, ..Bench::new(1) }, "stuck"),
            (Bench { silent_after: 1030, ..Bench::new(1) }, "no answer"),
        ] {
            let (mut pool, mut bench) = (Pool::new(), broken);
            pool.refill(&mut bench, None).unwrap();
            assert_eq!(states(&pool), [State::Healthy, State::Healthy, State::Absent]);
            for _ in 0..INTERVAL {
                assert!(!pool.is_due());
                output(&mut pool);
            }
            assert!(pool.is_due());
            // One of two has broken: no more output.
            assert_eq!(pool.refill(&mut bench, None), Err(Starved));
            assert_eq!(pool.sources[HARDWARE].state, State::Failed(why));
            let (_, failed, starved) = pool.news();
            assert_eq!((failed, starved), ([true, false, false], true));
            assert_eq!(pool.generate(&mut [0; 8]), Err(Starved));
            // Even if it came back.
            (bench.stuck_after, bench.silent_after) = (usize::MAX, usize::MAX);
            assert_eq!(pool.refill(&mut bench, None), Err(Starved));
            assert_eq!(pool.sources[HARDWARE].failures, 1);
            assert_eq!(pool.news(), (states(&pool), [false; 3], false));
            assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))), Ok(()));
        }
    }

    #[test]
    fn times_without_noise_do_not_count() {
        let judge = |time: fn(&mut Bench) -> u64| {
            let (mut pool, mut bench) = (Pool::new(), Bench { time, ..Bench::new(1) });
            let result = pool.refill(&mut bench, None);
            assert!(pool.sources[JITTER].samples <= 4 * TIMES as u64);
            (result, pool.sources[JITTER].state)
        };
        assert_eq!(judge(|_| 40), (Err(Starved), State::Failed("stuck")));
        assert_eq!(judge(|_| 0), (Err(Starved), State::Failed("stuck")));
        assert_eq!(
            judge(|b| if b.times % 50 == 0 { 41 } else { 40 }),
            (Err(Starved), State::Failed("biased"))
        );
        assert_eq!(judge(|b| b.times), (Err(Starved), State::Failed("too regular")));
        assert_eq!(judge(|b| 7 * b.times % 1000), (Err(Starved), State::Failed("too regular")));
        assert_eq!(judge(|b| b.random() & 3), (Ok(()), State::Healthy));
    }

    #[test]
    fn a_bad_seed_does_not_count_and_a_better_one_does() {
        let (mut pool, mut bench) = (Pool::new(), Bench { has_hardware: false, ..Bench::new(1) });
        assert_eq!(pool.refill(&mut bench, Some(Err("malformed"))), Err(Starved));
        assert_eq!(pool.sources[SEED].state, State::Failed("malformed"));
        assert_eq!(pool.news().1, [false, false, true]);
        assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))), Ok(()));
        // At the next reseeding there is none, and what the first one gave is still there.
        assert_eq!(pool.refill(&mut bench, None), Ok(()));
        assert_eq!((pool.reseeds, pool.sources[SEED].state), (1, State::Healthy));
        // After a restore it is not.
        pool.forget_seed();
        assert_eq!(pool.refill(&mut bench, None), Err(Starved));
        assert_eq!(pool.refill(&mut bench, Some(Ok(GOOD))), Ok(()));
    }

    #[test]
    fn reseeding_changes_the_course() {
        let make = || {
            let (mut pool, mut bench) = (Pool::new(), Bench::new(1));
            pool.refill(&mut bench, Some(Ok(GOOD))).unwrap();
            (pool, bench)
        };
        let ((mut a, _), (mut b, mut bench)) = (make(), make());
        assert_eq!(output(&mut a), output(&mut b));
        b.refill(&mut bench, None).unwrap();
        assert_ne!(output(&mut a), output(&mut b));
    }
}

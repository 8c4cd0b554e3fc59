//! Random numbers: three sources, health tests, one generator, and no output when there is not enough to make it from.
//!
//! # Sources
//! - *hardware*: RDSEED where the processor has it, else RDRAND; one source, since both are one circuit;
//! - *jitter*: the time that walks through memory and visits to the hypervisor take ([`jitter`]);
//! - *seed*: what the toolstack left in xenstore at `data/entropy-seed` ([`seed`]), used once; or what the application
//!   got from elsewhere and hands over (`libos_entropy_add`).
//!
//! Each is tested without end ([`health`], NIST SP 800-90B) and feeds an HMAC_DRBG ([`drbg`], SP 800-90A) anew
//! every [`pool::INTERVAL`] requests. A source that fails is named on the console and never used again. With fewer
//! than two healthy sources there are no random numbers: the console says why, once, and every caller gets an
//! error, until there is a (new) seed.
//!
//! A word `libos.entropy=no-hardware,no-jitter,no-seed` of the command line switches sources off.
//!
//! An image that never asks for random numbers has nothing of this: it is linked on demand and starts on demand.

mod drbg;
mod health;
mod jitter;
mod pool;
mod seed;

pub use pool::Starved;

#[cfg(not(test))]
pub use kernel::{add, fill, info, reseed};

#[cfg(not(test))]
mod kernel {
    use super::pool::{HARDWARE, JITTER, Noise, Pool, SEED, State};
    use super::{Starved, drbg, jitter::Jitter, seed};
    use crate::arch::cell::Global;
    use crate::arch::x86_64::{cpu, hypercall};
    use crate::cmdline::words;
    use crate::report::text as say;
    use crate::sched::{self, Wait};
    use crate::start;
    use libos_sys::{EntropyInfo, EntropySource, NEVER};
    use zeroize::Zeroize;

    /// The sources by their indices.
    const NAMES: [&str; 3] = ["hardware", "jitter", "seed"];

    static POOL: Global<Pool> = Global::new(Pool::new());
    static WALK: Global<Jitter> = Global::new(Jitter::new());
    /// A thread is at work here: taking the seed and the console switch.
    static BUSY: Global<bool> = Global::new(false);
    /// The command line was looked at.
    static READY: Global<bool> = Global::new(false);

    /// The right to work here, one thread's at a time.
    struct Turn;

    impl Turn {
        fn wait() -> Self {
            while BUSY.with(|busy| core::mem::replace(busy, true)) {
                sched::block(Wait::Word(&raw const BUSY as usize), NEVER);
            }
            if !READY.with(|ready| core::mem::replace(ready, true)) {
                switch_off();
            }
            Self
        }
    }

    impl Drop for Turn {
        fn drop(&mut self) {
            BUSY.with(|busy| *busy = false);
            sched::wake(&raw const BUSY as usize, 1);
        }
    }

    struct Machine(Option<cpu::HardwareRandom>);

    impl Noise for Machine {
        fn has_hardware(&self) -> bool {
            self.0.is_some()
        }

        fn hardware(&mut self) -> Option<u64> {
            self.0?.word()
        }

        fn time(&mut self) -> u64 {
            WALK.with(|walk| {
                walk.sample(cpu::rdtsc, || {
                    hypercall::xen_version();
                })
            })
        }
    }

    /// Fills `buf` with random bytes, or with zeros and an error. Switches.
    ///
    /// # Errors
    /// [`Starved`]: fewer than two sources are healthy; the console says which.
    pub fn fill(buf: &mut [u8]) -> Result<(), Starved> {
        let _turn = Turn::wait();
        let mut pieces = buf.chunks_mut(drbg::MAX_REQUEST);
        let result = pieces.try_for_each(|piece| {
            if POOL.with(|pool| pool.is_due()) {
                refill()?;
            }
            POOL.with(|pool| pool.generate(piece))
        });
        if result.is_err() {
            buf.fill(0);
        }
        result
    }

    /// Feeds the generator at once, as is needed after a restore, when copies of this domain may be in the same
    /// state: a seed that was used before does not count any more. Switches.
    ///
    /// # Errors
    /// As for [`fill`].
    pub fn reseed() -> Result<(), Starved> {
        let _turn = Turn::wait();
        POOL.with(Pool::forget_seed);
        refill()
    }

    /// Feeds the generator at once, with what the application got from elsewhere in place of the toolstack's seed: judged
    /// as such a one, and if it is good it counts as one. What is not good changes nothing; the inner error says why.
    /// Switches.
    ///
    /// # Errors
    /// As for [`fill`].
    pub fn add(bytes: &[u8]) -> Result<Result<(), &'static str>, Starved> {
        let seed = match seed::judge(bytes) {
            Ok(seed) => seed,
            Err(why) => return Ok(Err(why)),
        };
        let _turn = Turn::wait();
        feed(Some(Ok(seed))).map(Ok)
    }

    /// What is known of the sources.
    pub fn info() -> EntropyInfo {
        POOL.with(|pool| {
            let sources = pool.sources.map(|s| EntropySource {
                present: u32::from(matches!(s.state, State::Healthy | State::Failed(_))),
                healthy: u32::from(s.state == State::Healthy),
                samples: s.samples,
                failures: s.failures,
            });
            EntropyInfo { sources, reseeds: pool.reseeds }
        })
    }

    /// Obeys the command line.
    fn switch_off() {
        let wanted = words(start::line()).filter_map(|word| word.strip_prefix(b"libos.entropy="));
        for word in wanted.flat_map(|list| list.split(|byte| *byte == b',')) {
            let named = match word {
                b"no-hardware" => HARDWARE,
                b"no-jitter" => JITTER,
                b"no-seed" => SEED,
                _ => {
                    say("libos: unknown word in libos.entropy=, use no-hardware, no-jitter, no-seed\n");
                    continue;
                }
            };
            POOL.with(|pool| pool.sources[named].state = State::Off);
        }
    }

    fn refill() -> Result<(), Starved> {
        let mut digits = [0; 2 * seed::MAX];
        let off = POOL.with(|pool| pool.sources[SEED].state == State::Off);
        let taken = if off { None } else { seed::take(&mut digits) };
        let seed = taken.map(|len| seed::decode(&mut digits[..len?]));
        let result = feed(seed);
        digits.zeroize();
        result
    }

    fn feed(seed: Option<Result<&[u8], &'static str>>) -> Result<(), Starved> {
        let mut machine = Machine(cpu::HardwareRandom::find());
        let result = POOL.with(|pool| pool.refill(&mut machine, seed));
        report();
        result
    }

    /// Says on the console what has become worse.
    fn report() {
        let (states, failed, starved) = POOL.with(Pool::news);
        for ((name, state), failed) in NAMES.iter().zip(states).zip(failed) {
            if let (State::Failed(why), true) = (state, failed) {
                ["libos: entropy source ", name, " does not count any more: ", why, "\n"]
                    .into_iter()
                    .for_each(say);
            }
        }
        if starved {
            say("libos: no random numbers: fewer than two entropy sources are healthy");
            for (i, (name, state)) in NAMES.iter().zip(states).enumerate() {
                let state = match state {
                    State::Untested => "untested",
                    State::Off => "switched off",
                    State::Absent => "absent",
                    State::Healthy => "healthy",
                    State::Failed(_) => "failed",
                };
                [if i == 0 { ": " } else { ", " }, name, " ", state].into_iter().for_each(say);
            }
            say("\n");
        }
    }
}

//! Time as a source: how long a walk through memory and a visit to the hypervisor take.
//!
//! Caches, the memory bus, the hypervisor's work for others, and under emulation the host's scheduler make that
//! time vary. The walk's way depends on the times before, so that no pattern settles. How much is claimed
//! ([`super::health::TIMES`]) is what the jitter library of Linux claims by default, a third of a bit for each
//! sample, and far below what is measured (see the guide).

/// Bytes to walk through: as much as a usual first-level cache has.
const MEMORY: usize = 32 << 10;
/// Accesses for each sample.
const STEPS: usize = 48;
/// Samples for each visit, which under emulation takes a good part of a millisecond.
const VISITS: u32 = 16;

/// The memory, and where the walk is.
pub struct Jitter {
    memory: [u8; MEMORY],
    at: usize,
    began: u64,
    samples: u32,
}

impl Jitter {
    /// Before the first walk.
    pub const fn new() -> Self {
        Self { memory: [0; MEMORY], at: 0, began: 0, samples: 0 }
    }

    /// Walks, makes the visit if it is time for one, and says what the `clock` counted since the sample before.
    pub fn sample(&mut self, clock: impl Fn() -> u64, visit: impl Fn()) -> u64 {
        for _ in 0..STEPS {
            // A full-period generator (Knuth's multiplier), bent by what lies where it leads.
            let value = usize::from(self.memory[self.at % MEMORY]);
            self.memory[self.at % MEMORY] = (value as u8).wrapping_add(1);
            self.at =
                core::hint::black_box(self.at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223 + value));
        }
        self.samples = self.samples.wrapping_add(1);
        if self.samples.is_multiple_of(VISITS) {
            visit();
        }
        let now = clock();
        let delta = now.wrapping_sub(core::mem::replace(&mut self.began, now));
        self.at = self.at.wrapping_add(delta as usize);
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::health::{Health, TIMES};

    /// The processor of this machine, without the visit, passes the health tests. `--nocapture` shows an estimate
    /// (SP 800-90B, 6.3.1, without its confidence interval).
    #[test]
    fn this_machine_passes() {
        let (mut jitter, mut health) = (Jitter::new(), Health::new());
        let mut counts = std::collections::HashMap::new();
        let total = 1 << 16;
        for _ in 0..total {
            let time = jitter.sample(crate::arch::x86_64::cpu::rdtsc, || ());
            assert_eq!(health.check(&TIMES, time), Ok(()));
            *counts.entry(time).or_insert(0u32) += 1;
        }
        let most = counts.values().copied().max().unwrap();
        let bits = (f64::from(total) / f64::from(most)).log2();
        println!("{} different times, most common value estimate {bits:.2} bits", counts.len());
    }

    #[test]
    fn the_walk_depends_on_the_times() {
        let walk = |slow: bool| {
            let time = core::cell::Cell::new(0);
            let mut jitter = Jitter::new();
            for i in 0..100 {
                jitter.sample(
                    || {
                        time.set(time.get() + if slow && i == 50 { 11 } else { 10 });
                        time.get()
                    },
                    || (),
                );
            }
            jitter.at
        };
        assert_eq!(walk(false), walk(false));
        assert_ne!(walk(false), walk(true));
    }
}

//! Random numbers fit for keys (the paper's section 6.1 left them open).
//!
//! Sources of entropy: the processor's generator (RDSEED and RDRAND, which count as one since they share their
//! hardware), timing jitter, and a seed from the toolstack. Each is tested continuously ([`health`], SP 800-90B)
//! and hashed; all that passed seeds an HMAC_DRBG ([`drbg`], SP 800-90A), which is seeded again after
//! [`RESEED_AFTER`] requests. Any one source alone would suffice for 256 bits; below two healthy ones there are
//! no random numbers at all.
//!
//! Nothing is gathered before the first request, so an image that needs no random numbers pays nothing.

pub mod drbg;
pub mod health;
pub mod seed;
#[cfg(not(test))]
mod sources;

#[cfg(not(test))]
pub use gather::fill;

#[cfg(not(test))]
mod gather {
    use super::drbg::Drbg;
    use super::health::{Claim, Health};
    use super::sources;
    use crate::arch::cell::Global;
    use crate::arch::x86_64::cpu;
    use crate::report::{decimal, text};
    use crate::sched::{self, Wait};
    use crate::xen::clock;
    use libos_sys::NEVER;

    /// Requests (of up to 64 KiB) after which fresh entropy is mixed in.
    const RESEED_AFTER: u64 = 4096;
    /// Healthy sources without which there are no random numbers.
    const SOURCES_NEEDED: u64 = 2;

    struct Entropy {
        drbg: Option<Drbg>,
        rdseed: Health,
        rdrand: Health,
        jitter: Health,
        /// A seed from the toolstack went into the generator.
        seeded: bool,
        /// A thread is gathering.
        busy: bool,
        /// The lack of entropy was reported.
        told: bool,
    }

    static ENTROPY: Global<Entropy> = Global::new(Entropy {
        drbg: None,
        rdseed: Health::new(Claim::SIX_BITS),
        rdrand: Health::new(Claim::SIX_BITS),
        jitter: Health::new(Claim::HALF_BIT),
        seeded: false,
        busy: false,
        told: false,
    });

    /// Which sources delivered and are healthy.
    struct Healthy {
        processor: bool,
        jitter: bool,
        toolstack: bool,
    }

    impl Healthy {
        fn count(&self) -> u64 {
            u64::from(self.processor) + u64::from(self.jitter) + u64::from(self.toolstack)
        }
    }

    impl Entropy {
        fn stale(&self) -> bool {
            self.drbg.as_ref().is_none_or(|drbg| drbg.requests() >= RESEED_AFTER)
        }

        /// Asks all sources and seeds the generator, unless too few are healthy: then it is gone.
        fn gather(&mut self, toolstack: Option<([u8; 64], usize)>) -> Healthy {
            let rdseed = sources::processor(cpu::seed, &mut self.rdseed);
            let rdrand = sources::processor(cpu::random, &mut self.rdrand);
            let jitter = sources::jitter(&mut self.jitter);
            self.seeded |= toolstack.is_some();
            // What failed a test is hashed in all the same: it cannot hurt, and does not count.
            let mut entropy = [0; 160];
            entropy[..32].copy_from_slice(&rdseed.unwrap_or_default());
            entropy[32..64].copy_from_slice(&rdrand.unwrap_or_default());
            entropy[64..96].copy_from_slice(&jitter);
            entropy[96..].copy_from_slice(&toolstack.map_or([0; 64], |(bytes, _)| bytes));
            let healthy = Healthy {
                processor: (rdseed.is_some() && self.rdseed.good())
                    || (rdrand.is_some() && self.rdrand.good()),
                jitter: self.jitter.good(),
                toolstack: self.seeded,
            };
            if healthy.count() < SOURCES_NEEDED {
                self.drbg = None;
            } else if let Some(drbg) = &mut self.drbg {
                drbg.reseed(&entropy);
            } else {
                let mut nonce = [0; 16];
                nonce[..8].copy_from_slice(&cpu::rdtsc().to_le_bytes());
                nonce[8..].copy_from_slice(&clock::wall().to_le_bytes());
                self.drbg = Some(Drbg::new(&entropy, &nonce, b"casemate libos"));
            }
            healthy
        }
    }

    /// What threads wait for while another one gathers.
    fn busy_key() -> usize {
        &raw const ENTROPY as usize
    }

    /// Fills `out` with random bytes; false when too few sources of entropy are healthy. Switches when it has to
    /// gather entropy.
    pub fn fill(out: &mut [u8]) -> bool {
        while ENTROPY.with(|e| e.stale()) {
            if ENTROPY.with(|e| core::mem::replace(&mut e.busy, true)) {
                sched::block(Wait::Word(busy_key()), NEVER);
                continue;
            }
            let toolstack = sources::toolstack();
            let healthy = ENTROPY.with(|e| e.gather(toolstack));
            let tell = ENTROPY.with(|e| {
                e.busy = false;
                healthy.count() < SOURCES_NEEDED && !core::mem::replace(&mut e.told, true)
            });
            sched::wake(busy_key(), u32::MAX);
            if healthy.count() < SOURCES_NEEDED {
                if tell {
                    report(&healthy);
                }
                return false;
            }
        }
        ENTROPY.with(|e| e.drbg.as_mut().map(|drbg| drbg.fill(out))).is_some()
    }

    fn report(healthy: &Healthy) {
        let word = |good| if good { "good" } else { "none" };
        text("libos: no random numbers: ");
        decimal(SOURCES_NEEDED);
        text(" healthy sources of entropy are needed (processor: ");
        text(word(healthy.processor));
        text(", jitter: ");
        text(word(healthy.jitter));
        text(", toolstack: ");
        text(word(healthy.toolstack));
        text("); give the domain RDRAND, or 32 random bytes in hexadecimal at data/entropy-seed\n");
    }
}

//! Randomness: everything comes from `getrandom`, which is the kernel's DRBG in a domain and Linux's on Linux.
//!
//! OpenSSL, below libtpms, seeds its own generator from there too. The manager's seed goes to the generator beside what
//! its other sources give, so it takes nothing away from them; it counts as one source if it passes the tests that a
//! toolstack's seed has to pass. A seed that does not, or a generator that starves even so, is a reason not to start.

use std::io;

use vtpm::Random;
use vtpm::link::Seed;

/// The system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    #[cfg(casemate)]
    fn health(&self) -> String {
        let info = crate::kernel::entropy_info();
        let state = |source: &libos_sys::EntropySource| match (source.present, source.healthy) {
            (0, _) => "absent",
            (_, 0) => "failed",
            _ => "healthy",
        };
        let [hardware, jitter, seed] = info.sources.each_ref().map(state);
        format!("hardware {hardware}, jitter {jitter}, seed {seed}, fed {} times", info.reseeds + 1)
    }

    #[cfg(not(casemate))]
    fn health(&self) -> String {
        "the system's".to_owned()
    }
}

/// Adds the manager's seed to the system's pool, and sees that the generator works.
///
/// # Errors
/// The seed is no noise, or the generator has no entropy: fail closed.
pub fn add_seed(seed: &Seed) -> io::Result<()> {
    if !mix(&seed.0[..]) {
        return Err(io::Error::other("the manager's seed is none"));
    }
    let mut probe = [0; 32];
    getrandom::fill(&mut probe).map_err(|error| io::Error::other(error.to_string()))
}

/// On Linux everybody may write to the pool.
#[cfg(not(casemate))]
fn mix(seed: &[u8]) -> bool {
    // Where there is no such device the seed is not needed either: that is somebody's sandbox on a Linux whose
    // generator is seeded.
    let _ = std::fs::write("/dev/urandom", seed);
    true
}

#[cfg(casemate)]
fn mix(seed: &[u8]) -> bool {
    crate::kernel::add_entropy(seed)
}

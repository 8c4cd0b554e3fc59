//! Randomness: everything comes from `getrandom`, which is the kernel's DRBG in a domain and Linux's on Linux.
//!
//! OpenSSL, below libtpms, seeds its own generator from there too. The manager's seed is one source among several;
//! it is added to the kernel's pool and does not count as entropy there, so a hostile manager cannot make the
//! generator weaker than it is.

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
}

/// Adds the manager's seed to the system's pool, and sees that the generator works.
///
/// # Errors
/// The generator has no entropy: fail closed.
pub fn add_seed(seed: &Seed) -> io::Result<()> {
    mix(&seed.0[..]);
    let mut probe = [0; 32];
    getrandom::fill(&mut probe).map_err(|error| io::Error::other(error.to_string()))
}

/// On Linux everybody may write to the pool.
#[cfg(not(casemate))]
fn mix(seed: &[u8]) {
    // Where there is no such device the seed is not needed either: that is somebody's sandbox on a Linux whose
    // generator is seeded.
    let _ = std::fs::write("/dev/urandom", seed);
}

/// The kernel of a domain has no call for it yet.
#[cfg(casemate)]
fn mix(_seed: &[u8]) {}

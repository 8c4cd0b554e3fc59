//! Random numbers that are fit for keys.

use crate::{Errno, sys};

pub use libos_sys::{ENTROPY_HARDWARE, ENTROPY_JITTER, ENTROPY_SEED, EntropyInfo, EntropySource};

/// Fills `buffer` with random bytes.
///
/// # Errors
/// `EIO` when fewer than two sources of randomness are healthy: the console says which, and `buffer` holds zeros.
pub fn fill(buffer: &mut [u8]) -> Result<(), Errno> {
    sys::random(buffer)
}

/// State of the sources. Nothing is looked at before the first [`fill`].
pub fn info() -> EntropyInfo {
    sys::entropy_info()
}

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

/// Feeds the generator with 32 to 256 bytes from somewhere that is trusted as the toolstack is. They count as its seed
/// does, and take nothing away from the other sources.
///
/// # Errors
/// `EINVAL` when they are no noise: nothing has changed then. `EIO` when there are too few healthy sources even so.
pub fn add(bytes: &[u8]) -> Result<(), Errno> {
    sys::entropy_add(bytes)
}

/// State of the sources. Nothing is looked at before the first [`fill`].
pub fn info() -> EntropyInfo {
    sys::entropy_info()
}

//! What the domain's kernel can do and std has no name for.
#![expect(unsafe_code, reason = "the kernel's entry points")]

use libos_sys::EntropyInfo;

/// Feeds the kernel's generator; whether the bytes were good, and the generator works.
pub fn add_entropy(bytes: &[u8]) -> bool {
    // SAFETY: a slice.
    unsafe { libos_sys::libos_entropy_add(bytes.as_ptr(), bytes.len()) == 0 }
}

/// State of the kernel's sources.
pub fn entropy_info() -> EntropyInfo {
    let mut info = EntropyInfo::default();
    libos_sys::libos_entropy_info(&mut info);
    info
}

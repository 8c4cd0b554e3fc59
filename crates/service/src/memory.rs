//! The state of the domain's memory.

pub use libos_sys::MemoryInfo;

/// Pages in total, pages free, and where the parts of the image lie.
pub fn info() -> MemoryInfo {
    crate::sys::memory_info()
}

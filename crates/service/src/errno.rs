//! Errors of the kernel.

/// A negated `errno` value from the kernel, above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Splits a kernel result into value and error.
    pub fn check(result: i64) -> Result<u64, Errno> {
        u64::try_from(result).map_err(|_| Errno(-result as i32))
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match xen_abi::errno::name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

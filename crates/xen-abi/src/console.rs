//! The console page: two byte rings (`xen/io/console.h`, `struct xencons_interface`).
//!
//! The domain writes `out` and reads `in`; the console daemon does the opposite. The index arithmetic is in
//! [`crate::ring`].

use crate::ring::Ring;

/// The input ring.
pub const IN: Ring = Ring::new(IN_SIZE);
/// The output ring.
pub const OUT: Ring = Ring::new(OUT_SIZE);

/// Bytes of the input ring.
pub const IN_SIZE: u32 = 1024;
/// Bytes of the output ring.
pub const OUT_SIZE: u32 = 2048;

/// Offset of the input ring in the page.
pub const IN_OFFSET: usize = 0;
/// Offset of the output ring.
pub const OUT_OFFSET: usize = 1024;
/// Offset of `in_cons` (`u32`; written by the domain).
pub const IN_CONS_OFFSET: usize = 3072;
/// Offset of `in_prod` (`u32`; written by the daemon).
pub const IN_PROD_OFFSET: usize = 3076;
/// Offset of `out_cons` (`u32`; written by the daemon).
pub const OUT_CONS_OFFSET: usize = 3080;
/// Offset of `out_prod` (`u32`; written by the domain).
pub const OUT_PROD_OFFSET: usize = 3084;
/// Bytes of the structure.
pub const INTERFACE_SIZE: usize = 3088;

//! What a `no_std` service needs around its `main`: start code, heap, console, threads, clock, random numbers, xenstore.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! service::main!(main);
//!
//! fn main() -> i32 {
//!     service::println!("hello from {:?}", service::boot().mode);
//!     0
//! }
//! ```
//!
//! Everything goes through the functions of `libos_sys`; a service with Rust's `std` uses `std` instead of this
//! crate and the same kernel below. Only builds with `--cfg casemate` have the parts that need the kernel.

#![no_std]
#![cfg(casemate)]

extern crate alloc;

mod allocator;
mod arguments;
pub mod console;
#[path = "../../libos/src/mm/mem.rs"]
mod mem;
pub mod memory;
pub mod random;
mod start;
pub mod sync;
pub mod sys;
pub mod thread;
pub mod time;
pub mod xenstore;

pub use arguments::{args, env};
pub use start::{Boot, boot, exit, panic_exit};

/// Names the function that the service begins with: `fn() -> i32`, whose result is the domain's exit status.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        const _: () = {
            #[allow(unsafe_code)]
            // SAFETY: the one definition of this symbol in the image; `casemate-service` declares it the same.
            #[unsafe(no_mangle)]
            extern "C" fn libos_service_main() -> i32 {
                let main: fn() -> i32 = $main;
                main()
            }
        };
    };
}

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

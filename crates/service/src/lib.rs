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
//! crate and the same kernel below. Only builds with `--cfg casemate` have the parts that need the kernel; what is there
//! for Linux, too, is [`server!`], which makes a domain and a process for debugging out of one function.

#![cfg_attr(casemate, no_std)]

extern crate alloc;

#[cfg(casemate)]
mod allocator;
#[cfg(casemate)]
mod arguments;
#[cfg(casemate)]
pub mod console;
#[cfg(casemate)]
mod errno;
#[cfg(casemate)]
#[path = "../../libos/src/mm/mem.rs"]
mod mem;
#[cfg(casemate)]
pub mod memory;
#[cfg(casemate)]
pub mod random;
#[cfg(feature = "idc")]
pub mod server;
#[cfg(casemate)]
mod start;
#[cfg(casemate)]
pub mod sync;
#[cfg(casemate)]
pub mod sys;
#[cfg(casemate)]
pub mod thread;
#[cfg(casemate)]
pub mod time;
#[cfg(casemate)]
pub mod xenstore;

#[cfg(casemate)]
pub use arguments::{args, env};
#[cfg(casemate)]
pub use errno::Errno;
#[cfg(casemate)]
pub use start::{Boot, boot, exit, panic_exit};

/// Names the function that the service begins with: `fn() -> i32`, whose result is the domain's exit status.
#[cfg(casemate)]
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

//! The tool chain of Casemate: from C and Rust source to a domain image, with the tools of the machine.
//!
//! The target is "fully defined" in the sense of HPL-2007-69, section 3.1: `x86_64-casemate-linux-musl-gcc`
//! finds headers, libraries, start code and linker script by itself, so autoconf, CMake, meson and cargo
//! packages build unchanged. There is no compiler of our own. An installed SDK is
//!
//! ```text
//! bin/x86_64-casemate-linux-musl-{gcc,cc,clang,ld,ar,...,pkg-config,run}   small shell scripts
//! x86_64-casemate-linux-musl/{include,lib}        musl, whose system calls are calls of the kernel
//! x86_64-casemate-linux-musl/lib/kernel/NAME/     a kernel inside crt1.o, and its linker script
//! libexec/casemate/{ld,check}                     what runs at each link
//! share/casemate/                                 CMake, meson and cargo files
//! ```
//!
//! [`install()`] makes one; [`check`] refuses images that would fail as a domain; [`size`] says what takes the
//! space; [`packages`] builds well-known packages with it, which is how the tool chain itself is tested.
//!
//! Invariants: third-party source is accepted by checksum only; nothing outside the prefix and the cache is
//! written; after the first time no network is needed.

mod assets;
mod cache;
pub mod check;
pub mod conformance;
mod error;
pub mod idc;
mod install;
pub mod kernel;
mod map;
mod musl;
pub mod packages;
mod run;
mod rust;
pub mod size;
mod source;

pub use error::{Error, Result};
pub use install::{KernelFiles, Options, Sdk, install};
pub use musl::MUSL_VERSION;

/// The target's name in GNU form: every `config.sub` accepts it.
pub const TARGET: &str = "x86_64-casemate-linux-musl";

/// The Rust target for kernel, services and std programs.
pub const RUST_TARGET: &str = "x86_64-unknown-linux-musl";

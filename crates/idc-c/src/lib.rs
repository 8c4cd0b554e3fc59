//! The C API of IDC: `idc.h`, `libidc.a` and `libidc.so`.
//!
//! This is a layer over the public API of `casemate-idc` and the room for `unsafe` at the boundary to C: pointers and
//! lengths are checked here, handles are looked up, errors become numbers. Nothing of the protocol is here.
//!
//! # Handles
//! A program holds pointers to slots that are never freed, only reused ([`handle`]). So a handle that has been closed
//! is recognised (`IDC_E_CLOSED`), and so are two threads in one handle at a time (`IDC_E_BUSY`). What cannot be
//! checked: a pointer that no function of this library has given out, and a buffer that is shorter than its length says.
//!
//! # Panics
//! There should be none. Should there be one, it ends the process (or the domain): the functions are `extern "C"`,
//! out of which nothing unwinds.
//!
//! # Places
//! For Linux programs it is built with `std`. For domains (`--cfg casemate`) it is `no_std`, with the allocator
//! of the C library that it is linked with ([`runtime`]).
#![cfg_attr(casemate, no_std)]
#![expect(non_camel_case_types, reason = "types with the names that they have in C")]

extern crate alloc;

mod channel;
mod code;
mod context;
mod handle;
mod last;
mod memory;
mod polling;
#[cfg(casemate)]
mod runtime;

//! The library OS kernel of Casemate.
//!
//! One vCPU, one address space, one privilege level; cooperative threads; no interrupt handler: event upcalls
//! stay masked, so nothing ever runs in between two instructions, and prebuilt code that uses the red zone is
//! safe in the kernel's ring. One image boots as a PV and as a PVH domain.
//!
//! `unsafe` lives in `arch` (processor and hypercalls), `mm` (page tables and raw memory), `sched` (stacks),
//! `start` (the first stack) and `sys` (the application's pointers). `xen` and the rest are safe.

#![cfg_attr(not(test), no_std)]

#[cfg(not(test))]
pub mod report;
#[cfg(not(test))]
pub mod sched;
#[cfg(not(test))]
pub mod start;
#[cfg(not(test))]
pub mod sys;
#[cfg(not(test))]
pub mod xen;

pub mod arch;
pub mod cmdline;
pub mod entropy;
pub mod mm;
pub mod pvclock;

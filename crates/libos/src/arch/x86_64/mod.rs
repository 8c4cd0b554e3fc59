//! x86-64 under Xen: boot, hypercalls, traps, context switch.

#[cfg(not(test))]
mod boot;
pub mod cpu;
pub mod hypercall;
pub mod image;
#[cfg(not(test))]
pub mod pv;
#[cfg(not(test))]
pub mod pvh;
pub mod switch;
#[cfg(not(test))]
pub mod traps;

//! Boots Xen with a Linux dom0, runs domains and jobs in it, collects results.
//!
//! On a machine without Xen, [`TestBed::boot`] builds a dom0 image from the packages that are installed
//! (hypervisor, toolstack, Linux kernel, busybox), boots it in QEMU and talks with the project's agent in
//! dom0; on a machine that is a dom0 itself, [`TestBed::native`] starts the same agent as a program.
//! [`TestBed::open`] picks. One boot serves any number of domains and jobs.
//!
//! Invariants:
//! - No QEMU outlives the process that booted it: the kernel kills QEMU when its parent dies, and dropping
//!   a [`TestBed`] kills it before.
//! - Time limits grow with the observed time of the boot ([`Limits`]): an emulated or busy machine is slow,
//!   not broken.
//! - An error says what happened and quotes the last lines of dom0's console.
//!
//! Without the feature `bed` only [`proto`] and [`link`] are left, which the agent shares.
#![forbid(unsafe_code)]

pub mod proto;

#[cfg(feature = "bed")]
mod bed;
#[cfg(feature = "bed")]
mod domain;
#[cfg(feature = "bed")]
mod error;
#[cfg(feature = "bed")]
pub mod gdb;
#[cfg(feature = "bed")]
pub mod host;
#[cfg(feature = "bed")]
mod image;
#[cfg(feature = "bed")]
pub mod kvm;
#[cfg(feature = "bed")]
mod limits;
pub mod link;
#[cfg(feature = "bed")]
mod linux;
#[cfg(feature = "bed")]
mod qemu;
#[cfg(feature = "bed")]
mod rundir;

#[cfg(feature = "bed")]
pub use self::{
    bed::{Accel, Config, Output, Progress, TestBed},
    domain::{Domain, DomainConfig, DomainReport, command_line},
    error::Error,
    image::{GuestFiles, unpack_kernel},
    limits::Limits,
    linux::{LinuxConfig, LinuxGuest},
};

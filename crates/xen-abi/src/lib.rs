//! Xen's public ABI as plain types, and the codecs that speak its shared-memory protocols without
//! doing any I/O.
//!
//! The types have the layout of Xen's public headers (`xen/*.h`, x86-64) and keep their names: the
//! structure `struct evtchn_alloc_unbound` is [`evtchn::AllocUnbound`], and a constant is the C name in
//! upper case without leading underscores, so `SCHEDOP_poll` is [`sched::SCHEDOP_POLL`] and
//! `__HYPERVISOR_sched_op` is [`hypercall::HYPERVISOR_SCHED_OP`]. Each module names the header that it
//! mirrors. `tests/layout.rs` compares every size, offset and constant with those headers.
//!
//! # Invariants
//! - No `unsafe`, no allocation, no I/O, no panic on any input.
//! - A pointer that Xen reads or writes is a `u64` here; whoever makes the hypercall answers for it.
//! - What another domain (or xenstored) wrote is an allegation. Codecs check it and say what is wrong
//!   with it; they never index, loop or allocate on its word alone. The caller reads shared memory
//!   once and hands over the private copy.
//!
//! # Layout and padding
//! Structures are `repr(C)` with the same implicit padding as in C. They go to Xen only, never to another
//! domain, except for [`gnttab::GrantEntryV1`], which has no padding.
#![no_std]
#![forbid(unsafe_code)]

pub mod callback;
pub mod console;
pub mod cpuid;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod evtchn;
pub mod gnttab;
pub mod hvm;
pub mod hypercall;
pub mod memory;
pub mod mmu;
pub mod ring;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod trap;
pub mod vcpu;
pub mod version;
pub mod xenstore;

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Bytes in a page; also the unit of every frame number.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A domain's id (`domid_t`, `xen.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DomId(pub u16);

/// First id that no ordinary domain has (`DOMID_FIRST_RESERVED`).
pub const DOMID_FIRST_RESERVED: DomId = DomId(0x7ff0);
/// The caller itself (`DOMID_SELF`).
pub const DOMID_SELF: DomId = DomId(0x7ff0);
/// Owner of I/O memory, for page-table updates (`DOMID_IO`).
pub const DOMID_IO: DomId = DomId(0x7ff1);
/// The hypervisor's own memory (`DOMID_XEN`).
pub const DOMID_XEN: DomId = DomId(0x7ff2);
/// Unknown owner (`DOMID_INVALID`).
pub const DOMID_INVALID: DomId = DomId(0x7ff4);
/// The idle domain (`DOMID_IDLE`).
pub const DOMID_IDLE: DomId = DomId(0x7fff);
/// Bits of a valid domain id (`DOMID_MASK`).
pub const DOMID_MASK: u16 = 0x7fff;

impl DomId {
    /// Whether this can be the id of an ordinary domain (below [`DOMID_FIRST_RESERVED`]).
    pub const fn is_ordinary(self) -> bool {
        self.0 < DOMID_FIRST_RESERVED.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Index into the granting domain's grant table (`grant_ref_t`, `grant_table.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An event-channel port of one domain (`evtchn_port_t`, `event_channel.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EvtchnPort(pub u32);

impl fmt::Display for EvtchnPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Pseudo-physical frame number: the index of a page in the domain's own view of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(pub u64);

/// Guest frame number: what a hypercall takes for a page of the domain. In a translated (PVH) domain it
/// equals the [`Pfn`], in a PV domain the [`Mfn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gfn(pub u64);

/// Machine frame number: the index of a page in the machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mfn(pub u64);

impl Mfn {
    /// Machine address of the first byte of the frame. Frame numbers have at most 40 bits on x86-64; higher
    /// bits are lost.
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

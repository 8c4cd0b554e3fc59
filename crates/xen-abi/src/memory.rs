//! Memory reservation and the physmap: [`HYPERVISOR_MEMORY_OP`](crate::hypercall::HYPERVISOR_MEMORY_OP)
//! (`xen/memory.h`).

use crate::{DomId, Gfn};

/// Allocates extents; returns how many. Argument: [`Reservation`].
pub const XENMEM_INCREASE_RESERVATION: u32 = 0;
/// Frees extents; returns how many. Argument: [`Reservation`].
pub const XENMEM_DECREASE_RESERVATION: u32 = 1;
/// Returns the highest frame number of RAM. No argument.
pub const XENMEM_MAXIMUM_RAM_PAGE: u32 = 2;
/// Returns the pages a domain has. Argument: [`MemoryDomain`].
pub const XENMEM_CURRENT_RESERVATION: u32 = 3;
/// Returns the pages a domain may have. Argument: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_RESERVATION: u32 = 4;
/// Lists the frames of the machine-to-physical table.
pub const XENMEM_MACHPHYS_MFN_LIST: u32 = 5;
/// Populates guest frames; returns how many. Argument: [`Reservation`].
pub const XENMEM_POPULATE_PHYSMAP: u32 = 6;
/// Puts a page at a guest frame (translated domains). Argument: [`AddToPhysmap`].
pub const XENMEM_ADD_TO_PHYSMAP: u32 = 7;
/// Returns the memory map (E820 entries). Argument: [`MemoryMap`].
pub const XENMEM_MEMORY_MAP: u32 = 9;
/// Returns the machine's memory map (dom0). Argument: [`MemoryMap`].
pub const XENMEM_MACHINE_MEMORY_MAP: u32 = 10;
/// Exchanges pages.
pub const XENMEM_EXCHANGE: u32 = 11;
/// Returns where the machine-to-physical table is. Argument: [`MachphysMapping`].
pub const XENMEM_MACHPHYS_MAPPING: u32 = 12;
/// Sets the memory map of a domain.
pub const XENMEM_SET_MEMORY_MAP: u32 = 13;
/// Returns the highest guest frame number in use. Argument: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_GPFN: u32 = 14;
/// Removes a page from a guest frame (translated domains). Argument: [`RemoveFromPhysmap`].
pub const XENMEM_REMOVE_FROM_PHYSMAP: u32 = 15;
/// [`XENMEM_ADD_TO_PHYSMAP`] for a list of pages.
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u32 = 23;
/// Returns pages of a resource, for example of the grant table.
pub const XENMEM_ACQUIRE_RESOURCE: u32 = 28;

/// Space of [`AddToPhysmap`]: the shared info page.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// Space of [`AddToPhysmap`]: pages of the grant table.
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// Space of [`AddToPhysmap`]: guest frames.
pub const XENMAPSPACE_GMFN: u32 = 2;
/// Space of [`AddToPhysmap`]: a range of guest frames.
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// Space of the batched call: frames of another domain.
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;

/// Argument of the reservation calls (`struct xen_memory_reservation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reservation {
    /// Address of an array of `nr_extents` frame numbers (`u64`).
    pub extent_start: u64,
    /// Number of extents.
    pub nr_extents: u64,
    /// Each extent has 2^`extent_order` pages.
    pub extent_order: u32,
    /// `XENMEMF_*` flags; 0 for none.
    pub mem_flags: u32,
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub domid: DomId,
}

/// Argument of calls that take only a domain (`struct xen_memory_domain`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryDomain {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub domid: DomId,
}

/// Argument of [`XENMEM_MACHPHYS_MAPPING`] (`struct xen_machphys_mapping`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MachphysMapping {
    /// Out: first virtual address of the table.
    pub v_start: u64,
    /// Out: first virtual address behind it.
    pub v_end: u64,
    /// Out: highest frame number that may be looked up.
    pub max_mfn: u64,
}

/// Argument of [`XENMEM_ADD_TO_PHYSMAP`] (`struct xen_add_to_physmap`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AddToPhysmap {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub domid: DomId,
    /// Pages, for [`XENMAPSPACE_GMFN_RANGE`] only.
    pub size: u16,
    /// An `XENMAPSPACE_*` value.
    pub space: u32,
    /// Index into that space.
    pub idx: u64,
    /// Where the page shall appear.
    pub gpfn: Gfn,
}

/// Argument of [`XENMEM_REMOVE_FROM_PHYSMAP`] (`struct xen_remove_from_physmap`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub domid: DomId,
    /// Where the page is now.
    pub gpfn: Gfn,
}

/// Argument of [`XENMEM_MEMORY_MAP`] (`struct xen_memory_map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryMap {
    /// In: entries the buffer can hold. Out: entries stored.
    pub nr_entries: u32,
    /// Address of the buffer: an array of [`E820Entry`].
    pub buffer: u64,
}

/// An entry of the memory map, as BIOS call INT 15h AX=E820h returns it: 20 bytes, so the fields are not
/// aligned in an array of them. Not in a Xen header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed)]
pub struct E820Entry {
    /// Base address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// An `XEN_HVM_MEMMAP_TYPE_*` value; see [`crate::start_info`].
    pub kind: u32,
}

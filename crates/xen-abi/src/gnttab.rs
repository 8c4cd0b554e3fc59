//! Grant tables: [`HYPERVISOR_GRANT_TABLE_OP`](crate::hypercall::HYPERVISOR_GRANT_TABLE_OP)
//! (`xen/grant_table.h`), version 1 entries.

use crate::{DomId, GrantRef};

/// A grant table entry, version 1 (`struct grant_entry_v1`). Shared with Xen, which sets
/// [`GTF_READING`] and [`GTF_WRITING`] while the page is mapped: write `frame` and `domid` first, then
/// publish `flags`, and withdraw `flags` with compare-and-exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// `GTF_*` bits.
    pub flags: u16,
    /// Domain that gets the access.
    pub domid: DomId,
    /// Guest frame number of the page.
    pub frame: u32,
}

/// Entries at the start of the table that the toolstack uses.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Entry that grants the console page.
pub const GNTTAB_RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// Entry that grants the xenstore page.
pub const GNTTAB_RESERVED_XENSTORE: GrantRef = GrantRef(1);
/// Version 1 entries in a page of the grant table.
pub const ENTRIES_PER_FRAME: u32 = (crate::PAGE_SIZE / size_of::<GrantEntryV1>()) as u32;

/// Entry type: no access.
pub const GTF_INVALID: u16 = 0;
/// Entry type: the peer may map the page.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Entry type: the peer may transfer a page.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Entry type: passes on another domain's grant.
pub const GTF_TRANSITIVE: u16 = 3;
/// Bits of the entry type.
pub const GTF_TYPE_MASK: u16 = 3;
/// The peer may only read.
pub const GTF_READONLY: u16 = 1 << 2;
/// Set by Xen: mapped for reading.
pub const GTF_READING: u16 = 1 << 3;
/// Set by Xen: mapped for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// Caching attribute of the peer's mapping: PWT.
pub const GTF_PWT: u16 = 1 << 5;
/// Caching attribute of the peer's mapping: PCD.
pub const GTF_PCD: u16 = 1 << 6;
/// Caching attribute of the peer's mapping: PAT.
pub const GTF_PAT: u16 = 1 << 7;
/// Only a part of the page (version 2 entries).
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Maps granted pages. Argument: array of [`MapGrantRef`].
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// Unmaps granted pages. Argument: array of [`UnmapGrantRef`].
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// Sizes the grant table and (PV) returns its frames. Argument: [`SetupTable`].
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// Prints a grant table to Xen's log.
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// Transfers pages to another domain.
pub const GNTTABOP_TRANSFER: u32 = 4;
/// Copies between domains.
pub const GNTTABOP_COPY: u32 = 5;
/// Asks for the size of a grant table. Argument: [`QuerySize`].
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// Unmaps a page and puts another mapping in its place.
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// Chooses the version of the entries. Argument: [`SetVersion`].
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// Returns the status frames (version 2 entries).
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// Asks for the version of the entries. Argument: [`GetVersion`].
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// Swaps two entries.
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// Flushes a granted page from the caches.
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;

/// Map for devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// Map for the CPU.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map read-only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// The mapping is for user mode too.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `host_addr` is the machine address of the page-table entry, not a virtual address (PV).
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

/// Argument of [`GNTTABOP_MAP_GRANT_REF`] (`struct gnttab_map_grant_ref`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MapGrantRef {
    /// Where: a virtual address in a PV domain (or see [`GNTMAP_CONTAINS_PTE`]), a guest-physical
    /// address in a PVH domain.
    pub host_addr: u64,
    /// `GNTMAP_*` bits.
    pub flags: u32,
    /// The peer's grant reference (`ref` in C).
    pub gref: GrantRef,
    /// The granting domain.
    pub dom: DomId,
    /// Out: a `GNTST_*` code.
    pub status: i16,
    /// Out: names the mapping when it is unmapped.
    pub handle: u32,
    /// Out: bus address for devices.
    pub dev_bus_addr: u64,
}

/// Argument of [`GNTTABOP_UNMAP_GRANT_REF`] (`struct gnttab_unmap_grant_ref`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// As it was mapped.
    pub host_addr: u64,
    /// As it was mapped; 0 when not mapped for devices.
    pub dev_bus_addr: u64,
    /// From [`MapGrantRef::handle`].
    pub handle: u32,
    /// Out: a `GNTST_*` code.
    pub status: i16,
}

/// Argument of [`GNTTABOP_SETUP_TABLE`] (`struct gnttab_setup_table`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetupTable {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
    /// Frames wanted.
    pub nr_frames: u32,
    /// Out: a `GNTST_*` code.
    pub status: i16,
    /// Address of an array of `nr_frames` frame numbers (`u64`) that Xen fills.
    pub frame_list: u64,
}

/// Argument of [`GNTTABOP_QUERY_SIZE`] (`struct gnttab_query_size`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct QuerySize {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
    /// Out: frames now.
    pub nr_frames: u32,
    /// Out: frames at most.
    pub max_nr_frames: u32,
    /// Out: a `GNTST_*` code.
    pub status: i16,
}

/// Argument of [`GNTTABOP_SET_VERSION`] (`struct gnttab_set_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetVersion {
    /// 1 or 2; out: the version in use.
    pub version: u32,
}

/// Argument of [`GNTTABOP_GET_VERSION`] (`struct gnttab_get_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GetVersion {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
    /// Zero.
    pub pad: u16,
    /// Out: the version in use.
    pub version: u32,
}

/// Done.
pub const GNTST_OKAY: i16 = 0;
/// Undefined error.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// No such domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// No such grant, or one that does not allow this.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// No such mapping.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Inappropriate virtual address.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Inappropriate device address.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// No translation slot in the I/O MMU.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// Not privileged.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// The page does not allow this.
pub const GNTST_BAD_PAGE: i16 = -9;
/// A copy crosses a page boundary.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// Page address too large.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Try again.
pub const GNTST_EAGAIN: i16 = -12;
/// Out of space.
pub const GNTST_NO_SPACE: i16 = -13;

/// What a `GNTST_*` status code means, in a few words; unknown codes are named as such.
pub const fn status_name(status: i16) -> &'static str {
    match status {
        GNTST_OKAY => "okay",
        GNTST_GENERAL_ERROR => "general error",
        GNTST_BAD_DOMAIN => "no such domain",
        GNTST_BAD_GNTREF => "bad grant reference",
        GNTST_BAD_HANDLE => "bad mapping handle",
        GNTST_BAD_VIRT_ADDR => "bad virtual address",
        GNTST_BAD_DEV_ADDR => "bad device address",
        GNTST_NO_DEVICE_SPACE => "no translation slot in the I/O MMU",
        GNTST_PERMISSION_DENIED => "permission denied",
        GNTST_BAD_PAGE => "bad page",
        GNTST_BAD_COPY_ARG => "copy crosses a page boundary",
        GNTST_ADDRESS_TOO_BIG => "page address too large",
        GNTST_EAGAIN => "not done, try again",
        GNTST_NO_SPACE => "out of space",
        _ => "unknown grant status",
    }
}

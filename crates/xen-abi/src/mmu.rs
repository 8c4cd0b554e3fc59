//! Page tables of a PV domain: [`HYPERVISOR_MMU_UPDATE`](crate::hypercall::HYPERVISOR_MMU_UPDATE),
//! [`HYPERVISOR_MMUEXT_OP`](crate::hypercall::HYPERVISOR_MMUEXT_OP) and
//! [`HYPERVISOR_UPDATE_VA_MAPPING`](crate::hypercall::HYPERVISOR_UPDATE_VA_MAPPING) (`xen/xen.h`), and the
//! bits of an x86-64 page-table entry (Intel SDM, volume 3, 4.5.4).

/// One update (`struct mmu_update`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, with an `MMU_*` command in its two lowest bits.
    pub ptr: u64,
    /// New content.
    pub val: u64,
}

/// Command: checked write.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Command: update of the machine-to-physical table.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// Command: checked write that keeps the accessed and dirty bits.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// Command: checked write of a value that is never translated.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// One extended operation (`struct mmuext_op`; the two C unions are words here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MmuextOp {
    /// An `MMUEXT_*` number.
    pub cmd: u32,
    /// A machine frame number or a virtual address.
    pub arg1: u64,
    /// Number of entries, address of a vCPU mask or source frame.
    pub arg2: u64,
}

/// Pins `arg1` (MFN) as an L1 table.
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Pins `arg1` (MFN) as an L2 table.
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Pins `arg1` (MFN) as an L3 table.
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Pins `arg1` (MFN) as an L4 table.
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Unpins the table `arg1` (MFN).
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Makes `arg1` (MFN) the base of the page tables.
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flushes the local TLB.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flushes the virtual address `arg1` from the local TLB.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flushes the TLBs of the vCPUs in the mask at `arg2`.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flushes `arg1` from the TLBs of the vCPUs in the mask at `arg2`.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flushes all TLBs.
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flushes `arg1` from all TLBs.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Writes back and flushes the caches.
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Sets the local descriptor table: `arg1` address, `arg2` entries.
pub const MMUEXT_SET_LDT: u32 = 13;
/// Makes `arg1` (MFN) the base of the user-mode page tables.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Clears the page `arg1` (MFN).
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copies page `arg2` (MFN) to `arg1` (MFN).
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// Writes back and flushes the caches of all CPUs.
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;

/// Flag of `update_va_mapping`: no flush.
pub const UVMF_NONE: u64 = 0;
/// Flag of `update_va_mapping`: flush the entire TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// Flag of `update_va_mapping`: flush one entry.
pub const UVMF_INVLPG: u64 = 2;
/// Flag of `update_va_mapping`: mask of the kind of flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// Flag of `update_va_mapping`: the local TLB only.
pub const UVMF_LOCAL: u64 = 0;
/// Flag of `update_va_mapping`: all TLBs.
pub const UVMF_ALL: u64 = 1 << 2;

/// Page-table entry: present.
pub const PTE_PRESENT: u64 = 1 << 0;
/// Page-table entry: writable.
pub const PTE_RW: u64 = 1 << 1;
/// Page-table entry: user mode may use it. Xen sets it for PV kernels, which run in ring 3.
pub const PTE_USER: u64 = 1 << 2;
/// Page-table entry: write-through.
pub const PTE_PWT: u64 = 1 << 3;
/// Page-table entry: cache disabled.
pub const PTE_PCD: u64 = 1 << 4;
/// Page-table entry: has been used.
pub const PTE_ACCESSED: u64 = 1 << 5;
/// Page-table entry: has been written through.
pub const PTE_DIRTY: u64 = 1 << 6;
/// Page-table entry at level 2 or 3: maps a large page. Not allowed in a PV domain.
pub const PTE_PSE: u64 = 1 << 7;
/// Page-table entry at level 1: third bit of the memory type.
pub const PTE_PAT: u64 = 1 << 7;
/// Page-table entry: survives a reload of CR3. Xen owns it in PV domains.
pub const PTE_GLOBAL: u64 = 1 << 8;
/// Page-table entry: not executable.
pub const PTE_NX: u64 = 1 << 63;
/// Page-table entry: bits of the frame's address.
pub const PTE_ADDR_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Entries in a page table.
pub const PTES_PER_TABLE: usize = 512;

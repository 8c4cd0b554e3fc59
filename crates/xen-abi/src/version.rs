//! Version and features of the hypervisor: [`HYPERVISOR_XEN_VERSION`](crate::hypercall::HYPERVISOR_XEN_VERSION)
//! (`xen/version.h`, `xen/features.h`).

/// Returns `major << 16 | minor`. No argument.
pub const XENVER_VERSION: u32 = 0;
/// Stores the rest of the version, at most [`XEN_EXTRAVERSION_LEN`] bytes. Argument: buffer.
pub const XENVER_EXTRAVERSION: u32 = 1;
/// Stores the capabilities.
pub const XENVER_CAPABILITIES: u32 = 3;
/// Stores where the hypervisor's hole in the address space starts. Argument: [`PlatformParameters`].
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// Stores a word of feature bits. Argument: [`FeatureInfo`].
pub const XENVER_GET_FEATURES: u32 = 6;
/// Returns the page size. No argument.
pub const XENVER_PAGESIZE: u32 = 7;
/// Stores the domain's UUID, 16 bytes. Argument: buffer.
pub const XENVER_GUEST_HANDLE: u32 = 8;

/// Bytes of the buffer for [`XENVER_EXTRAVERSION`] (`XEN_EXTRAVERSION_LEN`).
pub const XEN_EXTRAVERSION_LEN: usize = 16;

/// Argument of [`XENVER_PLATFORM_PARAMETERS`] (`struct xen_platform_parameters`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PlatformParameters {
    /// Out: first address of the hypervisor's hole.
    pub virt_start: u64,
}

/// Argument of [`XENVER_GET_FEATURES`] (`struct xen_feature_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FeatureInfo {
    /// Which word, below [`XENFEAT_NR_SUBMAPS`].
    pub submap_idx: u32,
    /// Out: bit N is feature N of that word.
    pub submap: u32,
}

/// Words of feature bits.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;
/// Feature: page tables need no write protection.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// Feature: descriptor tables need no write protection.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// Feature: the hypervisor translates guest frames (HVM and PVH).
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// Feature: the kernel runs in ring 0.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// Feature: top-level page tables may lie above 4 GiB.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// Feature: [`crate::mmu::MMU_PT_UPDATE_PRESERVE_AD`] works.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// Feature: `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE` work.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// Feature: mapped grants keep the available bits of the entry.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// Feature: events can come as an interrupt vector.
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// Feature: pvclock is safe in HVM domains.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// Feature: HVM domains can use physical interrupts.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// Feature: works as dom0.
pub const XENFEAT_DOM0: u32 = 11;
/// Feature: `XENMEMF_vnode` works.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// Feature (Linux): the ACPI root pointer may lie anywhere.
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// Feature: guest frames are not machine frames.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// Feature: guest frames are machine frames.
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;

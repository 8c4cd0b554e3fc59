//! Xen's CPUID leaves and the MSR behind them (`xen/arch-x86/cpuid.h`).
//!
//! The leaves start at [`XEN_CPUID_FIRST_LEAF`], or at the next multiple of 0x100 when another interface is
//! offered too: look for the signature at each. A PV domain sees them only through the emulated `cpuid` (see
//! [`XEN_EMULATE_PREFIX`](crate::trap::XEN_EMULATE_PREFIX)).

/// Where the leaves start at the earliest.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// Distance of the places where they may start.
pub const XEN_CPUID_LEAF_STRIDE: u32 = 0x100;
/// Where a search for them ends (exclusive), as in Linux and in Xen's own test framework.
pub const XEN_CPUID_LEAF_END: u32 = 0x4001_0000;

/// Signature in EBX: `XenV`.
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// Signature in ECX: `MMXe`.
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// Signature in EDX: `nVMM`.
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;

/// Leaf (from the first): EAX the highest leaf, EBX to EDX the signature.
pub const LEAF_SIGNATURE: u32 = 0;
/// Leaf: EAX `major << 16 | minor`.
pub const LEAF_VERSION: u32 = 1;
/// Leaf: EAX number of hypercall pages, EBX the MSR that takes the physical address of the first.
pub const LEAF_HYPERCALL_PAGE: u32 = 2;
/// Leaf: time. Sub-leaf 0: ECX the frequency of the time-stamp counter in kHz.
pub const LEAF_TIME: u32 = 3;
/// Leaf: HVM features in EAX, vCPU id in EBX, domain id in ECX.
pub const LEAF_HVM: u32 = 4;
/// Leaf: PV parameters.
pub const LEAF_PV: u32 = 5;

/// HVM feature: virtualised APIC registers.
pub const XEN_HVM_CPUID_APIC_ACCESS_VIRT: u32 = 1 << 0;
/// HVM feature: virtualised x2APIC.
pub const XEN_HVM_CPUID_X2APIC_VIRT: u32 = 1 << 1;
/// HVM feature: mapped grants have I/O MMU entries.
pub const XEN_HVM_CPUID_IOMMU_MAPPINGS: u32 = 1 << 2;
/// HVM feature: EBX holds the vCPU id.
pub const XEN_HVM_CPUID_VCPU_ID_PRESENT: u32 = 1 << 3;
/// HVM feature: ECX holds the domain id.
pub const XEN_HVM_CPUID_DOMID_PRESENT: u32 = 1 << 4;

/// Whether the registers of a leaf 0 are Xen's.
pub const fn is_xen(ebx: u32, ecx: u32, edx: u32) -> bool {
    ebx == XEN_CPUID_SIGNATURE_EBX && ecx == XEN_CPUID_SIGNATURE_ECX && edx == XEN_CPUID_SIGNATURE_EDX
}

//! The page that Xen and the domain share (`xen/xen.h`, `xen/arch-x86/xen.h`).
//!
//! Xen writes to it at any time. Do not make a reference to one of these structures in place: read single
//! fields with volatile or atomic accesses at the offsets given here. The structures are for private copies.

/// vCPUs that have a place in [`SharedInfo`].
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;

/// Time of a vCPU (`struct vcpu_time_info`), also known as pvclock.
///
/// Odd `version`: an update is under way. Take a copy between two equal, even values of `version`.
/// System time in nanoseconds is `system_time + (((tsc - tsc_timestamp) << tsc_shift) *
/// tsc_to_system_mul) >> 32`, with a right shift when `tsc_shift` is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Version counter.
    pub version: u32,
    /// Nothing.
    pub pad0: u32,
    /// Time-stamp counter at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot of the hypervisor at the last update.
    pub system_time: u64,
    /// Multiplier.
    pub tsc_to_system_mul: u32,
    /// Shift, from -31 to 31.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*` bits.
    pub flags: u8,
    /// Nothing.
    pub pad1: [u8; 2],
}

/// The time-stamp counters of all CPUs agree.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1 << 0;
/// The domain was paused.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

/// Per-vCPU words of the architecture (`struct arch_vcpu_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Address of the last page fault (PV).
    pub cr2: u64,
    /// Nothing.
    pub pad: u64,
}

/// State of a vCPU (`struct vcpu_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuInfo {
    /// Set by Xen when an event is pending; cleared by the domain before it looks.
    pub evtchn_upcall_pending: u8,
    /// 1: no upcalls.
    pub evtchn_upcall_mask: u8,
    /// Bit N: word N of `evtchn_pending` may have work.
    pub evtchn_pending_sel: u64,
    /// Words of the architecture.
    pub arch: ArchVcpuInfo,
    /// Time.
    pub time: VcpuTimeInfo,
}

/// Part of the architecture (`struct arch_shared_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Entries of the frame list.
    pub max_pfn: u64,
    /// Frame of the root of the three-level frame list (PV; needed for save and migrate).
    pub pfn_to_mfn_frame_list_list: u64,
    /// Reason of a non-maskable interrupt.
    pub nmi_reason: u64,
    /// CR3 value under which `p2m_vaddr` is valid; 0: not set.
    pub p2m_cr3: u64,
    /// Virtual address of the linear frame list.
    pub p2m_vaddr: u64,
    /// Odd while the frame list is changing.
    pub p2m_generation: u64,
}

/// The shared page (`struct shared_info`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SharedInfo {
    /// vCPUs.
    pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
    /// One bit per port: an event is pending.
    pub evtchn_pending: [u64; 64],
    /// One bit per port: no upcall.
    pub evtchn_mask: [u64; 64],
    /// Version counter of the wall clock.
    pub wc_version: u32,
    /// Unix time at the start of system time, seconds (low word).
    pub wc_sec: u32,
    /// Nanoseconds.
    pub wc_nsec: u32,
    /// Seconds (high word).
    pub wc_sec_hi: u32,
    /// Part of the architecture.
    pub arch: ArchSharedInfo,
}

use core::mem::offset_of;

/// Offset of vCPU 0 in [`SharedInfo`].
pub const SHARED_INFO_VCPU_INFO_OFFSET: usize = offset_of!(SharedInfo, vcpu_info);
/// Offset of `evtchn_pending` in [`SharedInfo`].
pub const SHARED_INFO_EVTCHN_PENDING_OFFSET: usize = offset_of!(SharedInfo, evtchn_pending);
/// Offset of `evtchn_mask` in [`SharedInfo`].
pub const SHARED_INFO_EVTCHN_MASK_OFFSET: usize = offset_of!(SharedInfo, evtchn_mask);
/// Offset of `wc_version` in [`SharedInfo`].
pub const SHARED_INFO_WC_VERSION_OFFSET: usize = offset_of!(SharedInfo, wc_version);
/// Offset of `wc_sec` in [`SharedInfo`].
pub const SHARED_INFO_WC_SEC_OFFSET: usize = offset_of!(SharedInfo, wc_sec);
/// Offset of `wc_nsec` in [`SharedInfo`].
pub const SHARED_INFO_WC_NSEC_OFFSET: usize = offset_of!(SharedInfo, wc_nsec);
/// Offset of `wc_sec_hi` in [`SharedInfo`].
pub const SHARED_INFO_WC_SEC_HI_OFFSET: usize = offset_of!(SharedInfo, wc_sec_hi);
/// Offset of `arch` in [`SharedInfo`].
pub const SHARED_INFO_ARCH_OFFSET: usize = offset_of!(SharedInfo, arch);
/// Offset of `evtchn_upcall_pending` in [`VcpuInfo`].
pub const VCPU_INFO_UPCALL_PENDING_OFFSET: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
/// Offset of `evtchn_upcall_mask` in [`VcpuInfo`].
pub const VCPU_INFO_UPCALL_MASK_OFFSET: usize = offset_of!(VcpuInfo, evtchn_upcall_mask);
/// Offset of `evtchn_pending_sel` in [`VcpuInfo`].
pub const VCPU_INFO_PENDING_SEL_OFFSET: usize = offset_of!(VcpuInfo, evtchn_pending_sel);
/// Offset of `arch.cr2` in [`VcpuInfo`].
pub const VCPU_INFO_CR2_OFFSET: usize = offset_of!(VcpuInfo, arch.cr2);
/// Offset of `time` in [`VcpuInfo`].
pub const VCPU_INFO_TIME_OFFSET: usize = offset_of!(VcpuInfo, time);

/// Offset of `version` in [`VcpuTimeInfo`].
pub const TIME_INFO_VERSION_OFFSET: usize = offset_of!(VcpuTimeInfo, version);
/// Offset of `tsc_timestamp` in [`VcpuTimeInfo`].
pub const TIME_INFO_TSC_TIMESTAMP_OFFSET: usize = offset_of!(VcpuTimeInfo, tsc_timestamp);
/// Offset of `system_time` in [`VcpuTimeInfo`].
pub const TIME_INFO_SYSTEM_TIME_OFFSET: usize = offset_of!(VcpuTimeInfo, system_time);
/// Offset of `tsc_to_system_mul` in [`VcpuTimeInfo`].
pub const TIME_INFO_TSC_TO_SYSTEM_MUL_OFFSET: usize = offset_of!(VcpuTimeInfo, tsc_to_system_mul);
/// Offset of `tsc_shift` in [`VcpuTimeInfo`].
pub const TIME_INFO_TSC_SHIFT_OFFSET: usize = offset_of!(VcpuTimeInfo, tsc_shift);
/// Offset of `flags` in [`VcpuTimeInfo`].
pub const TIME_INFO_FLAGS_OFFSET: usize = offset_of!(VcpuTimeInfo, flags);

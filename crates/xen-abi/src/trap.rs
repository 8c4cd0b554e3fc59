//! Exceptions and segments of a PV domain (`xen/arch-x86/xen.h`, `xen/arch-x86/xen-x86_64.h`).

/// One exception entry (`struct trap_info`); the array for
/// [`HYPERVISOR_SET_TRAP_TABLE`](crate::hypercall::HYPERVISOR_SET_TRAP_TABLE) ends with `address` 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception vector.
    pub vector: u8,
    /// Bits 0-1: lowest privilege that may raise it by `int`; bit 2: mask events on entry.
    pub flags: u8,
    /// Code selector.
    pub cs: u16,
    /// Address of the handler.
    pub address: u64,
}

/// Flag of [`TrapInfo`]: mask events on entry.
pub const TI_MASK_EVENTS: u8 = 4;

/// Selector: 64-bit code (the kernel runs in ring 3 too).
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Selector: 64-bit stack.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Selector: 64-bit data.
pub const FLAT_RING3_DS64: u16 = 0;
/// Selector: code of the kernel.
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// Selector: data of the kernel.
pub const FLAT_KERNEL_DS: u16 = 0;
/// Selector: stack of the kernel.
pub const FLAT_KERNEL_SS: u16 = 0xe02b;

/// [`HYPERVISOR_SET_SEGMENT_BASE`](crate::hypercall::HYPERVISOR_SET_SEGMENT_BASE): FS.
pub const SEGBASE_FS: u32 = 0;
/// [`HYPERVISOR_SET_SEGMENT_BASE`](crate::hypercall::HYPERVISOR_SET_SEGMENT_BASE): GS of user mode.
pub const SEGBASE_GS_USER: u32 = 1;
/// [`HYPERVISOR_SET_SEGMENT_BASE`](crate::hypercall::HYPERVISOR_SET_SEGMENT_BASE): GS of the kernel.
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// [`HYPERVISOR_SET_SEGMENT_BASE`](crate::hypercall::HYPERVISOR_SET_SEGMENT_BASE): selector of user GS.
pub const SEGBASE_GS_USER_SEL: u32 = 3;

/// Flag in the frame of [`HYPERVISOR_IRET`](crate::hypercall::HYPERVISOR_IRET): return by `sysret`.
pub const VGCF_IN_SYSCALL: u64 = 1 << 8;

/// The frame that [`HYPERVISOR_IRET`](crate::hypercall::HYPERVISOR_IRET) takes from the kernel stack
/// (`struct iret_context`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IretContext {
    /// Register.
    pub rax: u64,
    /// Register.
    pub r11: u64,
    /// Register.
    pub rcx: u64,
    /// `VGCF_*` bits.
    pub flags: u64,
    /// Where to return to.
    pub rip: u64,
    /// Code selector.
    pub cs: u64,
    /// Processor flags; the interrupt flag stands for the event mask, inverted.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u64,
}

/// The bytes that ask Xen to emulate the next `cpuid` (`XEN_EMULATE_PREFIX`): `ud2; .ascii "xen"`.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];

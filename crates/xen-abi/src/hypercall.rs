//! Hypercall numbers and the calls that belong to no other module (`xen/xen.h`).
//!
//! Calling convention on x86-64 (`xen/arch-x86/xen-x86_64.h`): number in `rax`, arguments in `rdi`, `rsi`,
//! `rdx`, `r10`, `r8`, result in `rax`. Every argument register is clobbered, because a preempted
//! hypercall is executed again with changed arguments.

/// Installs the exception table (PV).
pub const HYPERVISOR_SET_TRAP_TABLE: u64 = 0;
/// Updates page-table entries (PV).
pub const HYPERVISOR_MMU_UPDATE: u64 = 1;
/// Installs a descriptor table (PV).
pub const HYPERVISOR_SET_GDT: u64 = 2;
/// Sets the kernel stack (PV).
pub const HYPERVISOR_STACK_SWITCH: u64 = 3;
/// Sets the event, failsafe and system-call entry points (PV).
pub const HYPERVISOR_SET_CALLBACKS: u64 = 4;
/// Sets or clears CR0.TS (PV).
pub const HYPERVISOR_FPU_TASKSWITCH: u64 = 5;
/// Platform control (dom0).
pub const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// Writes a debug register (PV).
pub const HYPERVISOR_SET_DEBUGREG: u64 = 8;
/// Reads a debug register (PV).
pub const HYPERVISOR_GET_DEBUGREG: u64 = 9;
/// Writes a segment descriptor (PV).
pub const HYPERVISOR_UPDATE_DESCRIPTOR: u64 = 10;
/// Memory reservation and physmap; see [`crate::memory`].
pub const HYPERVISOR_MEMORY_OP: u64 = 12;
/// A list of hypercalls in one; see [`MulticallEntry`].
pub const HYPERVISOR_MULTICALL: u64 = 13;
/// Updates the entry that maps a virtual address (PV).
pub const HYPERVISOR_UPDATE_VA_MAPPING: u64 = 14;
/// Sets the one-shot timer, in nanoseconds of system time.
pub const HYPERVISOR_SET_TIMER_OP: u64 = 15;
/// Version and features; see [`crate::version`].
pub const HYPERVISOR_XEN_VERSION: u64 = 17;
/// Xen's own console.
pub const HYPERVISOR_CONSOLE_IO: u64 = 18;
/// Grant tables; see [`crate::gnttab`].
pub const HYPERVISOR_GRANT_TABLE_OP: u64 = 20;
/// Switches compatibility behaviour (PV).
pub const HYPERVISOR_VM_ASSIST: u64 = 21;
/// As `update_va_mapping`, for pages of another domain.
pub const HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN: u64 = 22;
/// Returns from an exception or system call (PV).
pub const HYPERVISOR_IRET: u64 = 23;
/// vCPU control; see [`crate::vcpu`].
pub const HYPERVISOR_VCPU_OP: u64 = 24;
/// Sets the base of FS or GS (PV); see [`crate::trap`].
pub const HYPERVISOR_SET_SEGMENT_BASE: u64 = 25;
/// Extended page-table operations (PV); see [`crate::mmu`].
pub const HYPERVISOR_MMUEXT_OP: u64 = 26;
/// Security module.
pub const HYPERVISOR_XSM_OP: u64 = 27;
/// Non-maskable interrupts.
pub const HYPERVISOR_NMI_OP: u64 = 28;
/// Scheduling; see [`crate::sched`].
pub const HYPERVISOR_SCHED_OP: u64 = 29;
/// Registers entry points (PV); see [`crate::callback`].
pub const HYPERVISOR_CALLBACK_OP: u64 = 30;
/// Profiling.
pub const HYPERVISOR_XENOPROF_OP: u64 = 31;
/// Event channels; see [`crate::evtchn`].
pub const HYPERVISOR_EVENT_CHANNEL_OP: u64 = 32;
/// Physical devices.
pub const HYPERVISOR_PHYSDEV_OP: u64 = 33;
/// HVM parameters; see [`crate::hvm`].
pub const HYPERVISOR_HVM_OP: u64 = 34;
/// System control (dom0).
pub const HYPERVISOR_SYSCTL: u64 = 35;
/// Domain control (dom0).
pub const HYPERVISOR_DOMCTL: u64 = 36;
/// Crash kernels (dom0).
pub const HYPERVISOR_KEXEC_OP: u64 = 37;
/// Argo messages.
pub const HYPERVISOR_ARGO_OP: u64 = 39;
/// Performance counters.
pub const HYPERVISOR_XENPMU_OP: u64 = 40;
/// Device-model operations.
pub const HYPERVISOR_DM_OP: u64 = 41;
/// The hypervisor file system.
pub const HYPERVISOR_HYPFS_OP: u64 = 42;

/// Distance between the entries of the hypercall page, in bytes: entry N is at N * 32.
pub const HYPERCALL_PAGE_STRIDE: usize = 32;

/// [`HYPERVISOR_CONSOLE_IO`]: write to Xen's console (count, buffer).
pub const CONSOLEIO_WRITE: u32 = 0;
/// [`HYPERVISOR_CONSOLE_IO`]: read from Xen's console (count, buffer).
pub const CONSOLEIO_READ: u32 = 1;

/// [`HYPERVISOR_VM_ASSIST`]: switch on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// [`HYPERVISOR_VM_ASSIST`]: switch off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// Emulate writes to bottom-level page tables.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u32 = 2;
/// Sane behaviour of the virtual I/O privilege level.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u32 = 4;

/// [`HYPERVISOR_SET_SEGMENT_BASE`]: the base of FS.
pub const SEGBASE_FS: u32 = 0;

/// One call of [`HYPERVISOR_MULTICALL`] (`struct multicall_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Out: what it returned.
    pub result: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

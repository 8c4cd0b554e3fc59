//! Hypercalls.
//!
//! Xen may re-execute a preempted hypercall with changed argument registers, and a trap into Xen may come at
//! any instruction, so every argument register counts as clobbered and no `nostack` is promised (the red
//! zone below `rsp` must stay unused around the instruction). Arguments go in rdi, rsi, rdx, r10, r8
//! (`xen/arch-x86/xen-x86_64.h`).
//!
//! [`op`] is the safe way in: it takes only argument structs that name their own hypercall and hold no
//! pointer. What needs a pointer has a function of its own here.

#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};
use xen_abi::hypercall::*;
use xen_abi::{DOMID_SELF, DomId, evtchn, gnttab, hvm, memory, mmu, sched, trap};

/// Which instruction enters the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Gate {
    /// PV: `syscall`.
    Syscall = 0,
    /// AMD-V: `vmmcall`.
    Vmmcall = 1,
    /// VT-x: `vmcall`.
    Vmcall = 2,
}

static GATE: AtomicU8 = AtomicU8::new(Gate::Syscall as u8);

/// Chooses the instruction. Called once, before the first hypercall.
pub fn set_gate(gate: Gate) {
    GATE.store(gate as u8, Ordering::Relaxed);
}

/// # Safety
/// The arguments are valid for hypercall `number`: every address among them points at what Xen reads or
/// writes there, and the effect keeps Rust's memory as Rust believes it to be.
unsafe fn raw(number: u64, args: [u64; 4]) -> i64 {
    let result: i64;
    macro_rules! enter {
        ($instruction:literal) => {
            asm!(
                $instruction,
                inlateout("rax") number => result,
                inlateout("rdi") args[0] => _,
                inlateout("rsi") args[1] => _,
                inlateout("rdx") args[2] => _,
                inlateout("r10") args[3] => _,
                lateout("r8") _,
                lateout("rcx") _,
                lateout("r11") _,
            )
        };
    }
    // SAFETY: the caller's promise; the clobbers are those of the ABI.
    unsafe {
        match GATE.load(Ordering::Relaxed) {
            0 => enter!("syscall"),
            1 => enter!("vmmcall"),
            _ => enter!("vmcall"),
        }
    }
    result
}

/// An argument struct that belongs to exactly one hypercall and holds no pointer.
pub trait Op {
    /// Hypercall number.
    const NUMBER: u64;
    /// Sub-operation.
    const COMMAND: u32;
}

/// Argument of `HVMOP_get_param`.
#[repr(transparent)]
struct GetParam(hvm::HvmParam);

/// Argument of `HVMOP_set_param`.
#[repr(transparent)]
struct SetParam(hvm::HvmParam);

macro_rules! ops {
    ($op:ident: $($type:ty => $number:expr, $command:expr;)*) => {
        $(impl $op for $type {
            const NUMBER: u64 = $number;
            const COMMAND: u32 = $command;
        })*
    };
}

ops! { Op:
    evtchn::AllocUnbound => HYPERVISOR_EVENT_CHANNEL_OP, evtchn::EVTCHNOP_ALLOC_UNBOUND;
    evtchn::BindInterdomain => HYPERVISOR_EVENT_CHANNEL_OP, evtchn::EVTCHNOP_BIND_INTERDOMAIN;
    evtchn::Close => HYPERVISOR_EVENT_CHANNEL_OP, evtchn::EVTCHNOP_CLOSE;
    evtchn::Send => HYPERVISOR_EVENT_CHANNEL_OP, evtchn::EVTCHNOP_SEND;
    evtchn::Status => HYPERVISOR_EVENT_CHANNEL_OP, evtchn::EVTCHNOP_STATUS;
    GetParam => HYPERVISOR_HVM_OP, hvm::HVMOP_GET_PARAM;
    SetParam => HYPERVISOR_HVM_OP, hvm::HVMOP_SET_PARAM;
    sched::Shutdown => HYPERVISOR_SCHED_OP, sched::SCHEDOP_SHUTDOWN;
}

ops! { MemoryOp:
    gnttab::MapGrantRef => HYPERVISOR_GRANT_TABLE_OP, gnttab::GNTTABOP_MAP_GRANT_REF;
    gnttab::UnmapGrantRef => HYPERVISOR_GRANT_TABLE_OP, gnttab::GNTTABOP_UNMAP_GRANT_REF;
    memory::AddToPhysmap => HYPERVISOR_MEMORY_OP, memory::XENMEM_ADD_TO_PHYSMAP;
}

/// Issues the hypercall that `arg` belongs to; Xen reads and writes `arg` only. 0 or a positive result, or a
/// negative `errno`.
pub fn op<T: Op>(arg: &mut T) -> i64 {
    // SAFETY: the struct is the one that Xen expects for this number and command, and holds no pointer.
    unsafe { raw(T::NUMBER, [T::COMMAND.into(), (&raw mut *arg) as u64, 1, 0]) }
}

/// An argument struct that belongs to exactly one hypercall and names memory of ours to be used in another way.
pub trait MemoryOp {
    /// Hypercall number.
    const NUMBER: u64;
    /// Sub-operation.
    const COMMAND: u32;
}

/// Issues the hypercall that `arg` belongs to. 0 or a positive result, or a negative `errno`; the status of a grant
/// operation comes back in `arg`.
///
/// # Safety
/// Nothing else lies where memory is to appear (`MapGrantRef::host_addr`, `AddToPhysmap::gpfn`), and nothing uses
/// what is to go (`UnmapGrantRef::host_addr`).
pub unsafe fn memory_op<T: MemoryOp>(arg: &mut T) -> i64 {
    // SAFETY: the struct is the one that Xen expects; the rest is the caller's promise.
    unsafe { raw(T::NUMBER, [T::COMMAND.into(), (&raw mut *arg) as u64, 1, 0]) }
}

/// Argument for [`memory_op`]: puts page `index` of a space at frame `gfn` of this domain. PVH only.
pub fn to_physmap(space: u32, index: u64, gfn: u64) -> memory::AddToPhysmap {
    memory::AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx: index, gpfn: xen_abi::Gfn(gfn) }
}

/// `HVMOP_get_param` for this domain.
pub fn hvm_param(index: u32) -> Option<u64> {
    let mut arg = GetParam(hvm::HvmParam { domid: DOMID_SELF, pad: 0, index, value: 0 });
    let result = op(&mut arg);
    (result == 0 && arg.0.value != 0).then_some(arg.0.value)
}

/// `HVMOP_set_param` for this domain; whether Xen took it. Only for parameters that hold no address.
pub fn set_hvm_param(index: u32, value: u64) -> bool {
    op(&mut SetParam(hvm::HvmParam { domid: DOMID_SELF, pad: 0, index, value })) == 0
}

/// `XENVER_version`: `major << 16 | minor`.
pub fn xen_version() -> u32 {
    // SAFETY: takes no pointer.
    unsafe { raw(HYPERVISOR_XEN_VERSION, [0; 4]) as u32 }
}

/// `SCHEDOP_poll`: blocks until one of `ports` is pending or the system time reaches `timeout` nanoseconds
/// (0: never). At most [`sched::POLL_MAX_PORTS`] ports, and never none without a timeout.
pub fn poll(ports: &[u32], timeout: u64) -> i64 {
    let arg = sched::Poll { ports: ports.as_ptr() as u64, nr_ports: ports.len() as u32, timeout };
    // SAFETY: Xen reads `arg` and the ports, both alive during the call.
    unsafe { raw(HYPERVISOR_SCHED_OP, [sched::SCHEDOP_POLL.into(), &raw const arg as u64, 0, 0]) }
}

/// `GNTTABOP_setup_table` for this domain: grows the table to `frames.len()` frames and stores their machine
/// frame numbers. PV only.
pub fn grant_setup_table(frames: &mut [u64]) -> i64 {
    let mut arg = gnttab::SetupTable {
        dom: DOMID_SELF,
        nr_frames: frames.len() as u32,
        status: 0,
        frame_list: frames.as_mut_ptr() as u64,
    };
    let command = gnttab::GNTTABOP_SETUP_TABLE.into();
    // SAFETY: Xen writes at most `nr_frames` numbers to the list.
    let result = unsafe { raw(HYPERVISOR_GRANT_TABLE_OP, [command, &raw mut arg as u64, 1, 0]) };
    if result == 0 { arg.status.into() } else { result }
}

/// `set_trap_table`. The list ends with an entry whose address is 0. PV only.
///
/// # Safety
/// Every address is that of a trap entry.
pub unsafe fn set_trap_table(table: &[trap::TrapInfo]) -> i64 {
    // SAFETY: the caller's promise; the list ends.
    unsafe { raw(HYPERVISOR_SET_TRAP_TABLE, [table.as_ptr() as u64, 0, 0, 0]) }
}

/// `update_va_mapping` with invalidation of that one translation. PV only.
///
/// # Safety
/// The new entry keeps every live reference at `address` valid.
pub unsafe fn update_va_mapping(address: u64, entry: u64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { raw(HYPERVISOR_UPDATE_VA_MAPPING, [address, entry, mmu::UVMF_INVLPG, 0]) }
}

/// `mmu_update` of page-table entries, followed by a flush of the translations. PV only.
///
/// # Safety
/// The new entries keep every live reference below them valid.
pub unsafe fn mmu_update(updates: &[mmu::MmuUpdate]) -> i64 {
    let flush = mmu::MmuextOp { cmd: mmu::MMUEXT_TLB_FLUSH_LOCAL, ..Default::default() };
    let me: DomId = DOMID_SELF;
    // SAFETY: the caller's promise; Xen only reads the lists.
    unsafe {
        match raw(HYPERVISOR_MMU_UPDATE, [updates.as_ptr() as u64, updates.len() as u64, 0, me.0.into()]) {
            0 => raw(HYPERVISOR_MMUEXT_OP, [&raw const flush as u64, 1, 0, me.0.into()]),
            error => error,
        }
    }
}

/// `set_segment_base` of FS. PV only.
pub fn set_fs_base(base: u64) -> i64 {
    // SAFETY: the kernel uses no FS; what the application finds there is its own business.
    unsafe { raw(HYPERVISOR_SET_SEGMENT_BASE, [SEGBASE_FS.into(), base, 0, 0]) }
}

//! Parameters of an HVM or PVH domain: [`HYPERVISOR_HVM_OP`](crate::hypercall::HYPERVISOR_HVM_OP)
//! (`xen/hvm/hvm_op.h`, `xen/hvm/params.h`).

use crate::DomId;

/// Sets a parameter. Argument: [`HvmParam`].
pub const HVMOP_SET_PARAM: u32 = 0;
/// Reads a parameter. Argument: [`HvmParam`].
pub const HVMOP_GET_PARAM: u32 = 1;

/// Argument of [`HVMOP_SET_PARAM`] and [`HVMOP_GET_PARAM`] (`struct xen_hvm_param`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HvmParam {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub domid: DomId,
    /// Zero.
    pub pad: u16,
    /// An `HVM_PARAM_*` index.
    pub index: u32,
    /// Value.
    pub value: u64,
}

/// How vCPU 0 hears of events; see [`callback_via_vector`].
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// Guest frame number of the xenstore page.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Event channel of xenstore.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// Guest frame number of the console page.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Event channel of the console.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Shutdown reason after a triple fault.
pub const HVM_PARAM_TRIPLE_FAULT_REASON: u32 = 31;

/// Mask of the type in the value of [`HVM_PARAM_CALLBACK_IRQ`].
pub const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xff00_0000_0000_0000;
/// Type in bits 56 to 63: global system interrupt.
pub const HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
/// Type in bits 56 to 63: interrupt line of a PCI device.
pub const HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
/// Type in bits 56 to 63: interrupt vector.
pub const HVM_PARAM_CALLBACK_TYPE_VECTOR: u64 = 2;

/// Value of [`HVM_PARAM_CALLBACK_IRQ`] that delivers events as interrupt `vector`.
pub const fn callback_via_vector(vector: u8) -> u64 {
    (HVM_PARAM_CALLBACK_TYPE_VECTOR << 56) | vector as u64
}

/// I/O port that writes a byte to Xen's log (`XEN_HVM_DEBUGCONS_IOPORT`, `xen/arch-x86/xen.h`).
pub const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xe9;

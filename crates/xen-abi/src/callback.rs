//! Entry points of a PV domain: [`HYPERVISOR_CALLBACK_OP`](crate::hypercall::HYPERVISOR_CALLBACK_OP)
//! (`xen/callback.h`).

/// Registers an entry point. Argument: [`CallbackRegister`].
pub const CALLBACKOP_REGISTER: u32 = 0;
/// Unregisters an entry point.
pub const CALLBACKOP_UNREGISTER: u32 = 1;

/// Entry point for events.
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// Entry point for a guest state that Xen cannot restore.
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// Entry point for `syscall` from 64-bit user mode.
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// Entry point for non-maskable interrupts.
pub const CALLBACKTYPE_NMI: u16 = 4;

/// Mask events on entry (events and non-maskable interrupts do so anyway).
pub const CALLBACKF_MASK_EVENTS: u16 = 1;

/// Argument of [`CALLBACKOP_REGISTER`] (`struct callback_register`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CallbackRegister {
    /// A `CALLBACKTYPE_*` number (`type` in C).
    pub kind: u16,
    /// `CALLBACKF_*` bits.
    pub flags: u16,
    /// Address of the entry point.
    pub address: u64,
}

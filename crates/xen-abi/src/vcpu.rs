//! vCPU control: [`HYPERVISOR_VCPU_OP`](crate::hypercall::HYPERVISOR_VCPU_OP) (`xen/vcpu.h`).

/// Is the vCPU up?
pub const VCPUOP_IS_UP: u32 = 3;
/// Sets the periodic timer. Argument: [`SetPeriodicTimer`].
pub const VCPUOP_SET_PERIODIC_TIMER: u32 = 6;
/// Stops the periodic timer. No argument.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;
/// Sets the one-shot timer. Argument: [`SetSingleshotTimer`].
pub const VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8;
/// Stops the one-shot timer. No argument.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9;
/// Moves the vCPU's information out of the shared info page. Argument: [`RegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;

/// Argument of [`VCPUOP_SET_PERIODIC_TIMER`] (`struct vcpu_set_periodic_timer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetPeriodicTimer {
    /// Period in nanoseconds.
    pub period_ns: u64,
}

/// Argument of [`VCPUOP_SET_SINGLESHOT_TIMER`] (`struct vcpu_set_singleshot_timer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetSingleshotTimer {
    /// System time in nanoseconds.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_*` bits.
    pub flags: u32,
}

/// Flag of [`SetSingleshotTimer`]: fail when the time has passed.
pub const VCPU_SSHOTTMR_FUTURE: u32 = 1;

/// Argument of [`VCPUOP_REGISTER_VCPU_INFO`] (`struct vcpu_register_vcpu_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Guest frame number of the page.
    pub mfn: crate::Gfn,
    /// Offset in the page.
    pub offset: u32,
    /// Zero.
    pub rsvd: u32,
}

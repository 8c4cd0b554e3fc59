//! Scheduling and the end of a domain: [`HYPERVISOR_SCHED_OP`](crate::hypercall::HYPERVISOR_SCHED_OP)
//! (`xen/sched.h`).

/// Gives up the rest of the time slice. No argument.
pub const SCHEDOP_YIELD: u32 = 0;
/// Unmasks events and blocks until one is pending. No argument.
pub const SCHEDOP_BLOCK: u32 = 1;
/// Ends or suspends the domain. Argument: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// Blocks until one of a list of ports is pending or a deadline passes. Argument: [`Poll`].
pub const SCHEDOP_POLL: u32 = 3;
/// Ends another domain (dom0). Argument: [`RemoteShutdown`].
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// Announces the reason of a coming shutdown. Argument: [`Shutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// Sets or feeds a watchdog. Argument: [`Watchdog`].
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// Overrides the vCPU's pinning (dom0).
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;

/// Exited normally.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Start again.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Saved; the start info page is the third argument of the hypercall (PV: its MFN).
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// A watchdog expired.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Stop all vCPUs and bring the domain back to its initial state.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;

/// Largest [`Poll::nr_ports`] that Xen accepts (`do_poll` in Xen's `common/sched/core.c`; not in a header).
pub const POLL_MAX_PORTS: u32 = 128;

/// Argument of [`SCHEDOP_SHUTDOWN`] (`struct sched_shutdown`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Shutdown {
    /// A `SHUTDOWN_*` reason.
    pub reason: u32,
}

/// Argument of [`SCHEDOP_POLL`] (`struct sched_poll`).
///
/// With `nr_ports` of 0 Xen does not look at events that are already pending: a lost wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Poll {
    /// Address of an array of [`EvtchnPort`](crate::EvtchnPort).
    pub ports: u64,
    /// Length of the array, at most [`POLL_MAX_PORTS`].
    pub nr_ports: u32,
    /// Deadline in nanoseconds of system time; 0 for none.
    pub timeout: u64,
}

/// Argument of [`SCHEDOP_REMOTE_SHUTDOWN`] (`struct sched_remote_shutdown`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RemoteShutdown {
    /// The domain.
    pub domain_id: crate::DomId,
    /// A `SHUTDOWN_*` reason.
    pub reason: u32,
}

/// Argument of [`SCHEDOP_WATCHDOG`] (`struct sched_watchdog`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Watchdog {
    /// Which watchdog; 0 allocates one.
    pub id: u32,
    /// Seconds until it bites; 0 disables it.
    pub timeout: u32,
}

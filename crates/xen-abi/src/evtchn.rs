//! Event channels: [`HYPERVISOR_EVENT_CHANNEL_OP`](crate::hypercall::HYPERVISOR_EVENT_CHANNEL_OP)
//! (`xen/event_channel.h`, virtual interrupts from `xen/xen.h`).

use crate::{DomId, EvtchnPort};

/// Binds to an unbound port of another domain. Argument: [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// Binds a virtual interrupt. Argument: [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// Binds a physical interrupt. Argument: [`BindPirq`].
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// Closes a port. Argument: [`Close`].
pub const EVTCHNOP_CLOSE: u32 = 3;
/// Sends an event. Argument: [`Send`].
pub const EVTCHNOP_SEND: u32 = 4;
/// Asks for the state of a port. Argument: [`Status`].
pub const EVTCHNOP_STATUS: u32 = 5;
/// Allocates a port that a remote domain may bind to. Argument: [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// Binds an inter-processor interrupt. Argument: [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// Chooses the vCPU that a port notifies. Argument: [`BindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// Unmasks a port and delivers what is pending. Argument: [`Unmask`].
pub const EVTCHNOP_UNMASK: u32 = 9;
/// Closes all ports of a domain. Argument: [`Reset`].
pub const EVTCHNOP_RESET: u32 = 10;
/// Starts the FIFO ABI.
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// Grows the FIFO event array.
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// Sets a port's FIFO priority.
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;

/// Not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// Waits for the remote domain to bind.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// Connected to a remote domain.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// Bound to a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// Bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// Bound to an inter-processor interrupt.
pub const EVTCHNSTAT_IPI: u32 = 5;

/// Ports of a domain with the two-level ABI on x86-64 (`EVTCHN_2L_NR_CHANNELS`).
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;

/// Virtual interrupt: the vCPU's timer.
pub const VIRQ_TIMER: u32 = 0;
/// Virtual interrupt: request to dump debug information.
pub const VIRQ_DEBUG: u32 = 1;
/// Virtual interrupt (dom0): bytes on the emergency console.
pub const VIRQ_CONSOLE: u32 = 2;
/// Virtual interrupt (dom0): something happened to a domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Virtual interrupt (dom0): bytes on the console ring.
pub const VIRQ_CON_RING: u32 = 8;
/// Virtual interrupt: an Argo message.
pub const VIRQ_ARGO: u32 = 11;
/// Number of virtual interrupts.
pub const NR_VIRQS: u32 = 24;

/// Argument of [`EVTCHNOP_ALLOC_UNBOUND`] (`struct evtchn_alloc_unbound`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AllocUnbound {
    /// Domain that gets the port, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
    /// Domain that may bind to it.
    pub remote_dom: DomId,
    /// Out: the port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_BIND_INTERDOMAIN`] (`struct evtchn_bind_interdomain`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BindInterdomain {
    /// The other domain.
    pub remote_dom: DomId,
    /// Its unbound port.
    pub remote_port: EvtchnPort,
    /// Out: our port.
    pub local_port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_BIND_VIRQ`] (`struct evtchn_bind_virq`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BindVirq {
    /// A `VIRQ_*` number.
    pub virq: u32,
    /// The vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_BIND_PIRQ`] (`struct evtchn_bind_pirq`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BindPirq {
    /// The physical interrupt.
    pub pirq: u32,
    /// 1 when the line is shared.
    pub flags: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_BIND_IPI`] (`struct evtchn_bind_ipi`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BindIpi {
    /// The vCPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_CLOSE`] (`struct evtchn_close`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Close {
    /// The local port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_SEND`] (`struct evtchn_send`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Send {
    /// The local port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_STATUS`] (`struct evtchn_status`). The C union at its end is two words here; read
/// it with [`Status::peer`] and [`Status::irq`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Status {
    /// Domain that has the port, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
    /// The port.
    pub port: EvtchnPort,
    /// Out: an `EVTCHNSTAT_*` value.
    pub status: u32,
    /// Out: vCPU that the port notifies.
    pub vcpu: u32,
    /// Out: the union, as two words.
    pub u: [u32; 2],
}

impl Status {
    /// The remote domain of an unbound or interdomain port, and for the latter the remote port.
    pub const fn peer(&self) -> Option<(DomId, Option<EvtchnPort>)> {
        // The domain id is the low half of the first word; the high half is padding.
        let dom = DomId((self.u[0] & 0xffff) as u16);
        match self.status {
            EVTCHNSTAT_UNBOUND => Some((dom, None)),
            EVTCHNSTAT_INTERDOMAIN => Some((dom, Some(EvtchnPort(self.u[1])))),
            _ => None,
        }
    }

    /// The number of the physical or virtual interrupt that the port is bound to.
    pub const fn irq(&self) -> Option<u32> {
        match self.status {
            EVTCHNSTAT_PIRQ | EVTCHNSTAT_VIRQ => Some(self.u[0]),
            _ => None,
        }
    }
}

/// Argument of [`EVTCHNOP_BIND_VCPU`] (`struct evtchn_bind_vcpu`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BindVcpu {
    /// The local port.
    pub port: EvtchnPort,
    /// The vCPU.
    pub vcpu: u32,
}

/// Argument of [`EVTCHNOP_UNMASK`] (`struct evtchn_unmask`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Unmask {
    /// The local port.
    pub port: EvtchnPort,
}

/// Argument of [`EVTCHNOP_RESET`] (`struct evtchn_reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reset {
    /// The domain, usually [`DOMID_SELF`](crate::DOMID_SELF).
    pub dom: DomId,
}

//! Event channels, by polling.
//!
//! Upcalls are masked, so an event is a bit in the shared info page that stays until [`harvest`] takes it. For
//! every port we keep one bit, *fired* (an event came that no wait has taken yet), and the number of the
//! harvest in which it fired last, so that several threads can wait for one port and each sees the event.
//!
//! Source: `xen/event_channel.h`, two-level ABI.

use super::{result, shared_info};
use crate::arch::cell::Global;
use crate::arch::x86_64::hypercall::op;
use crate::sched::{self, Wait};
use crate::xen::clock;
use libos_sys::errno;
use xen_abi::evtchn::*;
use xen_abi::sched::POLL_MAX_PORTS;
use xen_abi::shared_info::{
    SHARED_INFO_EVTCHN_PENDING_OFFSET as PENDING, SHARED_INFO_VCPU_INFO_OFFSET as VCPU,
    VCPU_INFO_UPCALL_PENDING_OFFSET,
};
use xen_abi::{DOMID_SELF, DomId, EvtchnPort};

/// Ports that we take; Xen gives out the lowest free one.
const MAX_PORTS: usize = 2048;
const WORDS: usize = MAX_PORTS / 64;

struct Events {
    open: [u64; WORDS],
    fired: [u64; WORDS],
    last: [u32; MAX_PORTS],
    harvests: u32,
    list: [u32; POLL_MAX_PORTS as usize],
}

static EVENTS: Global<Events> = Global::new(Events {
    open: [0; WORDS],
    fired: [0; WORDS],
    last: [0; MAX_PORTS],
    harvests: 0,
    list: [0; POLL_MAX_PORTS as usize],
});

/// Takes note of a port that is ours from now on; false when its number is too high.
pub fn open(port: u32) -> bool {
    if port as usize >= MAX_PORTS {
        return false;
    }
    let (word, bit) = (port as usize / 64, 1 << (port % 64));
    shared_info().take_bits64(PENDING + word * 8, bit);
    EVENTS.with(|e| {
        e.open[word] |= bit;
        e.fired[word] &= !bit;
        e.last[port as usize] = e.harvests;
    });
    true
}

fn opened(code: i64, port: EvtchnPort) -> i32 {
    if code == 0 && !open(port.0) {
        op(&mut Close { port });
        return -errno::ENOSPC;
    }
    result(code, port.0)
}

/// Allocates a port that `remote` may bind to; the port or a negative `errno`.
pub fn alloc_unbound(remote: u16) -> i32 {
    let mut arg = AllocUnbound { dom: DOMID_SELF, remote_dom: DomId(remote), ..Default::default() };
    opened(op(&mut arg), arg.port)
}

/// Binds to a port of another domain; the local port or a negative `errno`.
pub fn bind_interdomain(remote: u16, remote_port: u32) -> i32 {
    let mut arg = BindInterdomain {
        remote_dom: DomId(remote),
        remote_port: EvtchnPort(remote_port),
        ..Default::default()
    };
    opened(op(&mut arg), arg.local_port)
}

/// Sends an event.
pub fn notify(port: u32) -> i32 {
    result(op(&mut Send { port: EvtchnPort(port) }), 0)
}

/// Closes a port.
pub fn close(port: u32) -> i32 {
    if port as usize >= MAX_PORTS {
        return -errno::EINVAL;
    }
    let code = op(&mut Close { port: EvtchnPort(port) });
    if code == 0 {
        EVENTS.with(|e| {
            e.open[port as usize / 64] &= !(1 << (port % 64));
            e.fired[port as usize / 64] &= !(1 << (port % 64));
        });
    }
    result(code, 0)
}

/// State of a port (`EVTCHNSTAT_*`) or a negative `errno`.
pub fn status(port: u32) -> i32 {
    let mut arg = Status { dom: DOMID_SELF, port: EvtchnPort(port), ..Default::default() };
    let code = op(&mut arg);
    result(code, arg.status)
}

/// Takes the events that have come since the last call; the number of calls so far that found some.
pub fn harvest() -> u32 {
    let info = shared_info();
    let mut any = false;
    // Xen sets this flag after the port's bit and never looks at it while upcalls are masked.
    if info.load8(VCPU + VCPU_INFO_UPCALL_PENDING_OFFSET) != 0 {
        info.store8(VCPU + VCPU_INFO_UPCALL_PENDING_OFFSET, 0);
    }
    EVENTS.with(|e| {
        for word in 0..WORDS {
            if e.open[word] == 0 || info.load64(PENDING + word * 8) & e.open[word] == 0 {
                continue;
            }
            let mut came = info.take_bits64(PENDING + word * 8, e.open[word]);
            if !any {
                any = true;
                e.harvests = e.harvests.wrapping_add(1);
            }
            e.fired[word] |= came;
            while came != 0 {
                e.last[word * 64 + came.trailing_zeros() as usize] = e.harvests;
                came &= came - 1;
            }
        }
        e.harvests
    })
}

/// Lets every thread that waits for `port` look again, as if an event had come.
pub fn nudge(port: u32) {
    EVENTS.with(|e| {
        if let Some(last) = e.last.get_mut(port as usize) {
            e.harvests = e.harvests.wrapping_add(1);
            *last = e.harvests;
        }
    });
}

/// Gives the open ports to `f`, at most 128 of them, and whether these are all.
pub fn with_open_ports(f: impl FnOnce(&[u32], bool)) {
    EVENTS.with(|e| {
        let mut count = 0;
        for word in 0..WORDS {
            let mut bits = e.open[word];
            while bits != 0 && count < e.list.len() {
                e.list[count] = word as u32 * 64 + bits.trailing_zeros();
                count += 1;
                bits &= bits - 1;
            }
            if bits != 0 {
                return f(&e.list, false);
            }
        }
        f(&e.list[..count], true);
    });
}

/// Waits until one of `ports` has an event and takes it: the index in `ports`, or a negative `errno`. An event
/// that no earlier wait has taken counts.
pub fn wait(ports: &[u32], deadline: u64) -> i32 {
    if ports.iter().any(|p| *p as usize >= MAX_PORTS) {
        return -errno::EINVAL;
    }
    let since = harvest();
    loop {
        let hit = EVENTS.with(|e| {
            ports.iter().position(|port| {
                let (word, bit) = (*port as usize / 64, 1 << (port % 64));
                let fired = e.fired[word] & bit != 0;
                e.fired[word] &= !bit;
                fired || e.last[*port as usize].wrapping_sub(since) as i32 > 0
            })
        });
        if let Some(index) = hit {
            return index as i32;
        }
        let ours = EVENTS.with(|e| ports.iter().all(|p| e.open[*p as usize / 64] >> (p % 64) & 1 == 1));
        if !ours {
            return -errno::ENOENT;
        }
        if deadline <= clock::monotonic() || !sched::block(Wait::Event, deadline) {
            // What came together with the deadline is not lost: it stays *fired*.
            return -errno::ETIMEDOUT;
        }
    }
}

//! Control of domains by dom0: [`HYPERVISOR_DOMCTL`](crate::hypercall::HYPERVISOR_DOMCTL) (`xen/domctl.h`).
//!
//! An interface for the toolstack of one version of Xen: each call says which version it means, and Xen refuses any
//! other with `EACCES`. What is here is the same in all versions of [`INTERFACE_VERSIONS`].

use core::ops::RangeInclusive;

use crate::DomId;
use crate::sched::SHUTDOWN_SUSPEND;

/// `XEN_DOMCTL_getdomaininfo`: state of a domain. Some versions of Xen answer for the next domain if there is no such.
pub const DOMCTL_GETDOMAININFO: u32 = 5;

/// Values of `XEN_DOMCTL_INTERFACE_VERSION`: 0x13 is that of Xen 4.15, 0x15 of 4.17. Those that are not out yet have no
/// other beginning either, as far as anybody knows; a program that is wrong about that reads nonsense flags.
pub const INTERFACE_VERSIONS: RangeInclusive<u32> = 0x12..=0x18;

/// `XEN_DOMINF_dying`: the domain is being taken away.
pub const DOMINF_DYING: u32 = 1 << 0;
/// `XEN_DOMINF_shutdown`: it has shut down, for the reason in bits 16 to 23.
pub const DOMINF_SHUTDOWN: u32 = 1 << 2;

/// `struct xen_domctl` with a `struct xen_domctl_getdomaininfo` of which only the beginning is named.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct GetDomainInfo {
    /// [`DOMCTL_GETDOMAININFO`].
    pub cmd: u32,
    /// One of [`INTERFACE_VERSIONS`].
    pub interface_version: u32,
    /// In: the domain. Out: the one that is described.
    pub domain: DomId,
    pad: [u16; 3],
    /// The domain again.
    pub info_domain: DomId,
    pad1: u16,
    /// `XEN_DOMINF_*`.
    pub flags: u32,
    rest: [u64; 15],
}

impl GetDomainInfo {
    /// The question for a domain.
    pub const fn new(interface_version: u32, domain: DomId) -> GetDomainInfo {
        GetDomainInfo {
            cmd: DOMCTL_GETDOMAININFO,
            interface_version,
            domain,
            pad: [0; 3],
            info_domain: DomId(0),
            pad1: 0,
            flags: 0,
            rest: [0; 15],
        }
    }

    /// Whether the answer says that `domain` is gone, or runs no more and is not just suspended.
    pub const fn has_ended(&self, domain: DomId) -> bool {
        let reason = self.flags >> 16 & 0xff;
        let shutdown = self.flags & DOMINF_SHUTDOWN != 0 && reason != SHUTDOWN_SUSPEND;
        self.info_domain.0 != domain.0 || self.flags & DOMINF_DYING != 0 || shutdown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_is_suspended_has_not_ended() {
        let answer = |domain, flags| GetDomainInfo {
            info_domain: DomId(domain),
            flags,
            ..GetDomainInfo::new(0x15, DomId(7))
        };
        let ended = |domain, flags| answer(domain, flags).has_ended(DomId(7));
        assert!(!ended(7, 0) && !ended(7, 1 << 4) && !ended(7, DOMINF_SHUTDOWN | 2 << 16));
        assert!(ended(7, DOMINF_DYING) && ended(7, DOMINF_SHUTDOWN | 3 << 16) && ended(7, DOMINF_SHUTDOWN));
        assert!(ended(8, 0), "the answer for the next one");
    }
}

//! Who may ask for what. The key is the domain id that Xen attests; a domain that is not listed gets nothing.

use alloc::vec::Vec;

use crate::frame::{Kind, LOCALITY_MAX};

/// Most guests of one instance at once (a stub domain and its guest, say).
pub const PEERS_MAX: usize = 8;

/// What a domain is to the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The user domain whose TPM this is.
    Guest = 1,
    /// The manager's domain: may do everything.
    Manager = 2,
}

impl Role {
    pub(crate) const fn from_number(number: u8) -> Option<Role> {
        match number {
            1 => Some(Role::Guest),
            2 => Some(Role::Manager),
            _ => None,
        }
    }

    /// Whether it may send such frames. A guest cannot reset its TPM: PCRs say what a platform has booted since it
    /// was reset, so only what resets the guest may reset the TPM. A guest that reboots is a new domain to Xen.
    pub const fn may(self, kind: Kind) -> bool {
        match self {
            Role::Manager => true,
            Role::Guest => matches!(kind, Kind::Command | Kind::Cancel | Kind::Info),
        }
    }
}

/// A domain that may talk to the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub domid: u16,
    /// What it is.
    pub role: Role,
    /// Highest locality of its commands.
    pub locality: u8,
}

impl Peer {
    /// A guest. Its locality is 0: higher ones belong to firmware and to a dynamic launch, which a guest's kernel
    /// must not be able to claim.
    pub const fn guest(domid: u16) -> Peer {
        Peer { domid, role: Role::Guest, locality: 0 }
    }

    /// The manager's domain.
    pub const fn manager(domid: u16) -> Peer {
        Peer { domid, role: Role::Manager, locality: LOCALITY_MAX }
    }
}

/// The list of domains that may talk to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(Vec<Peer>);

impl Policy {
    /// A list with these domains; of more than [`PEERS_MAX`] the rest is left out.
    pub fn new(peers: impl IntoIterator<Item = Peer>) -> Policy {
        let mut policy = Policy::default();
        for peer in peers {
            policy.attach(peer);
        }
        policy
    }

    /// Lets a domain in, or changes what it may. Whether there was room. A manager stays one.
    pub fn attach(&mut self, peer: Peer) -> bool {
        let room = self.0.len() < PEERS_MAX;
        match self.0.iter_mut().find(|known| known.domid == peer.domid) {
            Some(known) if known.role == Role::Manager => peer.role == Role::Manager,
            Some(known) => {
                *known = peer;
                true
            }
            None if room => {
                self.0.push(peer);
                true
            }
            None => false,
        }
    }

    /// Takes a guest off the list. Whether it was there.
    pub fn detach(&mut self, domid: u16) -> bool {
        let before = self.0.len();
        self.0.retain(|peer| peer.domid != domid || peer.role == Role::Manager);
        self.0.len() < before
    }

    /// What the domain may; `None` for nothing.
    pub fn find(&self, domid: u16) -> Option<Peer> {
        self.0.iter().copied().find(|peer| peer.domid == domid)
    }

    /// Everybody on the list.
    pub fn peers(&self) -> &[Peer] {
        &self.0
    }
}

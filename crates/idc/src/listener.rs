//! A service under a name, and its clients.
//!
//! Any domain can make an offer. So offers are cheap to refuse, refused ones are counted, and nothing that a
//! client does can make [`Listener::accept`] fail or wait: an error from there is this side's own. One domain
//! cannot take the places of the others ([`ListenConfig::max_clients_per_peer`]).
//!
//! A channel that was accepted may be used and dropped before its client has noticed that it was accepted. So that
//! nothing is lost then, the listener keeps the ring that this side writes until the client has connected to it or has
//! gone. That counts as an open channel.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use crate::DomId;
use crate::channel::Channel;
use crate::endpoint::{Config, Idc};
use crate::error::{Error, Result};
use crate::name::ServiceName;
use crate::platform::{Acceptor, Event, Native, Offer, Platform, PortStatus};
use crate::ring::RingMemory;
use crate::setup::{State, control};
use crate::shm::Memory;
use crate::wait::Deadline;
use crate::writer::retire;

/// Properties of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// Our end of each channel.
    pub channel: Config,
    /// Most channels that are open at once.
    pub max_clients: usize,
    /// Most channels that are open at once to one domain.
    pub max_clients_per_peer: usize,
}

impl Default for ListenConfig {
    fn default() -> Self {
        ListenConfig { channel: Config::default(), max_clients: 64, max_clients_per_peer: 16 }
    }
}

/// Accepts the clients of a service. Dropping it takes the name back; open channels stay open.
#[derive(Debug)]
pub struct Listener<P: Platform = Native> {
    idc: Idc<P>,
    acceptor: P::Acceptor,
    service: ServiceName,
    config: ListenConfig,
    clients: Vec<Client<P>>,
    last_refusal: Option<Error>,
}

/// While a client has yet to connect to our ring, we look so often whether it has (nanoseconds).
const LOOK: u64 = 100_000_000;
/// How long a ring is kept for it after our ends have been dropped, where the system cannot tell that it has gone.
const KEEP: u64 = 60_000_000_000;

/// A channel that was accepted. It is open while somebody else holds the ticket.
#[derive(Debug)]
struct Client<P: Platform> {
    peer: DomId,
    offer: u64,
    ticket: Arc<()>,
    held: Option<Held<P>>,
}

/// The ring that this side writes, until the client has connected to it.
#[derive(Debug)]
struct Held<P: Platform> {
    platform: P,
    // The pages are given back before the port is closed.
    ring: Arc<RingMemory<P::Memory>>,
    event: Arc<P::Event>,
    /// Since when nobody else uses it.
    since: Option<u64>,
}

impl<P: Platform> Held<P> {
    /// Whether the client has yet to connect, and is there to do so.
    fn is_wanted(&mut self, in_use: bool, now: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        if in_use {
            self.since = None;
        } else if now.saturating_sub(since) > KEEP {
            return false;
        }
        self.ring.reader.load(control::STATE, Ordering::Acquire) == State::Absent.encode()
            && self.event.status() != Ok(PortStatus::Unbound)
    }
}

impl<P: Platform> Drop for Held<P> {
    fn drop(&mut self) {
        retire(&self.platform, &self.ring);
    }
}

impl<P: Platform> Listener<P> {
    /// Offers the service `name` of this domain.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::NameTaken`], or the system's.
    pub fn bind(idc: &Idc<P>, name: &str, config: ListenConfig) -> Result<Listener<P>> {
        let service = ServiceName::new(name)?;
        let acceptor = idc.platform.serve(service)?;
        Ok(Listener { idc: idc.clone(), acceptor, service, config, clients: Vec::new(), last_refusal: None })
    }

    /// Name of the service.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// A time limit for [`accept_by`](Self::accept_by).
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        self.idc.deadline(timeout)
    }

    /// Channels that are open.
    pub fn clients(&mut self) -> usize {
        let now = self.idc.platform.now();
        self.clients.retain_mut(|client| {
            let in_use = Arc::strong_count(&client.ticket) > 1;
            client.held.take_if(|held| !held.is_wanted(in_use, now));
            in_use || client.held.is_some()
        });
        self.clients.len()
    }

    /// Why the client was turned away or put off that was so last, for logs.
    pub fn last_refusal(&self) -> Option<&Error> {
        self.last_refusal.as_ref()
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// The system's; never a client's.
    pub fn accept(&mut self) -> Result<Channel<P>> {
        self.accept_by(Deadline::NEVER)
    }

    /// Waits for the next client until the deadline.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or the system's.
    pub fn accept_by(&mut self, deadline: Deadline) -> Result<Channel<P>> {
        loop {
            self.clients();
            let slice = match self.clients.iter().any(|client| client.held.is_some()) {
                true => self.idc.platform.now().saturating_add(LOOK),
                false => u64::MAX,
            };
            let offer = self.acceptor.next(deadline.0.min(slice))?;
            if let Some(channel) = offer.and_then(|offer| self.consider(offer)) {
                return Ok(channel);
            }
            // A client that keeps making useless offers does not keep us from the deadline.
            self.idc.platform.relax();
            if self.idc.platform.now() >= deadline.0 {
                return Err(Error::TimedOut);
            }
        }
    }

    fn consider(&mut self, offer: Offer) -> Option<Channel<P>> {
        let Offer { peer, gref, id } = offer;
        let open = self.clients();
        if self.clients.iter().any(|client| client.peer == peer && client.offer == id) {
            // The same offer again: we were a little slow.
            return None;
        }
        let of_peer = self.clients.iter().filter(|client| client.peer == peer).count();
        if open >= self.config.max_clients || of_peer >= self.config.max_clients_per_peer {
            self.idc.refuse(peer, gref);
            return None;
        }
        match self.idc.answer(peer, gref, &self.config.channel) {
            Ok(mut channel) => {
                let ticket = Arc::new(());
                let (ring, event) = channel.hold();
                let platform = self.idc.platform.clone();
                let held = Some(Held { platform, ring, event, since: None });
                self.clients.push(Client { peer, offer: id, ticket: Arc::clone(&ticket), held });
                channel.count(ticket);
                Some(channel)
            }
            // Answered already, by an earlier call for the same offer.
            Err(Error::AlreadyConnected { .. }) => None,
            // It has to unmap pages of closed channels first. If it is honest it does, and makes its offer again.
            Err(error @ Error::Quarantined { .. }) => {
                self.idc.counters.put_off();
                self.last_refusal = Some(error);
                None
            }
            Err(error) => {
                self.idc.counters.refusal();
                self.last_refusal = Some(error);
                None
            }
        }
    }
}

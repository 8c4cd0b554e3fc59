//! A service under a name, and its clients.
//!
//! Any domain can make an offer. So offers are cheap to refuse, refused ones are counted, and nothing that a
//! client does can make [`Listener::accept`] fail or wait: an error from there is this side's own. One domain
//! cannot take the places of the others ([`ListenConfig::max_clients_per_peer`]).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::DomId;
use crate::channel::Channel;
use crate::endpoint::{Config, Idc};
use crate::error::{Error, Result};
use crate::name::ServiceName;
use crate::platform::{Acceptor, Native, Offer, Platform};
use crate::wait::Deadline;

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
    clients: Vec<Client>,
    last_refusal: Option<Error>,
}

/// A channel that was accepted. It is open while somebody else holds the ticket.
#[derive(Debug)]
struct Client {
    peer: DomId,
    offer: u64,
    ticket: Arc<()>,
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
        self.clients.retain(|client| Arc::strong_count(&client.ticket) > 1);
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
            let offer = self.acceptor.next(deadline.0)?.ok_or(Error::TimedOut)?;
            if let Some(channel) = self.consider(offer) {
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
                self.clients.push(Client { peer, offer: id, ticket: Arc::clone(&ticket) });
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

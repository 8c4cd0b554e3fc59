//! A peer that is slow to unmap the pages of closed channels: it is waited for, on either side, and no longer than the
//! deadline. The platform is the hosted one, which refuses as that of a domain does until "the peer has unmapped".
#![cfg(not(loom))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{A, B, World, soon, world};
use idc::platform::hosted::{Hosted, HostedAcceptor, HostedCall};
use idc::platform::{Acceptor, Access, Dial, Granted, Offer, Platform};
use idc::{
    Channel, Config, Deadline, DomId, Error, EvtchnPort, GrantRef, Idc, ListenConfig, Listener, ServiceName,
};

const HELD: usize = 177;

#[derive(Clone, Debug)]
struct Slow {
    below: Hosted,
    /// So often a look finds that the pages are still mapped.
    looks: Arc<AtomicUsize>,
}

impl Slow {
    fn new(below: &Hosted, looks: usize) -> (Idc<Slow>, Arc<AtomicUsize>) {
        let looks = Arc::new(AtomicUsize::new(looks));
        (Idc::with_platform(Slow { below: below.clone(), looks: Arc::clone(&looks) }), looks)
    }
}

/// Offers come again, as they do through xenstore.
#[derive(Debug)]
struct Again {
    below: HostedAcceptor,
    last: Option<Offer>,
}

impl Acceptor for Again {
    fn next(&mut self, deadline: u64) -> idc::Result<Option<Offer>> {
        if self.last.is_none() {
            self.last = self.below.next(deadline)?;
        }
        Ok(self.last)
    }
}

impl Platform for Slow {
    type Memory = <Hosted as Platform>::Memory;
    type Event = <Hosted as Platform>::Event;
    type Acceptor = Again;
    type Call = HostedCall;

    fn quarantined(&self, _: Option<DomId>) -> usize {
        if self.looks.load(Ordering::SeqCst) > 0 { HELD } else { 0 }
    }

    fn admit(&self, peer: DomId) -> idc::Result<()> {
        let less = |looks: usize| if looks < usize::MAX { looks.checked_sub(1) } else { Some(looks) };
        match self.looks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(Error::Quarantined { peer, pages: HELD }),
            Err(_) => Ok(()),
        }
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> idc::Result<Granted<Self::Memory>> {
        self.admit(peer)?;
        self.below.grant(peer, pages, access)
    }

    fn domid(&self) -> idc::Result<DomId> {
        self.below.domid()
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> idc::Result<Self::Memory> {
        self.below.map(peer, refs, access)
    }

    fn announce_death(&self, memory: &Self::Memory, offset: usize, event: &Self::Event) -> idc::Result<()> {
        self.below.announce_death(memory, offset, event)
    }

    fn alloc_unbound(&self, peer: DomId) -> idc::Result<Self::Event> {
        self.below.alloc_unbound(peer)
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> idc::Result<Self::Event> {
        self.below.bind_interdomain(peer, port)
    }

    fn now(&self) -> u64 {
        self.below.now()
    }

    fn sleep_until(&self, deadline: u64) {
        self.below.sleep_until(deadline);
    }

    fn relax(&self) {
        self.below.relax();
    }

    fn nonce(&self) -> u64 {
        self.below.nonce()
    }

    fn can_spin(&self) -> bool {
        self.below.can_spin()
    }

    fn serve(&self, service: ServiceName) -> idc::Result<Again> {
        Ok(Again { below: self.below.serve(service)?, last: None })
    }

    fn call(&self, dial: Dial, deadline: u64) -> idc::Result<HostedCall> {
        self.below.call(dial, deadline)
    }
}

/// An honest echo service in A for one client.
fn serving(world: &World) -> thread::JoinHandle<idc::Result<()>> {
    let mut listener = Listener::bind(&world.a, "echo", ListenConfig::default()).unwrap();
    let deadline = soon(&world.a);
    thread::spawn(move || {
        let mut client = listener.accept_by(deadline)?;
        while let Some(message) = client.recv_by(deadline)? {
            client.send_by(&message, deadline)?;
        }
        client.finish()
    })
}

#[test]
fn dial_waits_for_a_peer_that_is_slow_to_unmap() {
    let world = world();
    let service = serving(&world);
    let (idc, looks) = Slow::new(&world.raw_b, 7);
    assert_eq!(idc.quarantined(Some(A)), HELD);
    let mut channel = Channel::dial(&idc, A, "echo", &Config::default(), soon(&world.b)).unwrap();
    assert_eq!((looks.load(Ordering::SeqCst), idc.quarantined(None)), (0, 0));
    channel.send(b"there").unwrap();
    assert_eq!(channel.recv_by(soon(&world.b)).unwrap().as_deref(), Some(&b"there"[..]));
    channel.finish().unwrap();
    assert_eq!(service.join().unwrap(), Ok(()));
}

#[test]
fn a_peer_that_never_unmaps_is_named_when_the_deadline_passes() {
    let world = world();
    let (idc, _) = Slow::new(&world.raw_b, usize::MAX);
    let held = Error::Quarantined { peer: A, pages: HELD };
    let deadline = || idc.deadline(Duration::from_millis(50));
    let config = Config::default();
    assert_eq!(Channel::dial(&idc, A, "echo", &config, deadline()).unwrap_err(), held);
    assert_eq!(idc.create_by(A, &config, deadline()).unwrap_err(), held);
    assert_eq!(idc.offer_by(A, &config, deadline()).unwrap_err(), held);
    // Those without a deadline do not wait.
    let (idc, looks) = Slow::new(&world.raw_b, 2);
    assert_eq!(idc.create(A, &config).unwrap_err(), held);
    assert_eq!(idc.offer(A, &config).unwrap_err(), held);
    assert_eq!(looks.load(Ordering::SeqCst), 0);
    assert!(idc.create(A, &config).is_ok());
}

#[test]
fn an_offer_of_a_client_that_is_slow_to_unmap_stands() {
    let world = world();
    let pending = world.b.offer(A, &Config::default()).unwrap();
    let (idc, _) = Slow::new(&world.raw_a, 1);
    let early = idc.answer(B, pending.grant_ref(), &Config::default());
    assert_eq!(early.unwrap_err(), Error::Quarantined { peer: B, pages: HELD });
    let mut theirs = idc.answer(B, pending.grant_ref(), &Config::default()).unwrap();
    let mut ours = pending.complete_by(soon(&world.b)).unwrap();
    theirs.send(b"late").unwrap();
    assert_eq!(ours.recv_by(soon(&world.b)).unwrap().as_deref(), Some(&b"late"[..]));
}

#[test]
fn a_listener_leaves_such_an_offer_for_later() {
    let world = world();
    let (idc, _) = Slow::new(&world.raw_a, 5);
    let mut listener = Listener::bind(&idc, "echo", ListenConfig::default()).unwrap();
    let client = {
        let (idc, deadline) = (world.b.clone(), soon(&world.b));
        thread::spawn(move || Channel::dial(&idc, A, "echo", &Config::default(), deadline).map(drop))
    };
    assert_eq!(listener.accept_by(Deadline(1)).unwrap_err(), Error::TimedOut, "nobody can hold it up");
    let channel = listener.accept_by(soon(&world.a)).unwrap();
    assert_eq!(channel.peer(), B);
    assert_eq!(client.join().unwrap(), Ok(()));
    let counters = idc.counters();
    assert_eq!((counters.refused(), listener.clients()), (0, 1));
    assert!(matches!(listener.last_refusal(), Some(Error::Quarantined { .. })));
    assert!(counters.offers_put_off() >= 4, "{}", counters.to_json());
}

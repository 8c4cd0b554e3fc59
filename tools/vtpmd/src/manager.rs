//! IDC B from the manager's side: leases, sealed state, entropy, for every vTPM domain of the machine.
//!
//! Which instance a domain runs is in the registry, by the domain id that Xen attests. The manager keeps ciphertext
//! only; a vTPM domain gets the key of its own instance with its lease.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use idc::{Channel, Config, DomId, Idc, ListenConfig, Listener};
use vtpm::link::{self, Ask, Lease, MESSAGE_MAX, Refusal, SEED_LEN, SERVICE, Seed, mark_to_bytes};
use vtpm::seal::Purpose;
use vtpm::{Key, Peer, Uuid, Vault, VaultError};
use zeroize::Zeroizing;

use crate::files::Files;
use crate::registry::{Binding, Registry};

const LISTEN: ListenConfig = ListenConfig {
    channel: Config {
        pages: 32,
        slots: 0,
        pool: 0,
        max_peer_pages: 64,
        max_message: MESSAGE_MAX,
        spin: idc::Spin::Never,
    },
    max_clients: 256,
    max_clients_per_peer: 2,
};

type SharedVault = Arc<Mutex<Vault<Files>>>;

/// The manager.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

struct Inner {
    registry: Registry,
    master: Key,
    /// Its own domain; always let in.
    domid: DomId,
    vaults: Mutex<HashMap<Uuid, SharedVault>>,
    /// Held as long as this manager lives.
    _lock: std::fs::File,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A vault whose write was interrupted by a panic says so itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a channel has shown to be.
struct Session {
    peer: DomId,
    lease: Option<(Uuid, u64, SharedVault)>,
}

impl Manager {
    /// A manager; there is one for each state directory.
    ///
    /// # Errors
    /// Another one is running; the system's.
    pub fn new(registry: Registry, master: Key, domid: DomId) -> Result<Manager> {
        let path = registry.state().join("manager.lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another manager uses {}", registry.state().display()))?;
        let vaults = Mutex::default();
        Ok(Manager(Arc::new(Inner { registry, master, domid, vaults, _lock: lock })))
    }

    /// Serves vTPM domains for ever.
    ///
    /// # Errors
    /// This side's.
    pub fn run(&self, idc: &Idc) -> Result<()> {
        let mut listener = Listener::bind(idc, SERVICE, LISTEN)?;
        println!("vtpmd: the manager is ready");
        loop {
            let channel = listener.accept()?;
            let manager = self.clone();
            // Without a thread the channel is dropped, which tells the other side.
            if let Err(error) = thread::Builder::new().spawn(move || manager.serve(channel)) {
                println!("vtpmd: a vTPM domain was turned away: no thread ({error})");
            }
        }
    }

    fn serve(&self, mut channel: Channel) {
        let mut session = Session { peer: channel.peer(), lease: None };
        while let Ok(Some(message)) = channel.recv() {
            let (ask, result) = match link::parse_request(&message) {
                Ok((ask, contents)) => (ask, self.answer(&mut session, ask, contents)),
                Err(_) => (Ask::Lease, Err(Refusal::BadMessage)),
            };
            if let Err(refusal) = &result {
                println!("vtpmd: refused domain {}: {ask:?}: {refusal}", session.peer);
            }
            let answer = Zeroizing::new(link::answer(ask, result.as_ref().map(|c| &c[..]).map_err(|r| *r)));
            if channel.send(&answer).is_err() {
                return;
            }
            if result.is_err_and(|refusal| matches!(refusal, Refusal::BadMessage | Refusal::Unknown)) {
                return;
            }
        }
    }

    fn answer(
        &self,
        session: &mut Session,
        ask: Ask,
        contents: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let nothing = || Zeroizing::new(Vec::new());
        match ask {
            Ask::Lease => self.lease(session),
            Ask::Rejoin => self.rejoin(session, contents),
            Ask::Seed => {
                session.lease.as_ref().ok_or(Refusal::NoLease)?;
                Ok(Zeroizing::new(seed()?.0.to_vec()))
            }
            Ask::Load => {
                let (uuid, epoch, vault) = session.lease.as_ref().ok_or(Refusal::NoLease)?;
                let mut vault = lock(vault);
                if vault.epoch() != *epoch {
                    return Err(Refusal::StaleLease);
                }
                let sealed = vault.load().map_err(|error| refusal(*uuid, &error))?;
                Ok(Zeroizing::new(sealed.unwrap_or_default()))
            }
            Ask::Store => {
                let (uuid, epoch, vault) = session.lease.as_ref().ok_or(Refusal::NoLease)?;
                lock(vault).store(*epoch, contents).map_err(|error| refusal(*uuid, &error))?;
                Ok(nothing())
            }
        }
    }

    /// The instance that the peer runs, by the registry.
    fn bound(&self, peer: DomId) -> Result<(crate::registry::Instance, Binding), Refusal> {
        match self.0.registry.run_by(peer.0) {
            Ok(bound) => bound.ok_or(Refusal::Unknown),
            Err(error) => {
                println!("vtpmd: {error:#}");
                Err(Refusal::Storage)
            }
        }
    }

    /// The vault of an instance; there is one object for each, so that two channels cannot write past each other.
    fn vault(&self, uuid: Uuid, anew: bool) -> Result<SharedVault, Refusal> {
        let mut vaults = lock(&self.0.vaults);
        if let Some(vault) = vaults.get(&uuid) {
            if !anew {
                return Ok(Arc::clone(vault));
            }
            // Read again from what is stored. Whoever still has the old object cannot write with it: its record
            // says a lease that has ended as soon as the new lease is taken, which its lock orders.
            let mut old = lock(vault);
            *old = self.open(uuid)?;
            drop(old);
            return Ok(Arc::clone(vault));
        }
        let vault = Arc::new(Mutex::new(self.open(uuid)?));
        vaults.insert(uuid, Arc::clone(&vault));
        Ok(vault)
    }

    fn open(&self, uuid: Uuid) -> Result<Vault<Files>, Refusal> {
        let files = self.0.registry.files(&uuid).map_err(|error| {
            println!("vtpmd: {error:#}");
            Refusal::Storage
        })?;
        let key = self.0.master.derive(&uuid, Purpose::Ledger);
        Vault::open(files, uuid, key).map_err(|error| refusal(uuid, &error))
    }

    fn lease(&self, session: &mut Session) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let (instance, mut binding) = self.bound(session.peer)?;
        let broken = |error: anyhow::Error| {
            println!("vtpmd: {error:#}");
            Refusal::Storage
        };
        let uuid = instance.id().map_err(broken)?;
        let family = instance.tpm().map_err(broken)?;
        let vault = self.vault(uuid, true)?;
        let mut open = lock(&vault);
        let fresh = std::mem::take(&mut binding.fresh);
        if fresh {
            // Before the lease is given: a second start under the same guest is not fresh.
            self.0.registry.bind(&uuid, &binding).map_err(broken)?;
        }
        let epoch = open.lease().map_err(|error| refusal(uuid, &error))?;
        let peers = std::iter::once(Peer::manager(self.0.domid.0))
            .chain(binding.guests.iter().copied().map(Peer::guest))
            .collect();
        let key = self.0.master.derive(&uuid, Purpose::State);
        let lease = Lease { uuid, family, fresh, epoch, mark: open.mark(), key, seed: seed()?, peers };
        drop(open);
        println!("vtpmd: domain {} runs `{}` under lease {epoch}", session.peer, instance.name);
        session.lease = Some((uuid, epoch, vault));
        Ok(lease.to_bytes())
    }

    fn rejoin(&self, session: &mut Session, contents: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let epoch = contents.try_into().map(u64::from_le_bytes).map_err(|_| Refusal::BadMessage)?;
        let (instance, _) = self.bound(session.peer)?;
        let uuid = instance.id().map_err(|_| Refusal::Storage)?;
        let vault = self.vault(uuid, false)?;
        let open = lock(&vault);
        if open.epoch() != epoch {
            return Err(Refusal::StaleLease);
        }
        let mark = open.mark();
        drop(open);
        println!("vtpmd: domain {} goes on with `{}` under lease {epoch}", session.peer, instance.name);
        session.lease = Some((uuid, epoch, vault));
        Ok(Zeroizing::new(mark_to_bytes(mark)))
    }
}

fn seed() -> Result<Seed, Refusal> {
    let mut seed = Seed(Zeroizing::new([0; SEED_LEN]));
    getrandom::fill(&mut *seed.0).map_err(|_| Refusal::Storage)?;
    Ok(seed)
}

fn refusal(uuid: Uuid, error: &VaultError<io::Error>) -> Refusal {
    println!("vtpmd: instance {uuid}: {error}");
    match error {
        VaultError::Medium(_) | VaultError::Exists => Refusal::Storage,
        VaultError::Missing | VaultError::Record | VaultError::RolledBack => Refusal::RolledBack,
        VaultError::StaleLease { .. } => Refusal::StaleLease,
        VaultError::Counter { .. } | VaultError::Foreign => Refusal::BadState,
    }
}

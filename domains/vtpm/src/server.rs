//! IDC A: clients, each with a thread of its own. The TPM is behind a lock; only cancelling goes past it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use idc::{Channel, Config, DomId, Error, Idc, ListenConfig, Listener};
use libtpms::{Canceller, Libtpms};
use vtpm::frame::{Answer, Kind, Request, Status};
use vtpm::service::{Client, NAME, RECEIVE_MAX, Service};

use crate::entropy::SystemRandom;
use crate::manager::ManagerLink;

/// Two pages hold the longest answer. A domain that looks for the next command for a while answers short ones at once:
/// a wake-up of a domain takes longer than GetRandom (which takes 4.3 times as long as swtpm's without, and 1.06 times
/// with it: `casemate vtpm measure`). Processes on one machine are woken faster on the processor that the other one leaves: 9 us without
/// spinning and 54 with.
const CHANNEL: Config = Config {
    pages: 2,
    slots: 0,
    pool: 0,
    max_peer_pages: 4,
    max_message: RECEIVE_MAX,
    spin: if cfg!(casemate) { idc::Spin::Adaptive } else { idc::Spin::Never },
};
/// How clients are listened to.
pub const LISTEN: ListenConfig = ListenConfig { channel: CHANNEL, max_clients: 16, max_clients_per_peer: 4 };
/// Stack of a client's thread; the TPM computes on it.
const STACK: usize = 512 << 10;

type TpmService = Service<Libtpms, ManagerLink, SystemRandom>;

/// The TPM and what is known of its running command.
#[derive(Debug)]
struct Shared {
    service: Mutex<TpmService>,
    /// Domain and sequence number of the running command, see [`ticket`]; 0 for none.
    running: AtomicU64,
    canceller: Canceller,
}

/// Serves clients.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

fn ticket(peer: DomId, sequence: u32) -> u64 {
    1 << 63 | u64::from(peer.0) << 32 | u64::from(sequence)
}

impl Server {
    /// A server for a service.
    pub fn new(service: TpmService, canceller: Canceller) -> Server {
        Server(Arc::new(Shared { service: Mutex::new(service), running: AtomicU64::new(0), canceller }))
    }

    fn service(&self) -> MutexGuard<'_, TpmService> {
        // A thread that panicked while it had the lock left a TPM in an unknown state: nobody may use it.
        self.0.service.lock().unwrap_or_else(|error: PoisonError<_>| {
            println!("vtpm: a bug ended a thread in the middle of a command");
            drop(error);
            std::process::abort()
        })
    }

    /// Offers the service and takes clients for ever.
    ///
    /// # Errors
    /// This side's.
    pub fn run(&self, idc: &Idc) -> Result<(), Error> {
        let mut listener = Listener::bind(idc, NAME, LISTEN)?;
        println!("vtpm: ready");
        loop {
            let channel = listener.accept()?;
            let peer = channel.peer();
            if !self.service().admit(peer.0) {
                continue;
            }
            let server = self.clone();
            let builder = thread::Builder::new().stack_size(STACK);
            if let Err(error) = builder.spawn(move || server.client(channel)) {
                // The channel was dropped with the closure, which tells the client.
                println!("vtpm: domain {peer} was turned away: no thread ({error})");
            }
        }
    }

    fn client(&self, mut channel: Channel) {
        let peer = channel.peer();
        let mut client = Client::new(peer.0);
        let mut buf = vec![0; RECEIVE_MAX];
        while !client.is_out() {
            let len = match channel.recv_into(&mut buf) {
                Ok(Some(len)) => len,
                Ok(None) => {
                    // Nothing is lost if it does not hear that.
                    let _ = channel.finish();
                    return;
                }
                Err(Error::PeerMisbehaved { reason, .. }) => {
                    self.service().audit().refusal(peer.0, "channel", format_args!("{reason}"));
                    return;
                }
                Err(_) => return,
            };
            let answer = self.answer(peer, &mut client, &buf[..len]);
            if channel.send(&answer).is_err() {
                return;
            }
        }
    }

    fn answer(&self, peer: DomId, client: &mut Client, frame: &[u8]) -> Vec<u8> {
        let request = Request::parse(frame).ok();
        if let Some(request) = request.filter(|request| request.kind == Kind::Cancel) {
            return self.cancel(peer, &request);
        }
        let mut service = self.service();
        let number = request.map_or(0, |request| ticket(peer, request.sequence));
        self.0.running.store(number, Ordering::SeqCst);
        let answer = service.answer(client, frame);
        self.0.running.store(0, Ordering::SeqCst);
        answer
    }

    /// Cancels the running command if it is the one that is meant. Only a domain that is let in can have one, so
    /// there is nothing else to check. (In a domain, threads take turns: a command that is computing is over before
    /// this runs.)
    fn cancel(&self, peer: DomId, request: &Request<'_>) -> Vec<u8> {
        let status = match <[u8; 4]>::try_from(request.contents) {
            Ok(number) => {
                if self.0.running.load(Ordering::SeqCst) == ticket(peer, u32::from_le_bytes(number)) {
                    self.0.canceller.cancel();
                }
                Status::Ok
            }
            Err(_) => Status::BadFrame,
        };
        Answer { kind: Kind::Cancel, status, sequence: request.sequence, contents: &[] }.to_bytes()
    }
}

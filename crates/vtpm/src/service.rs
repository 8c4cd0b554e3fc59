//! The IDC A side of a vTPM domain without the IDC: frames in, frames out.
//!
//! [`Service::answer`] is called with the domain that Xen attests. It always gives an answer, and never fails: what a
//! client sends can end its own channel, after [`STRIKES`] frames that made no sense, and nothing else.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::audit::Audit;
use crate::engine::Engine;
use crate::frame::{Answer, FRAME_MAX, Kind, LOCALITY_MAX, Request, Status};
use crate::instance::{Condition, Instance, Random, Store};
use crate::policy::{Peer, Policy, Role};

/// Name of the service.
pub const NAME: &str = "vtpm";
/// Frames without sense after which a channel is closed.
pub const STRIKES: u32 = 16;
/// Longest message that is received: one byte more than a frame, so that one that is too long is answered.
pub const RECEIVE_MAX: usize = FRAME_MAX + 1;

/// A client's channel.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    domid: u16,
    strikes: u32,
}

impl Client {
    /// A channel from this domain, as Xen attests it.
    pub const fn new(domid: u16) -> Client {
        Client { domid, strikes: 0 }
    }

    /// Whether the channel is to be closed.
    pub const fn is_out(&self) -> bool {
        self.strikes >= STRIKES
    }
}

/// An instance and those who may use it.
#[derive(Debug)]
pub struct Service<E, S, R> {
    instance: Instance<E, S, R>,
    policy: Policy,
    audit: Audit,
}

impl<E: Engine, S: Store, R: Random> Service<E, S, R> {
    /// A service for an instance that has started.
    pub fn new(instance: Instance<E, S, R>, policy: Policy, mut audit: Audit) -> Service<E, S, R> {
        let (epoch, counter) = instance.position();
        audit.event(format_args!(
            "instance {} TPM {} started: lease {epoch}, state {counter}, {}",
            instance.uuid(),
            instance.family().name(),
            instance.engine().name()
        ));
        for peer in policy.peers() {
            audit.event(format_args!("domain {} is let in as {:?}", peer.domid, peer.role));
        }
        Service { instance, policy, audit }
    }

    /// Whether a channel from this domain is wanted at all; logged if not.
    pub fn admit(&mut self, domid: u16) -> bool {
        let known = self.policy.find(domid).is_some();
        if !known {
            self.audit.refusal(domid, "channel", format_args!("it is not on the list"));
        }
        known
    }

    /// Whether `domid` may cancel.
    pub fn may_cancel(&self, domid: u16) -> bool {
        self.policy.find(domid).is_some_and(|peer| peer.role.may(Kind::Cancel))
    }

    /// Answers a frame.
    pub fn answer(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<u8> {
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                client.strikes += 1;
                self.audit.refusal(client.domid, "frame", format_args!("{error}"));
                let kind = Kind::Command;
                return Answer { kind, status: Status::BadFrame, sequence: 0, contents: &[] }.to_bytes();
            }
        };
        let (status, contents) = self.run(client, &request);
        let Request { kind, sequence, .. } = request;
        Answer { kind, status, sequence, contents: &contents }.to_bytes()
    }

    fn run(&mut self, client: &mut Client, request: &Request<'_>) -> (Status, Vec<u8>) {
        let Client { domid, .. } = *client;
        // Asked for each time: a domain may have been detached since its channel was opened.
        let Some(peer) = self.policy.find(domid) else {
            client.strikes = STRIKES;
            self.audit.refusal(domid, "frame", format_args!("it is not on the list"));
            return (Status::Denied, Vec::new());
        };
        if !peer.role.may(request.kind) {
            let kind = request.kind;
            self.audit.refusal(domid, "request", format_args!("{kind:?} is not for a guest"));
            return (Status::Denied, Vec::new());
        }
        if request.kind == Kind::Command && request.locality > peer.locality {
            let locality = request.locality;
            self.audit.refusal(domid, "locality", format_args!("{locality} is above {}", peer.locality));
            return (Status::Locality, Vec::new());
        }
        match request.kind {
            Kind::Command => self.command(request),
            // Nothing runs while a frame is being answered; a running command is cancelled elsewhere.
            Kind::Cancel => (Status::Ok, Vec::new()),
            Kind::Info => (Status::Ok, self.info(&peer).into_bytes()),
            Kind::Reset => {
                let result = self.instance.reset();
                self.report("reset", result.err().map(|error| format!("{error}")))
            }
            Kind::Suspend => {
                let result = self.instance.suspend();
                self.report("suspended", result.err().map(|error| format!("{error}")))
            }
            Kind::Resume => {
                let result = self.instance.resume();
                self.report("resumed", result.err().map(|error| format!("{error}")))
            }
            Kind::Attach => self.attach(request.contents),
            Kind::Detach => self.detach(request.contents),
        }
    }

    fn command(&mut self, request: &Request<'_>) -> (Status, Vec<u8>) {
        let before = self.instance.condition();
        match before {
            Condition::Running => {}
            Condition::Suspended => return (Status::Suspended, Vec::new()),
            Condition::Halted(_) => return (Status::Halted, Vec::new()),
        }
        let answer = self.instance.execute(request.locality, request.contents);
        match self.instance.condition() {
            Condition::Halted(reason) => {
                self.audit.event(format_args!("halted: {reason}"));
                (Status::Halted, Vec::new())
            }
            _ => (Status::Ok, answer),
        }
    }

    fn report(&mut self, what: &str, error: Option<String>) -> (Status, Vec<u8>) {
        match error {
            None => {
                self.audit.event(format_args!("{what}"));
                (Status::Ok, Vec::new())
            }
            Some(error) => {
                self.audit.event(format_args!("not {what}: {error}"));
                let halted = matches!(self.instance.condition(), Condition::Halted(_));
                (if halted { Status::Halted } else { Status::Engine }, Vec::new())
            }
        }
    }

    fn attach(&mut self, contents: &[u8]) -> (Status, Vec<u8>) {
        let [low, high, locality @ 0..=LOCALITY_MAX] = *contents else {
            return (Status::BadFrame, Vec::new());
        };
        let peer = Peer { locality, ..Peer::guest(u16::from_le_bytes([low, high])) };
        if !self.policy.attach(peer) {
            return (Status::Denied, Vec::new());
        }
        self.audit.event(format_args!("domain {} is let in up to locality {locality}", peer.domid));
        (Status::Ok, Vec::new())
    }

    fn detach(&mut self, contents: &[u8]) -> (Status, Vec<u8>) {
        let Ok(domid) = <[u8; 2]>::try_from(contents).map(u16::from_le_bytes) else {
            return (Status::BadFrame, Vec::new());
        };
        if !self.policy.detach(domid) {
            return (Status::Denied, Vec::new());
        }
        self.audit.event(format_args!("domain {domid} is let in no more"));
        (Status::Ok, Vec::new())
    }

    /// What the manager may know; a guest is told what any TPM tells, and what its own limits are.
    fn info(&self, peer: &Peer) -> String {
        let condition = match self.instance.condition() {
            Condition::Running => "running",
            Condition::Suspended => "suspended",
            Condition::Halted(_) => "halted",
        };
        let mut text = format!(
            "family={}\ncondition={condition}\nlocality={}\n",
            self.instance.family().name(),
            peer.locality
        );
        if peer.role == Role::Manager {
            let (epoch, counter) = self.instance.position();
            let guests: Vec<_> = self.policy.peers().iter().filter(|p| p.role == Role::Guest).collect();
            let guests: Vec<_> = guests.iter().map(|peer| format!("{}", peer.domid)).collect();
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "uuid={}\nengine={}\nlease={epoch}\nstate={counter}\ncommands={}\nrefusals={}\naudit={}\nguests={}\nentropy={}\n",
                self.instance.uuid(),
                self.instance.engine().name(),
                self.instance.commands(),
                self.audit.refusals(),
                self.audit.head(),
                guests.join(","),
                self.instance.random().health()
            );
        }
        text
    }

    /// The instance.
    pub fn instance(&self) -> &Instance<E, S, R> {
        &self.instance
    }

    /// The log, for the transport's own lines.
    pub fn audit(&mut self) -> &mut Audit {
        &mut self.audit
    }
}

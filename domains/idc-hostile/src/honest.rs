//! The honest roles.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec, vec::Vec};
use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use idc::{Channel, Deadline, DomId, Error, Idc, ListenConfig, Listener, platform::Platform};

use crate::{
    DONE, Outcome, REPORT, STOP, TRAP, VICTIM,
    attack::{Attack, By, script, script_by},
    config,
};

/// Runs something in a thread of its own.
pub type Spawn<'a> = &'a dyn Fn(Box<dyn FnOnce() + Send>) -> Outcome;

/// How long the victim waits before it looks whether it is to stop.
const SLICE: Duration = Duration::from_millis(200);

/// What the threads of the victim share.
#[derive(Debug, Default)]
struct Shared {
    done: AtomicBool,
    stop: AtomicBool,
    /// Channels that ended because of something that no peer may cause.
    own_errors: AtomicU64,
    served: AtomicU64,
}

/// Whether an honest side may meet this because of its peer.
fn is_the_peers(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerMisbehaved { .. }
            | Error::PeerClosed { .. }
            | Error::PeerDied { .. }
            | Error::PeerNotConnected { .. }
            | Error::Incompatible { .. }
            | Error::BadGrant { .. }
            | Error::MessageTooLarge { .. }
            | Error::AlreadyConnected { .. }
            | Error::Quarantined { .. }
            | Error::TimedOut
    )
}

/// The victim: an echo service that also gives reports. It ends when a client says so.
///
/// # Errors
/// This side's own, never a client's.
pub fn victim<P>(
    idc: &Idc<P>,
    limit: Duration,
    spawn: Spawn<'_>,
    print: fn(&str),
    ready: impl FnOnce(),
) -> Outcome
where
    P: Platform + Send + Sync + 'static,
    P::Memory: Send + Sync,
    P::Event: Send + Sync,
{
    let listen = ListenConfig { channel: config(), max_clients: 32, max_clients_per_peer: 8 };
    let mut listener = Listener::bind(idc, VICTIM, listen).map_err(|error| format!("bind: {error}"))?;
    ready();
    let shared = Arc::new(Shared::default());
    while !shared.stop.load(Ordering::Relaxed) {
        let mut channel = match listener.accept_by(idc.deadline(SLICE)) {
            Ok(channel) => channel,
            Err(Error::TimedOut) => continue,
            Err(error) => return Err(format!("accept: {error}")),
        };
        let (shared, idc) = (Arc::clone(&shared), idc.clone());
        spawn(Box::new(move || {
            let peer = channel.peer();
            let result = converse(&mut channel, &idc, limit, &shared);
            shared.served.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = result {
                print(&format!("domain {peer}: {error}"));
                if !is_the_peers(&error) {
                    shared.own_errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        }))?;
    }
    print(&format!("last refusal: {:?}", listener.last_refusal()));
    print(&report(idc, &shared));
    Ok(())
}

fn report<P: Platform>(idc: &Idc<P>, shared: &Shared) -> String {
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{{\"done\":{},\"own_errors\":{},\"served\":{},\"quarantined\":{},\"counters\":{}}}",
        u8::from(shared.done.load(Ordering::Relaxed)),
        number(&shared.own_errors),
        number(&shared.served),
        idc.quarantined(None),
        idc.counters().to_json()
    )
}

/// Echoes.
fn converse<P: Platform>(
    channel: &mut Channel<P>,
    idc: &Idc<P>,
    limit: Duration,
    shared: &Shared,
) -> idc::Result<()> {
    let mut idle = idc.deadline(limit);
    loop {
        let message = match channel.recv_by(idc.deadline(SLICE)) {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(Error::TimedOut) if shared.stop.load(Ordering::Relaxed) => break,
            Err(Error::TimedOut) if idc.deadline(Duration::ZERO) < idle => continue,
            Err(error) => return Err(error),
        };
        let deadline = idc.deadline(limit);
        idle = deadline;
        match message.as_slice() {
            DONE => shared.done.store(true, Ordering::Relaxed),
            STOP => shared.stop.store(true, Ordering::Relaxed),
            REPORT => {
                channel.send_by(report(idc, shared).as_bytes(), deadline)?;
                continue;
            }
            _ => {}
        }
        channel.send_by(&message, deadline)?;
    }
    channel.finish()
}

/// A number of a report.
fn number(report: &str, name: &str) -> u64 {
    let found = report.split_once(&format!("\"{name}\":"));
    let digits = found.map_or("", |(_, rest)| rest.split([',', '}']).next().unwrap_or(""));
    digits.parse().unwrap_or(0)
}

/// An honest client of the victim that is served without a break while others do their worst; in the end it reads what
/// the victim has met, which has to be everything.
///
/// # Errors
/// What does not hold.
pub fn witness<P: Platform>(
    idc: &Idc<P>,
    peer: DomId,
    limit: Duration,
    mut ready: impl FnMut(),
) -> Outcome<String> {
    let fail = |step: &str, error: Error| format!("{step}: {error}");
    let dial = || Channel::dial(idc, peer, VICTIM, &config(), idc.deadline(limit));
    let mut channel = dial().map_err(|error| fail("dial", error))?;
    ready();
    let mut ask = |message: &[u8]| -> Outcome<Vec<u8>> {
        let deadline = idc.deadline(limit);
        channel.send_by(message, deadline).map_err(|error| fail("send", error))?;
        channel.recv_by(deadline).map_err(|error| fail("recv", error))?.ok_or_else(|| "it has ended".into())
    };
    let give_up = idc.deadline(limit * 3);
    let mut round = 0;
    let report = loop {
        let message = vec![round as u8; 1 + round * 777 % 9000];
        if ask(&message)? != message {
            return Err(format!("round {round}: something else came back"));
        }
        round += 1;
        let report = String::from_utf8(ask(REPORT)?).map_err(|_| "the report is no text")?;
        if number(&report, "done") == 1 {
            break report;
        }
        if idc.deadline(Duration::ZERO) >= give_up {
            return Err(format!("the attacks do not end; after {round} rounds {report}"));
        }
    };
    // Another one is let in, too.
    let mut late = dial().map_err(|error| fail("a late dial", error))?;
    late.finish().map_err(|error| fail("a late end", error))?;
    if late.recv_by(idc.deadline(limit)) != Ok(None) {
        return Err("a late client is not served".into());
    }
    ask(STOP)?;
    if number(&report, "own_errors") != 0 {
        return Err(format!("the victim failed by itself: {report}"));
    }
    for attack in script::<P>() {
        let Some(reason) = attack.reason.filter(|_| attack.by != By::Service) else { continue };
        let same = |other: &Attack<P>| other.reason == Some(reason) && other.by != By::Service;
        let wanted = script::<P>().iter().filter(|other| same(other)).count() as u64;
        if number(&report, reason.name()) < wanted {
            return Err(format!("{} was to be found {wanted} times at least: {report}", reason.name()));
        }
    }
    if number(&report, "storms") == 0 {
        return Err(format!("the storm of events was not noticed: {report}"));
    }
    Ok(format!("{round} rounds; {report}"))
}

/// An honest client of the trap: dials for each attack, and has to find its fault.
///
/// # Errors
/// The first attack that was not found, or that did harm.
pub fn visit<P: Platform>(
    idc: &Idc<P>,
    peer: DomId,
    limit: Duration,
    mut passed: impl FnMut(&str),
) -> Outcome {
    for attack in script_by::<P>(By::Service) {
        let name = attack.name;
        let error = match meet(idc, peer, idc.deadline(limit)) {
            Ok(()) => None,
            Err(error) if is_the_peers(&error) => Some(error),
            Err(error) => return Err(format!("{name}: it did harm: {error}")),
        };
        let found = match error {
            Some(Error::PeerMisbehaved { reason, .. }) => Some(reason),
            Some(Error::TimedOut | Error::PeerNotConnected { .. }) => {
                return Err(format!("{name}: held up: {error:?}"));
            }
            _ => None,
        };
        if attack.reason.is_some() && found != attack.reason {
            return Err(format!("{name}: {:?} was to be found, not {error:?}", attack.reason));
        }
        passed(name);
    }
    Ok(())
}

/// Echoes what the trap says, until it ends.
fn meet<P: Platform>(idc: &Idc<P>, peer: DomId, deadline: Deadline) -> idc::Result<()> {
    let mut channel = Channel::dial(idc, peer, TRAP, &config(), deadline)?;
    while let Some(message) = channel.recv_by(deadline)? {
        channel.send_by(&message, deadline)?;
    }
    channel.finish()
}

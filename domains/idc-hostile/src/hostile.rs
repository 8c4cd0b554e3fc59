//! The hostile roles.

use alloc::{collections::VecDeque, format, string::String, sync::Arc, vec::Vec};
use core::{sync::atomic::Ordering::SeqCst, time::Duration};

use idc::{
    Channel, DomId, GrantRef, Idc, ServiceName,
    platform::{Acceptor, Call, Dial, Event, Offer, Platform},
    setup::{State, control},
    shm::Memory,
};

use crate::{
    DONE, Outcome, TRAP, VICTIM,
    attack::{Attack, By, script_by},
    config,
    session::{Kept, Ours, Session, Theirs},
    settle,
};

/// Channels whose pages are kept mapped after their end, so many that an honest domain has to notice.
const KEPT: usize = 30;

/// Offers at once that nobody means.
const FLOOD: u64 = 40;

fn text(step: &str) -> impl Fn(idc::Error) -> String {
    move |error| format!("{step}: {error}")
}

/// A hostile client of the victim. `write` writes a node below this domain's home in xenstore, if there is one.
///
/// # Errors
/// When an attack could not be made; not when it was fended off.
pub fn assault<P: Platform>(
    idc: &Idc<P>,
    peer: DomId,
    limit: Duration,
    write: &mut dyn FnMut(&str, &[u8]),
    mut done: impl FnMut(&str),
) -> Outcome {
    let platform = idc.platform();
    let service = ServiceName::new(VICTIM).map_err(text("name"))?;
    for attack in script_by::<P>(By::Client) {
        let deadline = platform.now().saturating_add(nanos(settle(limit)));
        attempt(platform, peer, service, &attack, deadline, &mut || honest(idc, peer, limit, b"meanwhile"))
            .map_err(|error| format!("{}: {error}", attack.name))?;
        done(attack.name);
    }
    offers(platform, peer, service, limit, write)?;
    honest(idc, peer, limit, b"after the offers")?;
    done("offers");
    // Last of all, since it may be that this domain gets no channel any more; so there is one already.
    let deadline = idc.deadline(limit);
    let dialled = Channel::dial(idc, peer, VICTIM, &config(), deadline);
    let mut last = dialled.map_err(text("the last honest dial"))?;
    let kept = keep(platform, peer, service, limit);
    done(&format!("kept the pages of {} channels", kept.0.len()));
    last.send_by(DONE, deadline).map_err(text("the last honest message"))?;
    // Until the victim has gone, so that the honest have to get along with it.
    while let Ok(Some(_)) = last.recv_by(idc.deadline(limit)) {}
    drop(kept);
    Ok(())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One message there and back, as everybody does.
fn honest<P: Platform>(idc: &Idc<P>, peer: DomId, limit: Duration, message: &[u8]) -> Outcome {
    let deadline = idc.deadline(limit);
    let result = Channel::dial(idc, peer, VICTIM, &config(), deadline).and_then(|mut channel| {
        channel.send_by(message, deadline)?;
        let answer = channel.recv_by(deadline)?;
        channel.finish()?;
        channel.recv_by(deadline)?;
        Ok(answer)
    });
    match result.map_err(text("an honest message"))? {
        Some(answer) if answer == message => Ok(()),
        other => Err(format!("an honest message brought {other:?}")),
    }
}

/// Dials with a ring of our own making, and does what the attack says.
fn attempt<P: Platform>(
    platform: &P,
    peer: DomId,
    service: ServiceName,
    attack: &Attack<P>,
    deadline: u64,
    meanwhile: &mut dyn FnMut() -> Outcome,
) -> Outcome<Option<Theirs<P>>> {
    let event = Arc::new(platform.alloc_unbound(peer).map_err(text("port"))?);
    let ours = Ours::make(platform, peer, Some(&*event), attack).map_err(text("ring"))?;
    let dial = Dial { peer, service, gref: ours.gref, id: platform.nonce() };
    let mut call = platform.call(dial, deadline).map_err(text("offer"))?;
    if !attack.setup.is_empty() {
        // Offers are taken in order: when the one of this has been answered, that of the attack has been taken.
        meanwhile()?;
        return Ok(None);
    }
    let mut session = Session::new(platform, event, ours, deadline);
    let state = |session: &Session<P>| session.ours.reader.load(control::STATE, SeqCst);
    // As long as the offer stands: an honest side puts one off at times.
    while state(&session) == State::Absent.encode() && platform.now() < deadline {
        let _ = session.event.wait(platform.now().saturating_add(300_000_000).min(deadline));
        if state(&session) == State::Absent.encode() {
            call.remind().map_err(text("reminder"))?;
        }
    }
    if state(&session) != State::Open.encode() {
        return Err(format!("there is no answer: {:#x}", state(&session)));
    }
    let gref = session.ours.reader.load(control::REPLY_REF, SeqCst);
    let theirs = Theirs::map(platform, peer, GrantRef(gref as u32))?;
    theirs.open(GrantRef(0), attack);
    session.theirs = Some(theirs);
    session.notify();
    (attack.script)(&session);
    finish(&session, attack)?;
    Ok(session.theirs.take())
}

/// Waits until the honest side has found the fault, or ends the channel.
fn finish<P: Platform>(session: &Session<P>, attack: &Attack<P>) -> Outcome {
    let found = attack.reason.is_none() || session.wait(Session::has_closed);
    session.close();
    if found { Ok(()) } else { Err("the honest side has not closed the channel".into()) }
}

/// Offers without a meaning.
fn offers<P: Platform>(
    platform: &P,
    peer: DomId,
    service: ServiceName,
    limit: Duration,
    write: &mut dyn FnMut(&str, &[u8]),
) -> Outcome {
    let deadline = platform.now().saturating_add(nanos(limit));
    // Of pages that are not there, all at once, and twice under one number.
    let mut calls = Vec::new();
    for number in 0..FLOOD {
        let id = number / 2;
        let gref = GrantRef([0, 1, 7, 8, 500_000, u32::MAX][number as usize % 6]);
        calls.push(platform.call(Dial { peer, service, gref, id }, deadline).map_err(text("offer"))?);
    }
    let path = |id: &str| format!("data/idc-dial/{peer}-{service}-{id}");
    let values: [&[u8]; 8] =
        [b"", b"x", b"-1", b"99999999999999999999999", b"8 ", b"\xff\xfe", b"0x10", &[b'1'; 1000]];
    for (number, value) in values.iter().enumerate() {
        write(&path(&format!("{number:016x}")), value);
    }
    for id in ["", "0", "00000000000000001", "000000000000000G", "0000000000000001/x", "-000000000000001"] {
        write(&path(id), b"8");
    }
    write("data/idc-dial", b"8");
    Ok(())
}

/// Honest channels whose pages stay mapped here.
fn keep<P: Platform>(platform: &P, peer: DomId, service: ServiceName, limit: Duration) -> Kept<P> {
    let mut kept = Vec::new();
    let attack = Attack {
        name: "keep",
        by: By::Client,
        reason: None,
        setup: &[],
        answer: &[],
        script: |session: &Session<P>| session.messages(1, 100),
    };
    let end = platform.now().saturating_add(nanos(limit) / 5);
    while kept.len() < KEPT && platform.now() < end {
        // An honest domain that has to wait for its pages does not answer any more; one that has too many channels
        // refuses, until it has noticed that those before have ended.
        let deadline = platform.now().saturating_add(nanos(limit) / 20);
        match attempt(platform, peer, service, &attack, deadline, &mut || Ok(())) {
            Ok(Some(theirs)) => kept.push(theirs),
            _ => platform.sleep_until(platform.now().saturating_add(20_000_000)),
        }
    }
    Kept(kept)
}

/// A hostile service: the first client meets the first attack, and so on.
///
/// # Errors
/// When an attack could not be made; not when it was fended off.
pub fn trap<P: Platform>(
    idc: &Idc<P>,
    limit: Duration,
    ready: impl FnOnce(),
    mut done: impl FnMut(&str),
) -> Outcome {
    let platform = idc.platform();
    let service = ServiceName::new(TRAP).map_err(text("name"))?;
    let mut acceptor = platform.serve(service).map_err(text("serve"))?;
    ready();
    let mut taken: VecDeque<u64> = VecDeque::new();
    for attack in script_by::<P>(By::Service) {
        let offer = loop {
            let deadline = platform.now().saturating_add(nanos(limit));
            let offer = acceptor.next(deadline).map_err(text("accept"))?.ok_or("nobody comes")?;
            // An offer comes again while nobody answers.
            if !taken.contains(&offer.id) {
                break offer;
            }
        };
        taken.push_back(offer.id);
        let deadline = platform.now().saturating_add(nanos(settle(limit)));
        answer(platform, &offer, &attack, deadline).map_err(|error| format!("{}: {error}", attack.name))?;
        done(attack.name);
    }
    Ok(())
}

/// Answers with a ring of our own making, and does what the attack says.
fn answer<P: Platform>(platform: &P, offer: &Offer, attack: &Attack<P>, deadline: u64) -> Outcome {
    let theirs = Theirs::map(platform, offer.peer, offer.gref)?;
    let port = theirs.setup.port.ok_or("the offer has no port")?;
    let event = Arc::new(platform.bind_interdomain(offer.peer, port).map_err(text("binding"))?);
    let ours = Ours::make(platform, offer.peer, None, attack).map_err(text("ring"))?;
    theirs.open(ours.gref, attack);
    let mut session = Session::new(platform, event, ours, deadline);
    session.theirs = Some(theirs);
    session.notify();
    if attack.setup.is_empty() && attack.answer.is_empty() {
        // It has connected to our ring, or gone.
        session.wait(|session| {
            session.has_closed() || session.ours.reader.load(control::STATE, SeqCst) == State::Open.encode()
        });
    }
    (attack.script)(&session);
    finish(&session, attack)
}

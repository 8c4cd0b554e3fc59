//! The script of attacks, the same for a hostile client and a hostile service.

use alloc::{vec, vec::Vec};

use idc::{
    Violation,
    platform::Platform,
    record::{Kind, Record},
    setup::{PAGE_SIZE, control},
};

use crate::session::{CONTROL, DATA, Session};

/// Who may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Both.
    Any,
    /// Only one who dials.
    Client,
    /// Only one who answers.
    Service,
}

/// One attack.
#[derive(Debug)]
pub struct Attack<P: Platform> {
    /// Its name, for people.
    pub name: &'static str,
    /// Who does it.
    pub by: By,
    /// What the honest side has to find; `None` if it may end in any clean way.
    pub reason: Option<Violation>,
    /// Words of 32 bits to change in the setup page of our ring, by offset.
    pub setup: &'static [(usize, u32)],
    /// Bits to change in what a reader stores when it connects, by offset.
    pub answer: &'static [(usize, u64)],
    /// What happens on the open channel.
    pub script: fn(&Session<P>),
}

/// How long chaos lasts, in nanoseconds.
const CHAOS: u64 = 150_000_000;

fn header(kind: Kind, len: usize) -> u64 {
    Record::new(kind, len).encode()
}

fn pooled(kind: Kind, len: usize) -> Record {
    Record { kind, len, pooled: true }
}

fn nothing<P: Platform>(_: &Session<P>) {}

/// An honest message, after which the honest side looks at everything.
fn hello<P: Platform>(session: &Session<P>) {
    session.messages(1, 1000);
}

/// All attacks.
pub fn script<P: Platform>() -> Vec<Attack<P>> {
    let mut all = setup_pages();
    all.extend(answers());
    all.extend(records());
    all.extend(words());
    all.extend(storms());
    all
}

/// Those of one side.
pub fn script_by<P: Platform>(by: By) -> Vec<Attack<P>> {
    let mut all = script();
    all.retain(|attack| attack.by == By::Any || attack.by == by);
    all
}

fn setup_pages<P: Platform>() -> Vec<Attack<P>> {
    let attack = |name, by, reason, setup| Attack { name, by, reason, setup, answer: &[], script: nothing };
    let both = |name, reason, setup| attack(name, By::Any, reason, setup);
    vec![
        both("setup-magic", Some(Violation::SetupMagic), &[(0, 1)]),
        both("setup-version", None, &[(8, 3)]),
        both("setup-unknown-feature", None, &[(16, 1 << 30)]),
        both("setup-no-pages", Some(Violation::SetupGeometry), &[(44, 0)]),
        both("setup-too-many-pages", Some(Violation::SetupGeometry), &[(44, 257)]),
        both("setup-all-pages", Some(Violation::SetupGeometry), &[(44, u32::MAX)]),
        both("setup-too-large-a-pool", Some(Violation::SetupGeometry), &[(56, u32::MAX)]),
        both("setup-slots", Some(Violation::SetupGeometry), &[(60, 7)]),
        both("setup-more-grants-than-pages", Some(Violation::SetupGeometry), &[(128 + 255 * 4, 9)]),
        both("setup-reserved-grant", Some(Violation::SetupGrant), &[(48, 7)]),
        both("setup-reserved-data-grant", Some(Violation::SetupGrant), &[(128, 0)]),
        both("setup-grant-that-is-not-there", None, &[(128, 900_000)]),
        both("setup-control-page-that-is-not-there", None, &[(48, 800_001)]),
        attack("setup-no-port", By::Client, Some(Violation::SetupPort), &[(40, 0)]),
        attack("setup-port-that-is-not-there", By::Client, None, &[(40, 100_000)]),
        attack("setup-two-ports", By::Service, Some(Violation::SetupPort), &[(40, 5)]),
    ]
}

fn answers<P: Platform>() -> Vec<Attack<P>> {
    let attack = |name, by, reason, answer| Attack { name, by, reason, setup: &[], answer, script: hello };
    vec![
        attack("answer-nonce", By::Any, Some(Violation::Nonce), &[(control::NONCE, 1)]),
        attack("answer-state", By::Any, Some(Violation::StateUnknown), &[(control::STATE, 0x100)]),
        attack("answer-dead", By::Any, None, &[(control::ALIVE, 1)]),
        attack("answer-no-grant", By::Service, Some(Violation::ReplyGrant), &[(control::REPLY_REF, 1 << 63)]),
        attack("answer-another-grant", By::Service, None, &[(control::REPLY_REF, 1 << 20)]),
    ]
}

fn records<P: Platform>() -> Vec<Attack<P>> {
    let attack = |name, reason, script: fn(&Session<P>)| Attack {
        name,
        by: By::Any,
        reason: Some(reason),
        setup: &[],
        answer: &[],
        script,
    };
    vec![
        attack("header-kind", Violation::RecordHeader, |s| s.store(DATA, 1)),
        attack("header-all-bits", Violation::RecordHeader, |s| s.store(DATA, u64::MAX)),
        attack("header-high-bit", Violation::RecordHeader, |s| {
            s.store(DATA, header(Kind::Data, 8) | 1 << 63)
        }),
        attack("header-length", Violation::RecordLength, |s| {
            s.store(DATA, header(Kind::Data, u32::MAX as usize));
        }),
        attack("header-one-too-long", Violation::RecordLength, |s| {
            s.store(DATA, header(Kind::Data, 4 * PAGE_SIZE - 7));
        }),
        attack("header-filler", Violation::RecordFiller, |s| s.store(DATA, header(Kind::Filler, 8))),
        attack("fragment-alone", Violation::Fragment, |s| s.store(DATA, header(Kind::Fragment, 8))),
        attack("fragment-abort", Violation::Fragment, |s| s.store(DATA, header(Kind::Abort, 0))),
        attack("fragment-first-again", Violation::Fragment, |s| {
            s.record(Record::new(Kind::First, 100), &[200]);
            s.record(Record::new(Kind::First, 100), &[200]);
        }),
        attack("fragment-too-much", Violation::Fragment, |s| {
            s.record(Record::new(Kind::First, 100), &[200]);
            s.record(Record::new(Kind::Fragment, 109), &[]);
        }),
        attack("fragment-count", Violation::FragmentCount, |s| {
            s.record(Record::new(Kind::First, 16), &[5000]);
            (0..400).for_each(|_| s.record(Record::new(Kind::Fragment, 1), &[]));
        }),
        attack("message-without-end", Violation::MessageTooLarge, |s| {
            s.record(Record::new(Kind::First, 100), &[u64::MAX]);
        }),
        attack("pool-page", Violation::PoolPage, |s| s.record(pooled(Kind::Data, 100), &[3])),
        attack("pool-page-outside", Violation::PoolPage, |s| s.record(pooled(Kind::Data, 100), &[u64::MAX])),
        attack("pool-page-twice", Violation::PoolPage, |s| {
            s.record(pooled(Kind::Data, 100), &[0]);
            s.record(pooled(Kind::Data, 100), &[0]);
        }),
        attack("pool-length", Violation::RecordLength, |s| {
            s.record(pooled(Kind::Data, 4 * PAGE_SIZE + 1), &[0]);
        }),
    ]
}

fn words<P: Platform>() -> Vec<Attack<P>> {
    let attack = |name, reason, script: fn(&Session<P>)| Attack {
        name,
        by: By::Any,
        reason: Some(reason),
        setup: &[],
        answer: &[],
        script,
    };
    vec![
        attack("writer-state", Violation::StateUnknown, |s| s.store(CONTROL + control::STATE, 4)),
        attack("writer-state-back", Violation::StateBack, |s| s.store(CONTROL + control::STATE, 0)),
        attack("writer-armed", Violation::ArmedIndex, |s| {
            s.store(CONTROL + control::ARMED, u64::MAX);
            hello(s);
        }),
        attack("reader-state", Violation::StateUnknown, |s| {
            s.reply(control::STATE, 2);
            hello(s);
        }),
        attack("reader-state-back", Violation::StateBack, |s| {
            hello(s);
            // It has been seen to be open once it is answered.
            s.wait(|s| s.their_header(0) != 0);
            s.reply(control::STATE, 0);
            hello(s);
        }),
        attack("reader-armed", Violation::ArmedIndex, |s| {
            s.reply(control::ARMED, u64::MAX);
            hello(s);
        }),
        attack("reader-consumed-ahead", Violation::ConsumedAhead, |s| {
            s.reply(control::CONSUMED, !7);
            s.messages(8, 1000);
        }),
        attack("reader-consumed-between", Violation::ConsumedAhead, |s| {
            s.reply(control::CONSUMED, 12);
            s.messages(8, 1000);
        }),
        attack("reader-consumed-back", Violation::ConsumedBack, |s| {
            // Four answers of 1,008 bytes fill a page; for the fifth it has to look what was given back.
            s.reply(control::CONSUMED, 0);
            s.messages(4, 1000);
            s.wait(|s| s.their_header(3 * 1008) != 0);
            s.reply(control::CONSUMED, 2 * 1008);
            s.messages(1, 1000);
            // The fifth does not fit behind the fourth: there is a filler.
            s.wait(|s| s.their_header(4 * 1008) != 0);
            s.reply(control::CONSUMED, 0);
            s.messages(6, 1000);
        }),
        attack("reader-pool", Violation::PoolReturn, |s| {
            // An answer of this length takes a pool page, of which there are four.
            s.reply(control::POOL_CONSUMED, u64::MAX);
            s.messages(5, 3000);
        }),
    ]
}

/// Attacks without a word that is wrong for sure.
fn storms<P: Platform>() -> Vec<Attack<P>> {
    let attack = |name, script: fn(&Session<P>)| Attack {
        name,
        by: By::Any,
        reason: None,
        setup: &[],
        answer: &[],
        script,
    };
    vec![
        attack("events", |s| {
            (0..20_000).for_each(|_| s.notify());
            // And some, each of which finds the other side asleep again.
            for _ in 0..400 {
                s.notify();
                s.platform.sleep_until(s.platform.now().saturating_add(300_000));
            }
            // It is still served.
            hello(s);
            s.wait(|s| s.their_header(0) != 0);
        }),
        attack("silence", |s| {
            // Whoever sends and never reads: the honest side waits for room, and notices the end.
            s.messages(8, 1000);
            s.wait(|s| s.their_header(3 * 1008) != 0);
        }),
        attack("chaos-in-headers", |s| chaos(s, 1, |number| (DATA / 8) + number % 64)),
        attack("chaos-in-our-control", |s| chaos(s, 2, |number| CONTROL / 8 + number % 3)),
        attack("chaos-in-their-control", |s| {
            let own = s.words() - PAGE_SIZE / 8;
            chaos(s, 3, |number| own + number % 20);
        }),
        attack("chaos-in-the-pool", |s| chaos(s, 4, |number| DATA / 8 + number % 3)),
        attack("chaos-everywhere", |s| {
            let words = s.words();
            chaos(s, 5, |number| number % words);
        }),
    ]
}

/// Spoils words for some time, one after the other, with events and honest messages in between.
fn chaos<P: Platform>(session: &Session<P>, seed: u64, place: impl Fn(usize) -> usize) {
    let end = session.platform.now().saturating_add(CHAOS).min(session.deadline);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ session.platform.now() | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    hello(session);
    while session.platform.now() < end && !session.has_closed() {
        for _ in 0..64 {
            let number = next();
            let word = match number % 8 {
                0 => number,
                1 => 0,
                2 => number >> 60,
                3 => (number >> 40) & 0xfff8,
                4 => 3 | ((number >> 50) & 7) << 8,
                5 => ((number >> 20) & 0x3fff) | ((number >> 50) & 7) << 32 | 1 << 40,
                _ => ((number >> 20) & 0x7ff) | ((number >> 50) & 7) << 32,
            };
            session.spoil(place((next() >> 8) as usize), word);
        }
        session.notify();
        session.platform.relax();
    }
}

//! Waiting for a peer: spin, arm, look again, sleep in slices, notice that the peer is gone.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::DomId;
use crate::error::{Error, Result};
use crate::platform::{Event, Platform, PortStatus};
use crate::record::HEADER_LEN;
use crate::setup::{MAX_PAGES, PAGE_SIZE};
use crate::stats::{Counters, Stats};

/// A point in time of the platform's monotonic clock, in nanoseconds, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// Never passes.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// Has passed: do not wait.
    pub(crate) const PAST: Deadline = Deadline(0);

    /// So long after `now`.
    pub fn after(now: u64, timeout: Duration) -> Deadline {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Deadline(now.saturating_add(nanos))
    }
}

/// No sleep is longer: the death of a *domain* sends no event, so somebody has to ask. Two of these are below
/// the tenth of a second in which a dead peer is to be noticed.
const SLICE: u64 = 50_000_000;
/// Useless wake-ups without anything moving in between after which events are not listened to. An honest peer
/// causes few of them: something has moved for each event that it sends.
const STORM: u32 = 64;
/// Length of a sleep during such a storm.
const STORM_SLICE: u64 = 1_000_000;

/// Records that the largest ring can hold.
const MOST_RECORDS: usize = MAX_PAGES * PAGE_SIZE / HEADER_LEN;

/// Longest time to spin, in nanoseconds: what a wake-up costs, with some room. That is ten to thirty times what its sender
/// spends on the event (about 200 and 20 us between emulated domains, 30 and 1 to 2 us between processes), so it is
/// so many times that, within two limits.
const SPIN_MAX_EVENTS: u64 = 32;
const SPIN_MAX: u64 = 60_000;
const SPIN_MAX_EVER: u64 = 2_000_000;
/// Events whose cost is measured.
const MEASURED_EVENTS: u32 = 8;
/// Shortest one: below that it is given up.
const SPIN_MIN: u64 = 2_000;
/// Waits without spinning before it is tried again, at first and at most; twice as many after each vain try.
const REST_MIN: u32 = 16;
const REST_MAX: u32 = 1024;

/// Whether to spin before sleeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spin {
    /// As long as it pays, which each end learns by itself; not at all between processes on a single processor.
    #[default]
    Adaptive,
    /// Never.
    Never,
}

/// Nanoseconds that let a writer get ahead.
const PAUSE: u64 = 1_000;
/// Messages at once for which such a pause has paid.
const BURST: u64 = 8;

/// Whether a reader that has run out of messages lets its peer get ahead before it looks for the next one.
///
/// A reader that takes each short message as soon as it is there wants the cache line which the writer is filling, and both
/// wait for that line, at each message. After a short pause there are many, and they pass faster: between two processes on
/// an EPYC 35 instead of 49 ns for 64 bytes where the processors share a cache, 170 instead of 248 where they do not
/// (`idcperf --transport idc --size 64 --test stream`, in turns with the version before). In a dialogue it would only be a delay. So it is tried, kept while many messages come at once, and tried again after some
/// waits, ever more of them.
#[derive(Debug)]
struct Lag {
    /// Messages before the last wait, and whether there was a pause then.
    seen: u64,
    paused: bool,
    /// As in [`Waiter`].
    rest: u32,
    next_rest: u32,
}

impl Lag {
    const fn new() -> Lag {
        Lag { seen: 0, paused: false, rest: REST_MIN, next_rest: REST_MIN }
    }

    /// A wait begins, after so many messages in all: whether to pause.
    fn begin(&mut self, messages: u64) -> bool {
        let burst = messages.wrapping_sub(core::mem::replace(&mut self.seen, messages));
        if self.paused && burst >= BURST {
            self.next_rest = REST_MIN;
        } else if self.paused {
            (self.paused, self.rest) = (false, self.next_rest);
            self.next_rest = (self.next_rest * 2).min(REST_MAX);
        } else {
            self.rest = self.rest.saturating_sub(1);
            self.paused = self.rest == 0;
        }
        self.paused
    }
}

/// How one end waits; learns whether spinning pays.
///
/// It pays if the peer does something while we spin. What we find after a sleep says nothing about that: where both
/// sides have to share a processor, the answer comes right after we stop spinning, because we stop. So only spinning
/// is judged. A hit doubles its length and a miss halves it; when it gets too short it rests, and is tried again at
/// its full length after some waits, ever more of them.
#[derive(Debug)]
pub(crate) struct Waiter {
    may_spin: bool,
    /// Most nanoseconds to spin.
    longest: u64,
    /// Nanoseconds to spin; 0 while it rests.
    spin: u64,
    /// Waits for which it still rests, and for which it will the next time.
    rest: u32,
    next_rest: u32,
    /// Useless wake-ups that have not been made up for.
    useless: u32,
    lag: Lag,
}

impl Waiter {
    pub(crate) fn new(spin: Spin, can_spin: bool) -> Waiter {
        let may_spin = spin == Spin::Adaptive && can_spin;
        Waiter {
            may_spin,
            longest: SPIN_MAX,
            spin: if may_spin { SPIN_MAX } else { 0 },
            rest: 0,
            next_rest: REST_MIN,
            useless: 0,
            lag: Lag::new(),
        }
    }

    /// A reader begins to wait, after so many messages in all.
    pub(crate) fn let_peer_get_ahead(&mut self, messages: u64, now: impl Fn() -> u64) {
        if self.may_spin && self.lag.begin(messages) {
            let end = now().saturating_add(PAUSE);
            while now() < end {
                core::hint::spin_loop();
            }
        }
    }

    /// A wake-up was found to be so dear that spinning pays up to `longest` nanoseconds.
    fn limit(&mut self, longest: u64) {
        if longest > core::mem::replace(&mut self.longest, longest) && self.spin > 0 {
            self.spin = longest;
        }
    }

    /// How long to spin in the wait that begins.
    fn plan(&mut self) -> u64 {
        if self.may_spin && self.spin == 0 {
            match self.rest.checked_sub(1) {
                Some(rest) => self.rest = rest,
                None => return self.longest,
            }
        }
        self.spin
    }

    /// What came of it.
    fn learn(&mut self, hit: bool) {
        if hit {
            self.spin = (self.spin * 2).clamp(self.longest / 2, self.longest);
            self.next_rest = REST_MIN;
            return;
        }
        self.spin /= 2;
        if self.spin < SPIN_MIN {
            self.spin = 0;
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(REST_MAX);
        }
    }

    /// The peer did something. An honest one may have sent an event that comes too late to be of use, in either
    /// direction of a channel.
    fn moved(&mut self) {
        self.useless = self.useless.saturating_sub(4);
    }
}

/// What sending an event takes, found out with the first few.
#[derive(Debug)]
pub(crate) struct EventCost {
    /// Nanoseconds of the cheapest.
    least: AtomicU64,
    /// How many more are measured.
    left: AtomicU32,
}

impl EventCost {
    pub(crate) fn new() -> EventCost {
        EventCost { least: AtomicU64::new(u64::MAX), left: AtomicU32::new(MEASURED_EVENTS) }
    }

    /// Nanoseconds for which spinning may pay.
    fn longest_spin(&self) -> u64 {
        match self.least.load(Ordering::Relaxed) {
            u64::MAX => SPIN_MAX,
            least => least.saturating_mul(SPIN_MAX_EVENTS).clamp(SPIN_MAX, SPIN_MAX_EVER),
        }
    }

    /// Does something and measures it, while that is of interest.
    fn measure<T>(&self, now: impl Fn() -> u64, send: impl FnOnce() -> T) -> T {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return send();
        }
        let start = now();
        let sent = send();
        self.least.fetch_min(now().saturating_sub(start), Ordering::Relaxed);
        // Two halves of a channel may measure one more.
        self.left.store(left - 1, Ordering::Relaxed);
        sent
    }
}

/// The port of a channel, whom it leads to, and where to count.
#[derive(Debug)]
pub(crate) struct Link<P: Platform> {
    pub(crate) platform: P,
    pub(crate) event: Arc<P::Event>,
    pub(crate) peer: DomId,
    pub(crate) counters: Arc<Counters>,
    /// How dear events are.
    pub(crate) cost: Arc<EventCost>,
    /// Counts the channel at the listener that accepted it, until its last half is gone.
    pub(crate) ticket: Option<Arc<()>>,
}

impl<P: Platform> Link<P> {
    /// The same port for the other direction.
    pub(crate) fn share(&self) -> Link<P> {
        Link {
            platform: self.platform.clone(),
            event: Arc::clone(&self.event),
            peer: self.peer,
            counters: Arc::clone(&self.counters),
            cost: Arc::clone(&self.cost),
            ticket: self.ticket.clone(),
        }
    }

    pub(crate) fn notify(&self, stats: &mut Stats) -> Result<()> {
        stats.events_sent += 1;
        self.cost.measure(|| self.platform.now(), || self.event.notify())
    }

    /// Takes an event if there is one.
    pub(crate) fn take_event(&self, stats: &mut Stats) -> Result<bool> {
        let taken = self.event.wait(0)?;
        stats.wakes += u64::from(taken);
        Ok(taken)
    }

    /// Asks the system whether the peer, which had bound to our port, has gone.
    pub(crate) fn peer_has_gone(&self) -> Result<bool> {
        Ok(self.event.status()? == PortStatus::Unbound)
    }

    /// Waits until `step` is done. It looks whether there is something to do, and with [`Phase::Arm`] it asks the
    /// peer for an event before it looks.
    pub(crate) fn block(
        &self,
        waiter: &mut Waiter,
        stats: &mut Stats,
        deadline: Deadline,
        step: &mut dyn FnMut(Phase) -> Result<Step>,
    ) -> Result<()> {
        let mut ask_at = None;
        let mut has_spun = false;
        let mut woken = false;
        loop {
            match step(Phase::Look)? {
                Step::Done => {
                    waiter.moved();
                    return Ok(());
                }
                Step::Again => {
                    woken = false;
                    waiter.moved();
                    // The peer keeps us busy without giving us anything; others and the deadline count too.
                    self.platform.relax();
                    if self.platform.now() >= deadline.0 {
                        return Err(Error::TimedOut);
                    }
                    continue;
                }
                Step::Wait { .. } => {}
            }
            let mut now = self.platform.now();
            if woken {
                stats.spurious_wakes += 1;
                waiter.useless += 1;
                if waiter.useless == STORM {
                    self.counters.storm();
                }
            }
            if !core::mem::replace(&mut has_spun, true) {
                waiter.limit(self.cost.longest_spin());
                let time = waiter.plan();
                if time > 0 {
                    let hit = self.spin(time, now, deadline, stats, step)?;
                    waiter.learn(hit);
                    if hit {
                        waiter.moved();
                        return Ok(());
                    }
                    // The clock has moved on.
                    now = self.platform.now();
                }
            }
            let ticket = self.event.ticket();
            stats.arms += 1;
            let bound = match step(Phase::Arm)? {
                Step::Done => {
                    waiter.moved();
                    return Ok(());
                }
                Step::Again => {
                    woken = false;
                    waiter.moved();
                    continue;
                }
                Step::Wait { bound } => bound,
            };
            if now >= deadline.0 {
                return Err(Error::TimedOut);
            }
            let slice_end = *ask_at.get_or_insert(now.saturating_add(SLICE));
            stats.parks += 1;
            woken = if waiter.useless < STORM {
                self.event.wait_since(ticket, slice_end.min(deadline.0))?
            } else {
                self.platform.sleep_until(now.saturating_add(STORM_SLICE).min(deadline.0));
                false
            };
            stats.wakes += u64::from(woken);
            now = self.platform.now();
            // Without an event something else happened: time passed, or the platform has news of the peer.
            if !woken || now >= slice_end {
                ask_at = None;
                stats.liveness_checks += 1;
                if bound && self.event.status()? == PortStatus::Unbound {
                    return self.last_look(step);
                }
            }
        }
    }

    /// Looks again and again for some time: whether the step is done.
    fn spin(
        &self,
        time: u64,
        now: u64,
        deadline: Deadline,
        stats: &mut Stats,
        step: &mut dyn FnMut(Phase) -> Result<Step>,
    ) -> Result<bool> {
        let end = now.saturating_add(time).min(deadline.0);
        let mut now = now;
        while now < end {
            for _ in 0..64 {
                core::hint::spin_loop();
                if step(Phase::Look)? == Step::Done {
                    stats.spins += 1;
                    return Ok(true);
                }
            }
            self.platform.relax();
            now = self.platform.now();
        }
        stats.spin_misses += 1;
        Ok(false)
    }

    /// The peer is gone, but what it had written before still counts.
    fn last_look(&self, step: &mut dyn FnMut(Phase) -> Result<Step>) -> Result<()> {
        // Each time something is consumed; a peer that has only closed its port could add to it for ever.
        for _ in 0..MOST_RECORDS {
            match step(Phase::Look)? {
                Step::Done => return Ok(()),
                Step::Again => {}
                Step::Wait { .. } => break,
            }
        }
        self.counters.peer_died();
        Err(Error::PeerDied { peer: self.peer })
    }
}

/// What `block` wants from its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Look.
    Look,
    /// Ask for an event, then look.
    Arm,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was waited for.
    Done,
    /// Something moved, but that is not it yet: look again at once.
    Again,
    /// Nothing to do before the peer does something. `bound`: it has bound to our port at some time, so that
    /// a port that nobody is bound to means that it is gone.
    Wait { bound: bool },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(waiter: &mut Waiter, count: usize, hits: impl Fn(u64) -> bool) -> (u64, usize) {
        let (mut spent, mut hit) = (0, 0);
        for _ in 0..count {
            let time = waiter.plan();
            spent += time;
            if time > 0 {
                hit += usize::from(hits(time));
                waiter.learn(hits(time));
            }
        }
        (spent, hit)
    }

    #[test]
    fn vain_spinning_costs_next_to_nothing() {
        let mut waiter = Waiter::new(Spin::Adaptive, true);
        let (at_first, _) = waits(&mut waiter, 10, |_| false);
        assert!(at_first <= 2 * SPIN_MAX, "{at_first}");
        let (later, _) = waits(&mut waiter, 100_000, |_| false);
        assert!(later / 100_000 < SPIN_MAX / 500, "{later}");
    }

    #[test]
    fn spinning_that_pays_goes_on_and_comes_back() {
        let mut waiter = Waiter::new(Spin::Adaptive, true);
        let slow = |time| time >= SPIN_MAX / 2;
        assert_eq!(waits(&mut waiter, 1000, slow).1, 1000);
        // A single miss does not end it.
        waiter.learn(false);
        assert_eq!(waits(&mut waiter, 1000, slow).1, 1000);
        waits(&mut waiter, 100_000, |_| false);
        let (_, hits) = waits(&mut waiter, 2 * REST_MAX as usize, slow);
        assert!(hits >= REST_MAX as usize, "{hits}");
    }

    #[test]
    fn dear_events_are_worth_a_longer_spin() {
        let cost = EventCost::new();
        let mut waiter = Waiter::new(Spin::Adaptive, true);
        assert_eq!((cost.longest_spin(), waiter.plan()), (SPIN_MAX, SPIN_MAX));
        let clock = core::cell::Cell::new(0);
        let send = |nanos| cost.measure(|| clock.get(), || clock.set(clock.get() + nanos));
        send(50_000);
        send(20_000);
        waiter.limit(cost.longest_spin());
        assert_eq!(waiter.plan(), 640_000);
        (2..MEASURED_EVENTS).for_each(|_| send(30_000));
        send(1);
        assert_eq!(cost.longest_spin(), 640_000, "only the first few are measured");
        let dear = EventCost::new();
        dear.measure(|| clock.replace(clock.get() + 1_000_000_000), || ());
        assert_eq!(dear.longest_spin(), SPIN_MAX_EVER);
        let cheap = EventCost::new();
        cheap.measure(|| clock.get(), || ());
        assert_eq!(cheap.longest_spin(), SPIN_MAX);
    }

    #[test]
    fn a_stream_gets_ahead_and_a_dialogue_does_not_wait() {
        let mut lag = Lag::new();
        // A stream: after a pause there are many messages.
        let (mut messages, mut pauses) = (0, 0);
        for _ in 0..1000 {
            let paused = lag.begin(messages);
            pauses += u32::from(paused);
            messages += if paused { 40 } else { 1 };
        }
        assert!(pauses > 980, "{pauses}");
        // A dialogue: there is never more than one.
        pauses = 0;
        for _ in 0..10_000 {
            pauses += u32::from(lag.begin(messages));
            messages += 1;
        }
        assert!((1..20).contains(&pauses), "{pauses}");
    }

    #[test]
    fn who_may_not_spin_does_not() {
        for (spin, can_spin) in [(Spin::Never, true), (Spin::Adaptive, false)] {
            assert_eq!(waits(&mut Waiter::new(spin, can_spin), 5000, |_| true), (0, 0));
        }
    }
}

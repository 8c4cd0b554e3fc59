//! Waiting for a peer: spin, arm, look again, sleep in slices, notice that the peer is gone.

use alloc::sync::Arc;
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

/// Longest time to spin, in nanoseconds: about twice what a wake-up costs.
const SPIN_MAX: u64 = 60_000;

/// Whether to spin before sleeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spin {
    /// As long as it pays, and not at all with a single processor.
    #[default]
    Adaptive,
    /// Never.
    Never,
}

/// How one end waits; learns whether spinning pays.
#[derive(Debug)]
pub(crate) struct Waiter {
    may_spin: bool,
    /// Nanoseconds to spin.
    spin: u64,
    /// Useless wake-ups that have not been made up for.
    useless: u32,
}

impl Waiter {
    pub(crate) fn new(spin: Spin, can_spin: bool) -> Waiter {
        let may_spin = spin == Spin::Adaptive && can_spin;
        Waiter { may_spin, spin: if may_spin { SPIN_MAX } else { 0 }, useless: 0 }
    }

    /// The peer did something. An honest one may have sent an event that comes too late to be of use, in either
    /// direction of a channel.
    fn moved(&mut self) {
        self.useless = self.useless.saturating_sub(4);
    }

    /// After a wait that spinning did not end: would longer spinning have ended it?
    fn learn(&mut self, waited: u64) {
        if self.may_spin {
            self.spin =
                if waited <= SPIN_MAX { (self.spin * 2).clamp(1000, SPIN_MAX) } else { self.spin / 2 };
        }
    }
}

/// The port of a channel, whom it leads to, and where to count.
#[derive(Debug)]
pub(crate) struct Link<P: Platform> {
    pub(crate) platform: P,
    pub(crate) event: Arc<P::Event>,
    pub(crate) peer: DomId,
    pub(crate) counters: Arc<Counters>,
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
            ticket: self.ticket.clone(),
        }
    }

    pub(crate) fn notify(&self, stats: &mut Stats) -> Result<()> {
        stats.events_sent += 1;
        self.event.notify()
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
        let mut since = None;
        let mut woken = false;
        loop {
            match step(Phase::Look)? {
                Step::Done => {
                    waiter.moved();
                    if let Some(since) = since {
                        waiter.learn(self.platform.now().saturating_sub(since));
                    }
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
            if since.is_none() {
                since = Some(now);
                if self.spin(waiter.spin, now, deadline, stats, step)? {
                    return Ok(());
                }
            }
            let ticket = self.event.ticket();
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
            now = self.platform.now();
        }
        stats.spin_misses += u64::from(time > 0);
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

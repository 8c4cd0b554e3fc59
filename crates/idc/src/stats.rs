//! Counters, readable by the program.
//!
//! [`Stats`] belongs to one end of one ring and needs no locked operation. [`Counters`] are shared by all
//! channels of one [`Idc`](crate::Idc): what has to outlive a channel, above all violations by reason.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::Violation;

/// What one end of a ring has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent or received completely.
    pub messages: u64,
    /// Bytes of payload in them.
    pub bytes: u64,
    /// Events sent to the peer (each is a hypercall or system call).
    pub events_sent: u64,
    /// Times this end went to sleep.
    pub parks: u64,
    /// Events that ended a sleep.
    pub wakes: u64,
    /// Of those, events after which there was still nothing to do.
    pub spurious_wakes: u64,
    /// Waits that ended while spinning, without a sleep.
    pub spins: u64,
    /// Sleeps that were cut to look whether the peer still lives.
    pub liveness_checks: u64,
}

impl core::ops::Add for Stats {
    type Output = Stats;

    fn add(self, other: Stats) -> Stats {
        Stats {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            events_sent: self.events_sent + other.events_sent,
            parks: self.parks + other.parks,
            wakes: self.wakes + other.wakes,
            spurious_wakes: self.spurious_wakes + other.spurious_wakes,
            spins: self.spins + other.spins,
            liveness_checks: self.liveness_checks + other.liveness_checks,
        }
    }
}

/// Counters of all channels together.
#[derive(Debug)]
pub struct Counters {
    violations: [AtomicU64; Violation::ALL.len()],
    peers_died: AtomicU64,
    refused: AtomicU64,
    storms: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            violations: [const { AtomicU64::new(0) }; Violation::ALL.len()],
            peers_died: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            storms: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(crate) fn violation(&self, reason: Violation) {
        // `index` counts the variants, and the array has one element for each.
        if let Some(counter) = self.violations.get(reason.index()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn peer_died(&self) {
        self.peers_died.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn storm(&self) {
        self.storms.fetch_add(1, Ordering::Relaxed);
    }

    /// How often peers broke the protocol in this way.
    pub fn violations(&self, reason: Violation) -> u64 {
        self.violations.get(reason.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// How often peers broke the protocol in any way.
    pub fn all_violations(&self) -> u64 {
        self.violations.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// Channels whose peer died.
    pub fn peers_died(&self) -> u64 {
        self.peers_died.load(Ordering::Relaxed)
    }

    /// Clients that a listener turned away.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Times that useless events came so often that an end stopped listening to them for a while.
    pub fn storms(&self) -> u64 {
        self.storms.load(Ordering::Relaxed)
    }
}

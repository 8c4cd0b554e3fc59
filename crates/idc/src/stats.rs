//! Counters, readable by the program.
//!
//! [`Stats`] belongs to one end of one ring and needs no locked operation. [`Counters`] are shared by all
//! channels of one [`Idc`](crate::Idc): what has to outlive a channel, above all violations by reason.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::Violation;

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one end of a ring has done so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl core::ops::Add for Stats {
            type Output = Stats;

            fn add(self, other: Stats) -> Stats {
                Stats { $($name: self.$name + other.$name,)+ }
            }
        }

        impl Stats {
            /// Names and values, in order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

stats! {
    /// Messages sent or received completely.
    messages,
    /// Events sent to the peer. Each is a hypercall, or a system call that makes one; there are no others for sending
    /// and receiving.
    events_sent,
    /// Times this end asked the peer for an event; it then slept, or saw that it need not. The peer answers each with one
    /// event at most.
    arms,
    /// Times this end went to sleep.
    parks,
    /// Events that ended a sleep.
    wakes,
    /// Of those, events after which there was still nothing to do.
    spurious_wakes,
    /// Waits that ended while spinning, without a sleep.
    spins,
    /// Waits in which spinning was in vain.
    spin_misses,
    /// Sleeps that were cut to look whether the peer still lives.
    liveness_checks,
    /// Bytes of payload in the messages. (Not beside `messages`, for the reason that is given in `Producer`.)
    bytes,
}

impl Stats {
    /// A JSON object with one number for each counter.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        object(&mut json, self.entries());
        json
    }
}

/// Appends an object of numbers. Names are identifiers, so they need no escapes.
fn object(json: &mut String, entries: impl Iterator<Item = (&'static str, u64)>) {
    json.push('{');
    for (index, (name, value)) in entries.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(json, "{comma}\"{name}\":{value}");
    }
    json.push('}');
}

/// Counters of all channels together.
#[derive(Debug)]
pub struct Counters {
    violations: [AtomicU64; Violation::ALL.len()],
    peers_died: AtomicU64,
    refused: AtomicU64,
    put_off: AtomicU64,
    storms: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            violations: [const { AtomicU64::new(0) }; Violation::ALL.len()],
            peers_died: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            put_off: AtomicU64::new(0),
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

    pub(crate) fn put_off(&self) {
        self.put_off.fetch_add(1, Ordering::Relaxed);
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

    /// Offers that a listener left for later, because that client had not unmapped the pages of closed channels.
    pub fn offers_put_off(&self) -> u64 {
        self.put_off.load(Ordering::Relaxed)
    }

    /// Times that useless events came so often that an end stopped listening to them for a while.
    pub fn storms(&self) -> u64 {
        self.storms.load(Ordering::Relaxed)
    }

    /// A JSON object with one number for each counter, and an object `violations` with one for each reason that has
    /// occurred.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"violations\":");
        let reasons = Violation::ALL.iter().map(|reason| (reason.name(), self.violations(*reason)));
        object(&mut json, reasons.filter(|(_, count)| *count > 0));
        let numbers = [
            ("peers_died", self.peers_died()),
            ("refused", self.refused()),
            ("put_off", self.offers_put_off()),
            ("storms", self.storms()),
        ];
        for (name, value) in numbers {
            let _ = write!(json, ",\"{name}\":{value}");
        }
        json.push('}');
        json
    }
}

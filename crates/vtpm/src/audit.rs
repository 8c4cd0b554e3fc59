//! A log that cannot be changed unnoticed in the middle, and cannot be flooded.
//!
//! Each line ends with the first 8 bytes of SHA-256(hash of the line before, line). Whoever collects the console
//! verifies the chain with [`Chain`]; the last link is in the answer to `INFO`. Refusals of one kind from one domain
//! are counted, and a line is written for the first few and then each time the count has doubled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest, Sha256};

/// Refusals of one kind that are all written.
const VERBATIM: u64 = 4;
/// Kinds of refusals that are told apart, each for a domain; beyond that they share one count.
const COUNTERS: usize = 64;

/// The hash chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain([u8; 32]);

impl Chain {
    /// The chain goes on with this text; returns its new link.
    pub fn link(&mut self, text: &str) -> String {
        self.0 = Sha256::new().chain_update(self.0).chain_update(text.as_bytes()).finalize().into();
        self.head()
    }

    /// The newest link.
    pub fn head(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is refused and why, in short words; also the key under which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    domid: u16,
    what: &'static str,
    count: u64,
}

/// Writes lines through a function.
pub struct Audit {
    chain: Chain,
    counts: Vec<Count>,
    refusals: u64,
    write: alloc::boxed::Box<dyn FnMut(&str) + Send>,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("chain", &self.chain).field("refusals", &self.refusals).finish()
    }
}

impl Audit {
    /// Lines go to `write`, without a line end.
    pub fn new(write: impl FnMut(&str) + Send + 'static) -> Audit {
        Audit {
            chain: Chain::default(),
            counts: Vec::new(),
            refusals: 0,
            write: alloc::boxed::Box::new(write),
        }
    }

    /// Something happened that is in the manager's hands, so it cannot flood.
    pub fn event(&mut self, text: fmt::Arguments<'_>) {
        // What peers sent never gets into a line as text, so it cannot forge one.
        let text = format!("{text}");
        let link = self.chain.link(&text);
        (self.write)(&format!("{text} [{link}]"));
    }

    /// Something was refused to a domain. `what` must be one of a small set.
    pub fn refusal(&mut self, domid: u16, what: &'static str, why: fmt::Arguments<'_>) {
        self.refusals += 1;
        let full = self.counts.len() >= COUNTERS;
        let known = self.counts.iter().position(|entry| entry.domid == domid && entry.what == what);
        let place = match known {
            Some(place) => place,
            None if full => 0,
            None => {
                self.counts.push(Count { domid, what, count: 0 });
                self.counts.len() - 1
            }
        };
        let Some(entry) = self.counts.get_mut(place) else { return };
        entry.count += 1;
        let count = entry.count;
        if count <= VERBATIM || count.is_power_of_two() {
            self.event(format_args!("refused domain {domid}: {what}: {why} (number {count})"));
        }
    }

    /// Refusals so far.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The newest link of the chain.
    pub fn head(&self) -> String {
        self.chain.head()
    }
}

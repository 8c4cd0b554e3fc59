//! Rings of ours that are not used any more, until their readers have unmapped them.
//!
//! If a page is given back to gntalloc while a peer has it mapped, the kernel puts it on a list of its own, and frees ten
//! of that list in a second (`grant_table.free_per_iteration`). A ring has 67 pages, so a program that made one channel
//! after the other would use up its domain's memory that way. The reader's liveness byte tells when it has unmapped the
//! ring: the reader's kernel clears it then.
//!
//! What a peer never unmaps is given back all the same: after a time, when gntalloc has no more pages, or at the end.

use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

use super::{Entry, now};
use crate::ring::RingMemory;
use crate::setup::control;
use crate::shm::Memory;

/// So long after the byte was cleared the pages are unmapped in all likelihood (nanoseconds).
const UNMAPPING: u64 = 5_000_000;
/// So long a ring is kept for a peer that does not unmap it (nanoseconds).
const KEEP: u64 = 5_000_000_000;
/// So long the last handle waits for peers to unmap what they can (nanoseconds).
const LAST: u64 = 100_000_000;

/// Rings that wait for their readers.
#[derive(Debug, Default)]
pub(super) struct Retired(Vec<Waiting>);

/// A ring, in whatever way its pages are kept.
trait Ring: fmt::Debug + Send + Sync {
    /// Whether no reader has mapped it.
    fn is_gone(&self) -> bool;
}

impl<M: Memory + fmt::Debug + Send + Sync> Ring for RingMemory<M> {
    fn is_gone(&self) -> bool {
        // The kernel of a Linux peer clears the lowest byte; nobody sets others.
        self.reader.load(control::ALIVE, Ordering::Acquire) == 0
    }
}

#[derive(Debug)]
struct Waiting {
    ring: Arc<dyn Ring>,
    /// When it is given back.
    until: u64,
    /// The reader has unmapped it, or is about to.
    gone: bool,
}

impl Waiting {
    fn look(&mut self, now: u64) {
        if !self.gone && self.ring.is_gone() {
            (self.gone, self.until) = (true, self.until.min(now.saturating_add(UNMAPPING)));
        }
    }
}

impl Retired {
    /// Keeps a ring, unless its reader is gone. `entry` are the pages that the writer writes.
    pub(super) fn add<M>(&mut self, ring: &Arc<RingMemory<M>>, entry: &Entry, now: u64)
    where
        M: Memory + fmt::Debug + Send + Sync + 'static,
    {
        self.sweep(now);
        if ring.is_gone() {
            return;
        }
        // The end of this side comes now, and not with the end of the pages; and its port can be closed.
        let at = ring.control + control::ALIVE;
        ring.writer.store(at, 0, Ordering::Release);
        entry.announce_nothing(at);
        self.keep(Arc::<RingMemory<M>>::clone(ring), now);
    }

    fn keep(&mut self, ring: Arc<dyn Ring>, now: u64) {
        self.0.push(Waiting { ring, until: now.saturating_add(KEEP), gone: false });
    }

    /// Gives back what readers have unmapped, or had time enough to.
    pub(super) fn sweep(&mut self, now: u64) {
        self.0.retain_mut(|waiting| {
            waiting.look(now);
            now < waiting.until
        });
    }

    /// Gives everything back: whether there was anything.
    pub(super) fn give_up(&mut self) -> bool {
        !core::mem::take(&mut self.0).is_empty()
    }
}

/// The end of the last handle, and mostly of the program: what readers are unmapping just now is worth a moment.
impl Drop for Retired {
    fn drop(&mut self) {
        let end = now().saturating_add(LAST);
        loop {
            let time = now();
            self.sweep(time);
            if self.0.is_empty() || time >= end {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicBool;

    use super::*;

    /// Whether a reader has it mapped.
    #[derive(Debug)]
    struct Mapped(AtomicBool);

    impl Ring for Mapped {
        fn is_gone(&self) -> bool {
            !self.0.load(Ordering::Relaxed)
        }
    }

    fn mapped() -> Arc<Mapped> {
        Arc::new(Mapped(AtomicBool::new(true)))
    }

    fn kept(ring: &Arc<Mapped>) -> bool {
        Arc::strong_count(ring) > 1
    }

    #[test]
    fn a_ring_is_given_back_a_moment_after_its_reader_has_unmapped_it() {
        let mut retired = Retired::default();
        let (one, two) = (mapped(), mapped());
        retired.keep(one.clone(), 0);
        retired.keep(two.clone(), 0);
        one.0.store(false, Ordering::Relaxed);
        retired.sweep(1_000_000);
        assert!(kept(&one), "its reader is about to unmap it");
        retired.sweep(1_000_000 + UNMAPPING);
        assert!(!kept(&one) && kept(&two));
        assert!(retired.give_up() && !kept(&two));
        assert!(!retired.give_up());
    }

    #[test]
    fn a_peer_that_never_unmaps_a_ring_does_not_keep_it_for_ever() {
        let mut retired = Retired::default();
        let ring = mapped();
        retired.keep(ring.clone(), 7);
        retired.sweep(6 + KEEP);
        assert!(kept(&ring));
        // Nor does one that pretends to be about to unmap it in the last moment.
        ring.0.store(false, Ordering::Relaxed);
        retired.sweep(6 + KEEP);
        retired.sweep(7 + KEEP);
        assert!(!kept(&ring));
    }

    #[test]
    fn the_last_handle_does_not_wait_for_ever() {
        let mut retired = Retired::default();
        let ring = mapped();
        retired.keep(ring.clone(), now());
        drop(retired);
        assert!(!kept(&ring));
    }
}

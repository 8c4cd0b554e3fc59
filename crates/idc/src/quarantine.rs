//! Pages that were taken back from a peer that still has them mapped.
//!
//! Xen cannot take a mapping away. A page whose grant cannot be ended stays here: not freed, not used, until the
//! peer has unmapped it. Each attempt to make a channel first tries to end the old grants. A peer that keeps
//! too many gets no new channel, so it can waste no more than the budget and one channel; others are not affected.
//! It may only be slow: who dials waits for it until the deadline, and who is dialled leaves its offer for later.

use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::{DomId, GrantRef};

/// Pages that one peer may keep; two default channels.
pub(crate) const BUDGET: usize = 160;

/// Pages in quarantine. `T` stands for a page.
#[derive(Debug)]
pub(crate) struct Quarantine<T> {
    held: Vec<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    peer: DomId,
    gref: GrantRef,
    page: T,
}

impl<T> Quarantine<T> {
    pub(crate) const fn new() -> Quarantine<T> {
        Quarantine { held: Vec::new() }
    }

    /// Takes a page out of use: frees it if its grant can be ended now, and keeps it if not.
    pub(crate) fn retire(
        &mut self,
        peer: DomId,
        gref: GrantRef,
        page: T,
        end: impl FnOnce(GrantRef) -> bool,
        free: impl FnOnce(T),
    ) {
        if end(gref) {
            free(page);
        } else {
            self.held.push(Held { peer, gref, page });
        }
    }

    /// Tries again to end what could not be ended.
    pub(crate) fn sweep(&mut self, mut end: impl FnMut(GrantRef) -> bool, mut free: impl FnMut(T)) {
        let mut index = 0;
        while let Some(held) = self.held.get(index) {
            if end(held.gref) {
                free(self.held.swap_remove(index).page);
            } else {
                index += 1;
            }
        }
    }

    /// Whether the peer may have more pages.
    pub(crate) fn admit(&self, peer: DomId) -> Result<()> {
        let pages = self.held_by(Some(peer));
        if pages > BUDGET { Err(Error::Quarantined { peer, pages }) } else { Ok(()) }
    }

    /// Pages in quarantine, of one peer or of all.
    pub(crate) fn held_by(&self, peer: Option<DomId>) -> usize {
        self.held.iter().filter(|held| peer.is_none_or(|peer| held.peer == peer)).count()
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use super::*;

    const EVIL: DomId = DomId(7);
    const GOOD: DomId = DomId(8);

    #[test]
    fn a_page_is_freed_when_its_grant_has_ended_and_not_before() {
        let mapped = RefCell::new(alloc::vec![1, 2]);
        let freed = RefCell::new(Vec::new());
        let end = |gref: GrantRef| !mapped.borrow().contains(&gref.0);
        let free = |page: char| freed.borrow_mut().push(page);
        let mut quarantine = Quarantine::new();
        for (gref, page) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            quarantine.retire(EVIL, GrantRef(gref), page, end, free);
        }
        assert_eq!((quarantine.held_by(None), freed.borrow().as_slice()), (2, &['c'][..]));
        quarantine.sweep(end, free);
        assert_eq!(quarantine.held_by(None), 2, "they are still mapped");
        mapped.borrow_mut().retain(|gref| *gref != 1);
        quarantine.sweep(end, free);
        assert_eq!((quarantine.held_by(None), freed.borrow().as_slice()), (1, &['c', 'a'][..]));
        mapped.borrow_mut().clear();
        quarantine.sweep(end, free);
        assert_eq!((quarantine.held_by(None), freed.borrow().len()), (0, 3));
    }

    #[test]
    fn a_peer_that_keeps_too_much_gets_nothing_more_and_others_do() {
        let mut quarantine = Quarantine::new();
        for gref in 0..=BUDGET as u32 {
            assert_eq!(quarantine.admit(EVIL), Ok(()));
            quarantine.retire(EVIL, GrantRef(gref), (), |_| false, |()| panic!("it is still mapped"));
        }
        assert_eq!(quarantine.admit(EVIL), Err(Error::Quarantined { peer: EVIL, pages: BUDGET + 1 }));
        assert_eq!(quarantine.admit(GOOD), Ok(()));
        assert_eq!(quarantine.held_by(Some(EVIL)), BUDGET + 1);
        assert_eq!(quarantine.held_by(Some(GOOD)), 0);
        quarantine.sweep(|_| true, |()| ());
        assert_eq!(quarantine.admit(EVIL), Ok(()));
    }
}

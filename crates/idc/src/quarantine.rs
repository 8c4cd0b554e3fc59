//! Pages that were taken back from a peer that still has them mapped.
//!
//! Xen cannot take a mapping away. A page whose grant cannot be ended stays here: not freed, not used, until the
//! peer has unmapped it. Each attempt to make a channel first tries to end the old grants. A peer that keeps
//! too many gets no new channel, so it can waste no more than the budget; others are not affected.

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
        let pages = self.held.iter().filter(|held| held.peer == peer).count();
        if pages > BUDGET { Err(Error::Quarantined { peer, pages }) } else { Ok(()) }
    }

    /// Pages in quarantine.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

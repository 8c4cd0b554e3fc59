//! Several threads that wait for one descriptor, of which only one can take an event.
//!
//! The two halves of a split channel share a port. One thread at a time polls it, the others wait for that one; each
//! event is one for all of them. Who is about to sleep takes a ticket first and then asks its peer for an event;
//! an event that somebody else took in between ends the wait at once.

use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Result;

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Events that have been taken.
    events: u64,
    /// A thread polls.
    polling: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of events so far.
    pub(super) fn ticket(&self) -> u64 {
        self.lock().events
    }

    /// Waits for an event after the ticket was taken: by `poll`, or for a thread that polls already.
    pub(super) fn wait(
        &self,
        ticket: u64,
        left: impl Fn() -> Duration,
        poll: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let mut state = self.lock();
        while state.polling {
            if state.events != ticket {
                return Ok(true);
            }
            let left = left();
            if left.is_zero() {
                return Ok(false);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.events != ticket {
            return Ok(true);
        }
        state.polling = true;
        drop(state);
        let result = poll();
        let mut state = self.lock();
        state.polling = false;
        state.events += u64::from(matches!(result, Ok(true)));
        drop(state);
        // For the event, or for the next one to poll.
        self.changed.notify_all();
        result
    }
}

//! Ctrl-C and its relatives.
//!
//! A thread waits for SIGINT, SIGTERM and SIGHUP. The first one asks whoever registered to come to an end (such as
//! the domain on the screen); a second one, or the first when nobody registered, ends the process with the
//! status that a shell expects. QEMU cannot be left behind either way: the kernel kills it with its parent.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
};

use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

type Action = Box<dyn FnOnce() + Send>;

/// The thread that waits for signals.
#[derive(Clone)]
pub struct Interrupt {
    seen: Arc<AtomicI32>,
    action: Arc<Mutex<Option<Action>>>,
    keyboard_is_elsewhere: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to wait.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn install() -> anyhow::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
        let this =
            Self { seen: Arc::default(), action: Arc::default(), keyboard_is_elsewhere: Arc::default() };
        let (seen, action) = (Arc::clone(&this.seen), Arc::clone(&this.action));
        let elsewhere = Arc::clone(&this.keyboard_is_elsewhere);
        thread::spawn(move || {
            for signal in signals.forever() {
                if signal == SIGINT && elsewhere.load(Ordering::SeqCst) {
                    continue;
                }
                let first = seen.swap(signal, Ordering::SeqCst) == 0;
                let action = action.lock().unwrap_or_else(PoisonError::into_inner).take();
                match action {
                    Some(action) if first => action(),
                    _ => std::process::exit(128 + signal),
                }
            }
        });
        Ok(this)
    }

    /// Runs `action` at the first signal, unless [`Interrupt::clear`] comes before.
    pub fn on_signal(&self, action: impl FnOnce() + Send + 'static) {
        *self.action.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(action));
    }

    /// Forgets the action.
    pub fn clear(&self) {
        self.action.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ctrl-C means another program on this terminal, or no longer.
    pub fn leave_keyboard(&self, elsewhere: bool) {
        self.keyboard_is_elsewhere.store(elsewhere, Ordering::SeqCst);
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.seen.load(Ordering::SeqCst)).filter(|s| *s != 0)
    }
}

//! The TPM engine: libtpms, unchanged, behind [`vtpm::Engine`].
//!
//! libtpms keeps one TPM in global variables, so there is one [`Libtpms`] in a process. Its state goes through
//! callbacks into memory of this crate, and from there, after each command, to whoever owns the engine. It draws
//! randomness from OpenSSL's generator, which seeds itself with `getrandom`: in a domain that is the kernel's DRBG.
#![deny(unsafe_op_in_unsafe_fn)]

mod ffi;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use vtpm::engine::EngineError;
use vtpm::state::{Secret, State};
use vtpm::{Engine, Family};

use ffi::Blob;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The TPM of this process.
pub struct Libtpms {
    name: String,
    family: Family,
    powered: bool,
}

impl fmt::Debug for Libtpms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libtpms").field("name", &self.name).field("family", &self.family).finish()
    }
}

/// Asks a running command to stop, from another thread. Only long commands look; the others run to their end.
#[derive(Clone, Copy, Debug)]
pub struct Canceller(());

impl Canceller {
    /// Asks.
    pub fn cancel(self) {
        ffi::cancel();
    }
}

impl Libtpms {
    /// Takes the TPM, without power; `None` if somebody has it.
    pub fn take(family: Family) -> Option<Libtpms> {
        if TAKEN.swap(true, Ordering::AcqRel) {
            return None;
        }
        let [major, minor, micro] = ffi::version();
        let name = format!("libtpms {major}.{minor}.{micro}");
        Some(Libtpms { name, family, powered: false })
    }

    /// What stops a running command.
    pub fn canceller(&self) -> Canceller {
        Canceller(())
    }
}

impl Drop for Libtpms {
    fn drop(&mut self) {
        self.power_off();
        TAKEN.store(false, Ordering::Release);
    }
}

fn check(call: &'static str, number: u32) -> Result<(), EngineError> {
    if number == ffi::SUCCESS { Ok(()) } else { Err(EngineError { call, number }) }
}

impl Engine for Libtpms {
    fn name(&self) -> &str {
        &self.name
    }

    fn power_on(&mut self, state: &State) -> Result<(), EngineError> {
        self.power_off();
        self.family = state.family;
        ffi::set_blob(Blob::Permanent, state.permanent.as_deref().map(Vec::as_slice));
        ffi::set_blob(Blob::Saved, state.saved.as_deref().map(Vec::as_slice));
        ffi::set_blob(Blob::Volatile, state.volatile.as_deref().map(Vec::as_slice));
        check("TPMLIB_ChooseTPMVersion", ffi::choose(state.family == Family::Tpm20))?;
        check("TPMLIB_RegisterCallbacks", ffi::register())?;
        // Also after a failure it has to be stopped: it holds on to its version.
        self.powered = true;
        if let Err(error) = check("TPMLIB_MainInit", ffi::start()) {
            self.power_off();
            return Err(error);
        }
        // It was to be used once, and has been.
        ffi::set_blob(Blob::Volatile, None);
        Ok(())
    }

    fn power_off(&mut self) {
        if std::mem::take(&mut self.powered) {
            ffi::stop();
        }
        for blob in Blob::ALL {
            ffi::set_blob(blob, None);
        }
        ffi::take_changed();
    }

    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, EngineError> {
        if !self.powered {
            return Err(EngineError { call: "execute without power", number: 0 });
        }
        ffi::process(locality, command).map_err(|number| EngineError { call: "TPMLIB_Process", number })
    }

    fn changed(&mut self) -> Option<State> {
        ffi::take_changed().then(|| State {
            family: self.family,
            permanent: ffi::blob(Blob::Permanent).map(Secret::new),
            saved: ffi::blob(Blob::Saved).map(Secret::new),
            volatile: None,
        })
    }

    fn volatile(&mut self) -> Result<Vec<u8>, EngineError> {
        ffi::volatile().map_err(|number| EngineError { call: "TPMLIB_VolatileAll_Store", number })
    }

    fn family(&self) -> Family {
        self.family
    }
}

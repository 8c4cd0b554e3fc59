//! What a vTPM needs from a TPM implementation.

use alloc::vec::Vec;
use core::fmt;

use crate::command::Family;
use crate::state::State;

/// The engine failed; what it holds in memory is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineError {
    /// The call that failed.
    pub call: &'static str,
    /// The engine's own number.
    pub number: u32,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TPM engine failed in {} with {:#x}", self.call, self.number)
    }
}

impl core::error::Error for EngineError {}

/// A software TPM. It has power or not; with power it runs one command after the other.
pub trait Engine {
    /// Name and version, for information.
    fn name(&self) -> &str;

    /// Power on, with the state of an earlier life (or that of [`State::new`]). With a volatile part the TPM goes on
    /// where it was; without, it waits for its startup command.
    ///
    /// # Errors
    /// The engine refuses the state, or fails.
    fn power_on(&mut self, state: &State) -> Result<(), EngineError>;

    /// Power off. What is volatile is lost.
    fn power_off(&mut self);

    /// Runs a command, whose header is sound, at a locality of 0 to 4, and returns the answer.
    ///
    /// # Errors
    /// The engine failed; errors of the TPM are answers.
    fn execute(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, EngineError>;

    /// The permanent parts of the state, if they have changed since the last call.
    fn changed(&mut self) -> Option<State>;

    /// The volatile part, to be given to [`power_on`](Self::power_on) later.
    ///
    /// # Errors
    /// The engine's.
    fn volatile(&mut self) -> Result<Vec<u8>, EngineError>;

    /// The family that it plays.
    fn family(&self) -> Family;
}

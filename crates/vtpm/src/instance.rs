//! One TPM: an engine, its sealed state, and the rule that ties them together.
//!
//! **The rule.** An answer leaves only after the state that the command produced is durable. The engine tells after
//! each command whether non-volatile memory changed; if so, the state is sealed and given to the [`Store`], and only
//! then is the answer returned. If that fails, engine and store no longer agree: the instance *halts*. It answers
//! failure to everything until it is started anew, from what is durable; the answer that was held back was never
//! given.
//!
//! **Starting.** The manager's lease says which state is the last one (epoch, counter, hash); a container that is
//! another one is refused, whatever its seal says. If the state has a volatile part, from a suspend, the TPM goes on
//! with it, and it is removed from the stored state first, so that it cannot be used twice. Otherwise the TPM is
//! started as after power-on. If the guest did not start with it (its vTPM domain died under it), PCRs 0 to 15 are
//! extended with [`RESTART_EVENT`]: what the guest had measured is lost, and without that a guest that can crash its
//! vTPM could measure whatever it likes into fresh PCRs.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::command::{self, Command, Family};
use crate::engine::{Engine, EngineError};
use crate::frame::CONTENTS_MAX;
use crate::link::{Lease, Refusal};
use crate::seal::{self, Header, Key, NONCE_LEN, SealError, Uuid};
use crate::state::{Secret, State, StateError};
use crate::vault::Mark;

/// What is measured into PCRs 0 to 15 when the TPM lost its PCRs and the guest did not start anew.
pub const RESTART_EVENT: &[u8] = b"casemate: the vTPM was restarted under a running guest";

/// Where sealed state goes.
pub trait Store {
    /// Makes a sealed state durable, before it returns.
    ///
    /// # Errors
    /// [`StoreError`]; whether the state is durable is unknown then.
    fn commit(&mut self, sealed: &[u8]) -> Result<(), StoreError>;
}

/// A state could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The manager refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no answer from the manager.
    #[error("the manager does not answer")]
    Unreachable,
}

/// A source of random bytes fit for nonces.
pub trait Random {
    /// Fills the buffer; whether it could.
    fn fill(&mut self, bytes: &mut [u8]) -> bool;

    /// State of its sources, for information: one line.
    fn health(&self) -> String {
        "unknown".to_owned()
    }
}

/// Why an instance does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The manager promised a state and there is none, or the other way round.
    #[error("the stored state is missing, or there should be none")]
    Missing,
    /// The state is not the one that the lease names.
    #[error("the stored state is not the last one: it was rolled back, or belongs to another instance")]
    RolledBack,
    /// The container is bad.
    #[error("the stored state cannot be opened: {0}")]
    Seal(SealError),
    /// What is in it is bad.
    #[error("the stored state cannot be read: {0}")]
    State(StateError),
    /// It is another family's.
    #[error("the stored state is that of a TPM {}", .0.name())]
    Family(Family),
    /// The engine failed.
    #[error("{0}")]
    Engine(EngineError),
    /// The TPM's startup command failed.
    #[error("the TPM does not start: its answer is {0:#x}")]
    Startup(u32),
    /// The first state could not be written.
    #[error("the state cannot be kept: {0}")]
    Halted(HaltReason),
}

/// Why an instance halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HaltReason {
    /// The store failed or refused.
    #[error("{0}")]
    Store(StoreError),
    /// No random bytes for a nonce.
    #[error("there are no random bytes")]
    Random,
    /// The state cannot be serialised or sealed.
    #[error("the state is too large")]
    Size,
    /// The engine failed.
    #[error("{0}")]
    Engine(EngineError),
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Running commands.
    Running,
    /// Suspended: the volatile state is in the store.
    Suspended,
    /// Halted, for this reason.
    Halted(HaltReason),
}

/// A TPM and its state.
#[derive(Debug)]
pub struct Instance<E, S, R> {
    engine: E,
    store: S,
    random: R,
    uuid: Uuid,
    family: Family,
    key: Key,
    epoch: u64,
    counter: u64,
    /// The permanent state, as it was written last.
    state: State,
    condition: Condition,
    commands: u64,
}

impl<E: Engine, S: Store, R: Random> Instance<E, S, R> {
    /// Starts an instance from its lease and its sealed state (empty for one that never ran).
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        engine: E,
        store: S,
        random: R,
        lease: &Lease,
        sealed: &[u8],
    ) -> Result<Instance<E, S, R>, StartError> {
        let state = unseal(lease, sealed)?;
        let mut instance = Instance {
            engine,
            store,
            random,
            uuid: lease.uuid,
            family: lease.family,
            key: lease.key.clone(),
            epoch: lease.epoch,
            counter: lease.mark.map_or(0, |mark| mark.counter),
            state,
            condition: Condition::Running,
            commands: 0,
        };
        instance.power_up(lease.fresh)?;
        Ok(instance)
    }

    /// Powers the engine on with `self.state`; on success everything is durable.
    fn power_up(&mut self, fresh: bool) -> Result<(), StartError> {
        self.engine.power_on(&self.state).map_err(StartError::Engine)?;
        if self.state.volatile.take().is_some() {
            // Used up, before anything is done with it.
            self.engine.changed();
            return self.write().map_err(StartError::Halted);
        }
        self.own_command(&command::startup_clear(self.family))?;
        if !fresh {
            for pcr in 0..16 {
                self.own_command(&match self.family {
                    Family::Tpm20 => command::pcr_event(pcr, RESTART_EVENT),
                    Family::Tpm12 => command::extend_12(pcr, &restart_digest_12()),
                })?;
            }
        }
        self.keep().map_err(StartError::Halted)
    }

    fn own_command(&mut self, bytes: &[u8]) -> Result<(), StartError> {
        let answer = self.engine.execute(0, bytes).map_err(StartError::Engine)?;
        match command::answer_code(&answer) {
            Some(command::code::SUCCESS) => Ok(()),
            other => Err(StartError::Startup(other.unwrap_or(u32::MAX))),
        }
    }

    /// Runs one command from outside and returns the TPM's answer: always one, of at most [`CONTENTS_MAX`] bytes.
    pub fn execute(&mut self, locality: u8, bytes: &[u8]) -> Vec<u8> {
        if self.condition != Condition::Running {
            return command::failure(self.family);
        }
        let command = match Command::parse(bytes, self.family) {
            Ok(command) => command,
            Err(error) => return error.answer(self.family),
        };
        self.commands += 1;
        let answer = match self.engine.execute(locality, command.bytes) {
            Ok(answer) => answer,
            Err(error) => return self.halt(HaltReason::Engine(error)),
        };
        if let Err(reason) = self.keep() {
            return self.halt(reason);
        }
        if answer.len() > CONTENTS_MAX || command::answer_code(&answer).is_none() {
            let error = EngineError { call: "its answer, which is malformed", number: 0 };
            return self.halt(HaltReason::Engine(error));
        }
        answer
    }

    fn halt(&mut self, reason: HaltReason) -> Vec<u8> {
        self.condition = Condition::Halted(reason);
        command::failure(self.family)
    }

    /// Writes the state if the engine changed it.
    fn keep(&mut self) -> Result<(), HaltReason> {
        match self.engine.changed() {
            Some(state) => {
                self.state = state;
                self.write()
            }
            None => Ok(()),
        }
    }

    /// Seals and writes `self.state`.
    fn write(&mut self) -> Result<(), HaltReason> {
        let bytes = self.state.to_bytes().map_err(|_| HaltReason::Size)?;
        let mut nonce = [0; NONCE_LEN];
        if !self.random.fill(&mut nonce) {
            return Err(HaltReason::Random);
        }
        let header = Header { uuid: self.uuid, epoch: self.epoch, counter: self.counter + 1 };
        let sealed = seal::seal(&self.key, &header, &nonce, &bytes).map_err(|_| HaltReason::Size)?;
        self.store.commit(&sealed).map_err(HaltReason::Store)?;
        self.counter = header.counter;
        Ok(())
    }

    /// Resets the TPM as a reset of the platform does: the guest starts anew with it.
    ///
    /// # Errors
    /// [`StartError`]; the instance has halted then.
    pub fn reset(&mut self) -> Result<(), StartError> {
        if let Condition::Halted(reason) = self.condition {
            return Err(StartError::Halted(reason));
        }
        self.engine.power_off();
        self.state.volatile = None;
        self.restart(true)
    }

    /// Saves the volatile state with the permanent one and stops.
    ///
    /// # Errors
    /// [`HaltReason`], if it could not be saved or the instance had halted before.
    pub fn suspend(&mut self) -> Result<(), HaltReason> {
        match self.condition {
            Condition::Running => {}
            Condition::Suspended => return Ok(()),
            Condition::Halted(reason) => return Err(reason),
        }
        let mut save = || {
            self.state.volatile = Some(Secret::new(self.engine.volatile().map_err(HaltReason::Engine)?));
            self.write()
        };
        match save() {
            Ok(()) => {
                self.engine.power_off();
                self.condition = Condition::Suspended;
                Ok(())
            }
            Err(reason) => {
                self.condition = Condition::Halted(reason);
                Err(reason)
            }
        }
    }

    /// Goes on after a suspend.
    ///
    /// # Errors
    /// [`StartError`]; the instance has halted then.
    pub fn resume(&mut self) -> Result<(), StartError> {
        match self.condition {
            Condition::Running => Ok(()),
            Condition::Suspended => self.restart(false),
            Condition::Halted(reason) => Err(StartError::Halted(reason)),
        }
    }

    fn restart(&mut self, fresh: bool) -> Result<(), StartError> {
        self.condition = Condition::Running;
        let result = self.power_up(fresh);
        if let Err(error) = result {
            self.condition = Condition::Halted(match error {
                StartError::Halted(reason) => reason,
                StartError::Engine(error) => HaltReason::Engine(error),
                _ => HaltReason::Engine(EngineError { call: "a restart", number: 0 }),
            });
        }
        result
    }

    /// What it is doing.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The instance.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Lease and number of the state that was written last.
    pub fn position(&self) -> (u64, u64) {
        (self.epoch, self.counter)
    }

    /// Commands that the engine was given from outside.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// The source of random bytes, for information.
    pub fn random(&self) -> &R {
        &self.random
    }

    /// The engine, for information.
    pub fn engine(&self) -> &E {
        &self.engine
    }
}

fn restart_digest_12() -> [u8; 20] {
    // A TPM 1.2 takes a digest and not an event; which one does not matter, as long as no measurement has it.
    let mut digest = [0; 20];
    digest.iter_mut().zip(Sha256::digest(RESTART_EVENT)).for_each(|(to, from)| *to = from);
    digest
}

/// Opens the stored state if it is the one that the lease names.
fn unseal(lease: &Lease, sealed: &[u8]) -> Result<State, StartError> {
    let Some(mark) = lease.mark else {
        return if sealed.is_empty() { Ok(State::new(lease.family)) } else { Err(StartError::Missing) };
    };
    if sealed.is_empty() {
        return Err(StartError::Missing);
    }
    let (Header { uuid, epoch, counter }, bytes) =
        seal::open(&lease.key, sealed).map_err(StartError::Seal)?;
    if uuid != lease.uuid
        || epoch > lease.epoch
        || mark != (Mark { epoch, counter, hash: seal::hash(sealed) })
    {
        return Err(StartError::RolledBack);
    }
    let state = State::parse(&bytes).map_err(StartError::State)?;
    if state.family == lease.family { Ok(state) } else { Err(StartError::Family(state.family)) }
}

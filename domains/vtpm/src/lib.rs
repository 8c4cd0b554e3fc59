//! The vTPM domain: a TPM behind IDC, with its state at the manager's.
//!
//! The same source is a plain Linux process (between hosted IDC processes, for debugging and for tests) and a domain
//! of its own; it has no network and no file system in either.
//!
//! # Start
//! 1. Connect to the manager in its domain, take the lease, load the sealed state ([`manager`]).
//! 2. Start the engine with it ([`vtpm::Instance`]).
//! 3. Serve clients ([`server`]): each channel has a thread; the TPM runs one command at a time.
//!
//! If a step fails, the program ends, with the reason on the console: there is no TPM rather than a new one.

pub mod entropy;
#[cfg(casemate)]
mod kernel;
pub mod manager;
pub mod server;

use std::fmt;
use std::time::Duration;

use idc::{DomId, Idc};
use libtpms::Libtpms;
use vtpm::audit::Audit;
use vtpm::{Instance, Policy, Service};

use entropy::SystemRandom;
use manager::{LinkError, ManagerLink};
use server::Server;

/// What a vTPM domain is told on its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the manager is.
    pub manager: DomId,
    /// How long to wait for the manager, at the start and when it is restarted.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { manager: DomId(0), patience: Duration::from_secs(60) }
    }
}

impl Options {
    /// Takes a word `key=value`; whether it was one of ours.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn take(&mut self, word: &str) -> Result<bool, String> {
        let Some((key, value)) = word.split_once('=') else { return Ok(false) };
        let number =
            || value.parse::<u16>().map_err(|_| format!("{key}: `{value}` is no number up to 65535"));
        match key {
            "manager" => self.manager = DomId(number()?),
            "patience" => self.patience = Duration::from_secs(number()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Why there is no TPM.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No IDC.
    #[error("{0}")]
    Idc(#[from] idc::Error),
    /// The manager is not there, or refuses.
    #[error("{0}")]
    Manager(#[from] LinkError),
    /// The generator cannot be seeded.
    #[error("the random number generator has no entropy")]
    Entropy,
    /// The engine is in use.
    #[error("there is a TPM in this process already")]
    Taken,
    /// The instance does not start.
    #[error("{0}")]
    Start(#[from] vtpm::StartError),
}

/// Starts the instance that the manager has for this domain.
///
/// # Errors
/// [`Failure`].
pub fn start(
    idc: &Idc,
    options: &Options,
    write: impl FnMut(&str) + Send + 'static,
) -> Result<Server, Failure> {
    let mut link = ManagerLink::connect(idc, options.manager, options.patience)?;
    let lease = link.lease()?;
    entropy::add_seed(&lease.seed).map_err(|_| Failure::Entropy)?;
    let sealed = link.load()?;
    let engine = Libtpms::take(lease.family).ok_or(Failure::Taken)?;
    let canceller = engine.canceller();
    let instance = Instance::start(engine, link, SystemRandom, &lease, &sealed)?;
    let service = Service::new(instance, Policy::new(lease.peers.iter().copied()), Audit::new(write));
    Ok(Server::new(service, canceller))
}

/// A failure on the console.
pub fn complain(error: &impl fmt::Display) {
    println!("vtpm: no TPM: {error}");
}

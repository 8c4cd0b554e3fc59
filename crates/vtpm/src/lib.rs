//! The parts of a virtual TPM that are neither the TPM itself nor any I/O: what goes over the wire, who may ask
//! for what, how state is sealed and kept, and what is logged.
//!
//! ```text
//!  user domain or dom0        vTPM domain                                     dom0: manager
//!  [frame] == IDC A ==> [service]: [policy], [audit]
//!                           [instance]: [command], [engine], [state], [seal]
//!                                                  == IDC B: [link] ==>  [vault] on a medium
//! ```
//!
//! # Invariants
//! - The caller is who Xen says he is; no frame names its sender.
//! - No answer leaves before the state change that it tells of is durable ([`instance`]). When that fails the
//!   instance halts and answers nothing but failure, until it starts again from what is durable.
//! - State leaves the vTPM domain only sealed ([`seal`]). The manager keeps ciphertext; what it knows of it is
//!   instance, epoch, counter and hash.
//! - Input from outside (frames, commands, sealed containers, state, records, messages of the other side) is
//!   parsed with bounds and in copies; a parser returns an error and never panics.
//!
//! # What is trusted
//! The engine for correct TPM answers, the manager's domain (dom0) for the key and for its ledger. See SECURITY.md.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod audit;
pub mod command;
pub mod engine;
pub mod frame;
pub mod instance;
pub mod link;
pub mod policy;
pub mod seal;
pub mod service;
pub mod state;
pub mod vault;
mod wire;

pub use command::Family;
pub use engine::{Engine, EngineError};
pub use instance::{Instance, Random, StartError, Store, StoreError};
pub use policy::{Peer, Policy, Role};
pub use seal::{Key, Uuid};
pub use service::Service;
pub use vault::{Vault, VaultError};

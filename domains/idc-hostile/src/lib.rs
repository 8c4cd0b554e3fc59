//! Peers that do not keep to IDC's protocol, and honest ones that withstand them, written once for every platform.
//!
//! | role | |
//! |---|---|
//! | [`victim`] | an honest echo service, one thread for each client; counts what it meets |
//! | [`assault`] | hostile clients of it, one attack after the other |
//! | [`witness`] | an honest client of it from elsewhere: is served all the time, and reads the counters at the end |
//! | [`trap`] | a hostile service: each client meets the next attack |
//! | [`visit`] | an honest client of that, which knows what it has to find |
//!
//! What is done is in [`attack`]; how, in [`session`]. A hostile side knows the layout of the shared pages and uses the
//! platform below the channels; it can store anything wherever a peer can.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod attack;
mod honest;
mod hostile;
pub mod session;

use alloc::string::String;
use core::time::Duration;

use idc::Config;

pub use honest::{Spawn, victim, visit, witness};
pub use hostile::{assault, trap};

/// Name of the honest service.
pub const VICTIM: &str = "victim";

/// Name of the hostile service.
pub const TRAP: &str = "trap";

/// What the hostile client says, on an honest channel, when it has done its worst.
const DONE: &[u8] = b"done";
/// Asks the victim for its report.
const REPORT: &[u8] = b"report";
/// Tells the victim to end.
const STOP: &[u8] = b"stop";

/// Outcome of a role, with a text that says what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// Small rings with a pool: a few messages fill them, and every word of the protocol is in use.
fn config() -> Config {
    Config::default().with_pages(1).with_pool(4).with_max_message(100_000)
}

/// The longest that one attack is waited for, of the limit of a step.
fn settle(limit: Duration) -> Duration {
    limit / 4
}

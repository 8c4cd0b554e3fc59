//! Inter-domain communication: messages between Xen domains over shared memory and event channels, against a
//! peer that may be hostile.
//!
//! It is the API of HPL-2007-69, section 3.3, in today's terms:
//!
//! | paper | here |
//! |---|---|
//! | Init, Close | [`Idc::open`], `Drop` |
//! | Create(domid) | [`Idc::create`], which gives a [`Writer`] and a grant reference |
//! | Connect(domid, gref) | [`Idc::connect`], which gives a [`Reader`] |
//! | Write, Read | [`Writer::send`], [`Reader::recv`] |
//! | two-way channel (create and connect) | [`Channel`]: [`Listener::bind`], [`Channel::dial`] |
//!
//! ```
//! # #[cfg(not(casemate))]
//! # fn main() -> Result<(), idc::Error> {
//! # use std::thread;
//! use idc::{Channel, Config, DomId, HostedConfig, Idc, ListenConfig, Listener};
//! # let dir = std::env::temp_dir().join(format!("idc-doc-{}", std::process::id()));
//!
//! // Two "domains" in one process; on Xen it would be `Idc::open()` in each.
//! let server = Idc::hosted(HostedConfig::new(DomId(5)).directory(&dir))?;
//! let mut listener = Listener::bind(&server, "shout", ListenConfig::default())?;
//! let service = thread::spawn(move || -> Result<(), idc::Error> {
//!     let mut client = listener.accept()?;
//!     while let Some(message) = client.recv()? {
//!         client.send(&message.to_ascii_uppercase())?;
//!     }
//!     client.finish()
//! });
//!
//! let client = Idc::hosted(HostedConfig::new(DomId(6)).directory(&dir))?;
//! let deadline = client.deadline(std::time::Duration::from_secs(10));
//! let mut channel = Channel::dial(&client, DomId(5), "shout", &Config::default(), deadline)?;
//! channel.send(b"hello")?;
//! assert_eq!(channel.recv()?.as_deref(), Some(&b"HELLO"[..]));
//! channel.finish()?;
//! assert_eq!(channel.recv()?, None);
//! service.join().expect("the service does not panic")?;
//! # let _ = std::fs::remove_dir_all(dir);
//! # Ok(()) }
//! # #[cfg(casemate)] fn main() {}
//! ```
//!
//! # The way of one message
//! `Writer::send` -> [`ring`] (copy in, publish, look whether the peer sleeps) -> an event only if it does.
//! `Reader::recv` -> [`ring`] (look, check, copy out) -> arm, look again, sleep only if it is still empty.
//!
//! # Where things are
//! [`setup`] is the layout of the pages and [`record`] that of the data; [`ring`] is the protocol of one
//! direction without waiting; `writer`, `reader` and `channel` are the ends, `wait` is how they sleep; [`endpoint`]
//! makes and connects rings; [`name`] and `listener` are for services; [`platform`] is what lies below. Only
//! [`shm`] touches shared bytes.
//!
//! # Features
//! `std` (default): stream adapters for `std::io`, and the platforms for Linux. Without it the crate is
//! `no_std` with `alloc`. In a domain of the library OS (`--cfg casemate`) the platform is the kernel's.
//! `vchan` (default): channels with programs that use Xen's libxenvchan.
//! `tokio`: ends for asynchronous programs ([`tokio`](https://docs.rs/tokio)). `embedded-io`, `embedded-io-async`:
//! the stream adapters for those traits.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod channel;
pub mod endpoint;
pub mod error;
mod listener;
mod loan;
pub mod name;
pub mod platform;
#[cfg(any(casemate, test))]
mod quarantine;
mod reader;
pub mod record;
pub mod ring;
pub mod setup;
pub mod shm;
pub mod stats;
mod stream;
#[cfg(all(feature = "tokio", not(any(casemate, loom))))]
pub mod tokio;
#[cfg(feature = "vchan")]
pub mod vchan;
mod wait;
mod writer;

pub use channel::Channel;
pub use endpoint::{Config, Idc, Pending};
pub use error::{CloseReason, Error, Result, Violation};
pub use listener::{ListenConfig, Listener};
pub use loan::Loan;
pub use name::ServiceName;
pub use platform::Native;
#[cfg(all(feature = "std", not(casemate)))]
pub use platform::hosted::HostedConfig;
pub use reader::Reader;
pub use stats::Stats;
pub use stream::{ReadStream, WriteStream};
pub use wait::{Deadline, Spin};
pub use writer::Writer;
pub use xen_abi::{DomId, EvtchnPort, GrantRef};

/// The programs in the guide are tests.
#[cfg(all(doctest, feature = "std", not(casemate)))]
#[doc = include_str!("../../../docs/guide/idc.md")]
struct Guide;

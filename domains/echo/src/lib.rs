//! Sends back each message.
//!
//! # Protocol
//! Each message comes back as it is, in order. The end of the client's direction ends the service's. A client
//! that sends on without reading waits when both rings are full; that is its own affair.
#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

use idc::platform::Platform;
use idc::{Channel, Config, Error, ListenConfig};

/// Name under which the service is offered.
pub const NAME: &str = "echo";
/// Longest message that is taken.
pub const MESSAGE_MAX: usize = 256 << 10;

/// Places for clients.
pub fn listen_config() -> ListenConfig {
    ListenConfig {
        channel: Config::default().with_pages(16).with_max_message(MESSAGE_MAX),
        max_clients: 8,
        max_clients_per_peer: 4,
    }
}

/// What was done for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Messages that were sent back.
    pub messages: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages, {} bytes", self.messages, self.bytes)
    }
}

/// Serves one client until it ends the channel. `served` counts what was done, also when this fails.
///
/// # Errors
/// How the channel ended, if not by the client's end mark.
pub fn serve<P: Platform>(channel: &mut Channel<P>, served: &mut Served) -> Result<(), Error> {
    let mut buf = Vec::new();
    loop {
        // Small messages, the usual ones, need no allocation each.
        let len = match channel.recv_into(&mut buf) {
            Ok(None) => return channel.finish(),
            Ok(Some(len)) => len,
            Err(Error::BufferTooSmall { needed, .. }) => {
                grow(&mut buf, needed)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        channel.send(buf.get(..len).unwrap_or(&[]))?;
        served.messages += 1;
        served.bytes += len as u64;
    }
}

fn grow(buf: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    buf.try_reserve_exact(len.saturating_sub(buf.len())).map_err(|_| Error::OutOfMemory("a message"))?;
    buf.resize(len, 0);
    Ok(())
}

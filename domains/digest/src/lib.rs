//! SHA-256 over a stream of messages.
//!
//! # Protocol
//! The client sends messages; their contents, one after the other, are the stream. An empty message ends a
//! stream: the service answers with the 32 bytes of its SHA-256 (FIPS 180-4) and takes the next stream. The end
//! of the channel ends the last stream too, unless nothing was sent since an answer; then the service ends its
//! direction.
//!
//! # What a client can do to the service
//! Take one of its places, for as long as it likes, up to the number that one domain may have; and
//! [`MESSAGE_MAX`] bytes of memory for each. Nothing else: whatever a client sends, [`serve`] returns.
#![no_std]

extern crate alloc;

use alloc::vec;
use core::fmt;

use idc::platform::Platform;
use idc::{Channel, Config, Error, ListenConfig};
use sha2::{Digest, Sha256};

/// Name under which the service is offered.
pub const NAME: &str = "digest";
/// Bytes of an answer.
pub const DIGEST_LEN: usize = 32;
/// Longest message that is taken.
pub const MESSAGE_MAX: usize = 64 << 10;

/// Places for clients. An answer is small, so one page is enough for our direction.
pub fn listen_config() -> ListenConfig {
    ListenConfig {
        channel: Config::default().with_pages(1).with_max_message(MESSAGE_MAX),
        max_clients: 16,
        max_clients_per_peer: 8,
    }
}

/// What was done for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Streams that were answered.
    pub streams: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} streams, {} bytes", self.streams, self.bytes)
    }
}

/// Serves one client until it ends the channel. `served` counts what was done, also when this fails.
///
/// # Errors
/// How the channel ended, if not by the client's end mark.
pub fn serve<P: Platform>(channel: &mut Channel<P>, served: &mut Served) -> Result<(), Error> {
    let mut buf = vec![0; MESSAGE_MAX];
    let mut hash = Sha256::new();
    let mut in_stream = true;
    loop {
        match channel.recv_into(&mut buf)? {
            Some(len) if len > 0 => {
                hash.update(buf.get(..len).unwrap_or(&[]));
                served.bytes += len as u64;
                in_stream = true;
            }
            end => {
                if in_stream || end.is_some() {
                    channel.send(&hash.finalize_reset())?;
                    served.streams += 1;
                    in_stream = false;
                }
                if end.is_none() {
                    return channel.finish();
                }
            }
        }
    }
}

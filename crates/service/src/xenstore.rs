//! Xenstore client. Paths without a leading `/` are relative to this domain's home.
//!
//! Source: `xen/io/xs_wire.h`; codec in `xen_abi::xenstore`. A domain may write below `data/` of its own home.

use crate::{Errno, sys};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use libos_sys::errno;
use xen_abi::xenstore::{MsgType, XENSTORE_PAYLOAD_MAX, reply, request};

/// How often a transaction is tried that others keep disturbing.
const TRIES: u32 = 64;

/// A transaction, or [`NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(u32);

/// Not in a transaction.
pub const NONE: Transaction = Transaction(0);

fn exchange(kind: MsgType, tx: Transaction, body: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut answer = vec![0; XENSTORE_PAYLOAD_MAX];
    let len = sys::xenstore_request(kind.number(), tx.0, body, &mut answer)?;
    answer.truncate(len);
    Ok(answer)
}

fn with_path(kind: MsgType, tx: Transaction, path: &str) -> Result<Vec<u8>, Errno> {
    let mut body = vec![0; path.len() + 1];
    let len = request::path(&mut body, path).map_err(|_| Errno(errno::EINVAL))?;
    exchange(kind, tx, &body[..len])
}

impl Transaction {
    /// Reads a node's value.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, or another of xenstored's; `EINVAL` for a path that cannot be.
    pub fn read(self, path: &str) -> Result<Vec<u8>, Errno> {
        with_path(MsgType::Read, self, path)
    }

    /// Reads a node's value as text.
    ///
    /// # Errors
    /// As for [`Self::read`]; `EINVAL` when it is not UTF-8.
    pub fn read_text(self, path: &str) -> Result<String, Errno> {
        String::from_utf8(self.read(path)?).map_err(|_| Errno(errno::EINVAL))
    }

    /// Writes a node, making it and those above it where they are missing.
    ///
    /// # Errors
    /// `EACCES`, `ENOSPC` (quota), or another of xenstored's.
    pub fn write(self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let mut body = vec![0; path.len() + 1 + value.len()];
        let len = request::write(&mut body, path, value).map_err(|_| Errno(errno::EINVAL))?;
        exchange(MsgType::Write, self, &body[..len]).map(|_| ())
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// `ENOENT` when not even the node above it exists.
    pub fn rm(self, path: &str) -> Result<(), Errno> {
        with_path(MsgType::Rm, self, path).map(|_| ())
    }

    /// Names of the nodes below a node.
    ///
    /// # Errors
    /// `ENOENT`; `EPROTO` for an answer that cannot be.
    pub fn list(self, path: &str) -> Result<Vec<String>, Errno> {
        let body = with_path(MsgType::Directory, self, path)?;
        let names = reply::directory(&body).map_err(|_| Errno(errno::EPROTO))?;
        Ok(names.map(String::from).collect())
    }
}

/// Runs `f` in a transaction and commits it; when others changed the same nodes meanwhile, runs it again.
///
/// # Errors
/// What `f` returned (then nothing is changed), or `EAGAIN` after 64 tries.
pub fn transaction<R>(mut f: impl FnMut(Transaction) -> Result<R, Errno>) -> Result<R, Errno> {
    for _ in 0..TRIES {
        let body = match exchange(MsgType::TransactionStart, NONE, request::EMPTY) {
            Ok(body) => body,
            // Too many transactions at once.
            Err(Errno(errno::EAGAIN | errno::ENOSPC)) => {
                sys::thread_yield();
                continue;
            }
            Err(error) => return Err(error),
        };
        let tx = Transaction(reply::transaction_id(&body).map_err(|_| Errno(errno::EPROTO))?);
        let result = f(tx);
        let end = exchange(MsgType::TransactionEnd, tx, request::transaction_end(result.is_ok()));
        match (result, end) {
            (Ok(value), Ok(_)) => return Ok(value),
            (Ok(_), Err(Errno(errno::EAGAIN))) => {}
            (Ok(_), Err(error)) | (Err(error), _) => return Err(error),
        }
    }
    Err(Errno(errno::EAGAIN))
}

/// Asks for an event whenever a node at or below `path` changes; the first one comes at once.
///
/// # Errors
/// `EEXIST` when there is such a watch, or another of xenstored's.
pub fn watch(path: &str, token: &str) -> Result<(), Errno> {
    watching(MsgType::Watch, path, token)
}

/// Ends a watch.
///
/// # Errors
/// `ENOENT` when there is none.
pub fn unwatch(path: &str, token: &str) -> Result<(), Errno> {
    watching(MsgType::Unwatch, path, token)
}

fn watching(kind: MsgType, path: &str, token: &str) -> Result<(), Errno> {
    let mut body = vec![0; path.len() + token.len() + 2];
    let len = request::watch(&mut body, path, token).map_err(|_| Errno(errno::EINVAL))?;
    exchange(kind, NONE, &body[..len]).map(|_| ())
}

/// Waits for the next watch event until `deadline`: path and token.
///
/// # Errors
/// `ETIMEDOUT`; `EIO` when events were lost.
pub fn event(deadline: u64) -> Result<(String, String), Errno> {
    let mut body = vec![0; XENSTORE_PAYLOAD_MAX];
    let len = sys::xenstore_event(&mut body, deadline)?;
    let event = reply::WatchEvent::parse(&body[..len]).map_err(|_| Errno(errno::EPROTO))?;
    Ok((event.path.into(), event.token.into()))
}

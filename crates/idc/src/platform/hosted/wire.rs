//! What hosted processes say to each other: one request of fixed size per connection, one reply, and file
//! descriptors with it. Sequenced packets, so a message is whole or not there.

use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec::Vec;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, send, sendmsg,
};

use crate::name::ServiceName;
use crate::{DomId, EvtchnPort, GrantRef};

/// What one process wants from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The file behind a grant; the reply says how many grants from this one on follow in it.
    Map { gref: GrantRef, write: bool },
    /// The other ends of a port; the connection stays as the sign of life.
    Bind { port: EvtchnPort },
    /// An offer to a service; the reply comes when the service is there.
    Call { service: ServiceName, gref: GrantRef, id: u64 },
}

/// Bytes of a request.
const REQUEST_LEN: usize = 56;

/// The reply: 0 or an error number, and two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) errno: u32,
    pub(super) page: u32,
    pub(super) count: u32,
}

/// Who asks (its own claim: hosted ids are made up) and what.
pub(super) fn encode(from: DomId, request: &Request) -> [u8; REQUEST_LEN] {
    let (op, a, b, id, name) = match request {
        Request::Map { gref, write } => (1, gref.0, u32::from(*write), 0, ""),
        Request::Bind { port } => (2, port.0, 0, 0, ""),
        Request::Call { service, gref, id } => (3, gref.0, 0, *id, service.as_str()),
    };
    let mut bytes = [0; REQUEST_LEN];
    let head = [op, from.0.into(), a, b].map(u32::to_le_bytes).concat();
    let all = head.into_iter().chain(id.to_le_bytes()).chain(name.bytes());
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = from;
    }
    bytes
}

/// Checks a request.
pub(super) fn decode(bytes: &[u8]) -> Option<(DomId, Request)> {
    let bytes: &[u8; REQUEST_LEN] = bytes.try_into().ok()?;
    let (words, rest) = bytes.split_first_chunk::<16>()?;
    let mut words = words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    let (op, from, a, b) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (id, name) = rest.split_first_chunk::<8>()?;
    let request = match op {
        1 => Request::Map { gref: GrantRef(a), write: b != 0 },
        2 => Request::Bind { port: EvtchnPort(a) },
        3 => {
            let name = str::from_utf8(name).ok()?.trim_end_matches('\0');
            let service = ServiceName::new(name).ok()?;
            Request::Call { service, gref: GrantRef(a), id: u64::from_le_bytes(*id) }
        }
        _ => return None,
    };
    Some((DomId(from.try_into().ok()?), request))
}

/// Sends a request.
pub(super) fn send_request(socket: &OwnedFd, from: DomId, request: &Request) -> Result<(), Errno> {
    send(socket, &encode(from, request), SendFlags::NOSIGNAL).map(|_| ())
}

/// Receives a request that is there; `None` when the connection has ended or the request is not one.
pub(super) fn recv_request(socket: &OwnedFd) -> Option<(DomId, Request)> {
    let mut bytes = [0; REQUEST_LEN + 1];
    let (len, _) = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
    decode(bytes.get(..len)?)
}

/// Sends a reply with at most two descriptors.
pub(super) fn send_reply(socket: impl AsFd, reply: Reply, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = [reply.errno, reply.page, reply.count].map(u32::to_le_bytes).concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags).map(|_| ())
}

/// Waits for a reply. A connection that ends without one is `ECONNRESET`.
pub(super) fn recv_reply(socket: &OwnedFd) -> Result<(Reply, Vec<OwnedFd>), Errno> {
    let mut bytes = [0; 12];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let fds = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if message.bytes != bytes.len() {
        return Err(Errno::CONNRESET);
    }
    let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    Ok((Reply { errno: next(), page: next(), count: next() }, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire() {
        let service = ServiceName::new("a-32-byte-name-for-a-service-xyz").unwrap();
        assert_eq!(service.as_str().len(), 32);
        for request in [
            Request::Map { gref: GrantRef(9), write: true },
            Request::Bind { port: EvtchnPort(u32::MAX) },
            Request::Call { service, gref: GrantRef(12), id: u64::MAX },
        ] {
            assert_eq!(decode(&encode(DomId(7), &request)), Some((DomId(7), request)));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = encode(DomId(1), &Request::Bind { port: EvtchnPort(1) });
        assert_eq!(decode(&good[..REQUEST_LEN - 1]), None);
        assert_eq!(decode(&[0; REQUEST_LEN]), None);
        let mut bad_domid = good;
        bad_domid[6] = 1;
        assert_eq!(decode(&bad_domid), None);
        let service = ServiceName::new("x").unwrap();
        let mut bad_name = encode(DomId(1), &Request::Call { service, gref: GrantRef(8), id: 0 });
        bad_name[24] = b'/';
        assert_eq!(decode(&bad_name), None);
    }
}

//! Xenstore: the message types, limits and shared page of `xen/io/xs_wire.h`, and a codec for the protocol
//! of Xen's `docs/misc/xenstore.txt`.
//!
//! Nothing here does I/O. A client sends [`Header::encode`] and a body from [`request`], feeds what comes
//! back to a [`Decoder`], and reads the reply's body with [`reply`]. Bytes reach the peer through a socket or
//! device, or through the shared page whose layout is given here ([`REQ`] and [`RSP`] are its rings).
//!
//! # Who is to blame
//! [`RequestError`] is a mistake of the caller: nothing has been sent. [`ProtocolError`] means that xenstored
//! broke the protocol: the connection cannot be trusted any more. A refusal that xenstored spells correctly
//! is neither, it is an error number from [`reply::error_number`].

use crate::ring::Ring;

mod path;
pub mod reply;
pub mod request;
pub mod wire;

pub use path::{PathError, check_path, check_watch_path};
pub use request::RequestError;
pub use wire::{Decoder, HEADER_LEN, Header, Item};

/// Longest body in either direction, in bytes. Xenstored drops the connection of a client that sends more.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Longest absolute path in bytes.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest relative path in bytes.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// Bytes of each ring in the shared page.
pub const XENSTORE_RING_SIZE: u32 = 1024;
/// The ring of requests, which the domain writes.
pub const REQ: Ring = Ring::new(XENSTORE_RING_SIZE);
/// The ring of replies and watch events, which the domain reads.
pub const RSP: Ring = Ring::new(XENSTORE_RING_SIZE);

/// Offset of the request ring in the shared page (`struct xenstore_domain_interface`).
pub const REQ_OFFSET: usize = 0;
/// Offset of the reply ring.
pub const RSP_OFFSET: usize = 1024;
/// Offset of `req_cons` (`u32`; written by xenstored).
pub const REQ_CONS_OFFSET: usize = 2048;
/// Offset of `req_prod` (`u32`; written by the domain).
pub const REQ_PROD_OFFSET: usize = 2052;
/// Offset of `rsp_cons` (`u32`; written by the domain).
pub const RSP_CONS_OFFSET: usize = 2056;
/// Offset of `rsp_prod` (`u32`; written by xenstored).
pub const RSP_PROD_OFFSET: usize = 2060;
/// Offset of `server_features` (`u32`; `XENSTORE_SERVER_FEATURE_*` bits).
pub const SERVER_FEATURES_OFFSET: usize = 2064;
/// Offset of `connection` (`u32`; [`XENSTORE_CONNECTED`] or [`XENSTORE_RECONNECT`]).
pub const CONNECTION_OFFSET: usize = 2068;
/// Offset of `error` (`u32`; an `XENSTORE_ERROR_*` value).
pub const ERROR_OFFSET: usize = 2072;
/// Bytes of the structure.
pub const INTERFACE_SIZE: usize = 2076;

/// Bit: the rings can be reconnected.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// Bit: the `error` field is used.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// Connection: up.
pub const XENSTORE_CONNECTED: u32 = 0;
/// Connection: being made again. The rings must not be used.
pub const XENSTORE_RECONNECT: u32 = 1;
/// Error: none.
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// Error: communication problem.
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// Error: we wrote an invalid ring index.
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// Error: we sent a payload that is too long.
pub const XENSTORE_ERROR_PROTO: u32 = 3;

/// Type of a message (`enum xsd_sockmsg_type`); the C name is `XS_` and the upper-case name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MsgType {
    /// Command to xenstored (dom0).
    Control = 0,
    /// Names of the children of a node.
    Directory = 1,
    /// Value of a node.
    Read = 2,
    /// Permissions of a node.
    GetPerms = 3,
    /// Sets a watch.
    Watch = 4,
    /// Removes a watch.
    Unwatch = 5,
    /// Starts a transaction.
    TransactionStart = 6,
    /// Ends a transaction.
    TransactionEnd = 7,
    /// Introduces a domain (dom0).
    Introduce = 8,
    /// Releases a domain (dom0).
    Release = 9,
    /// Home of a domain.
    GetDomainPath = 10,
    /// Writes a value.
    Write = 11,
    /// Makes a node.
    Mkdir = 12,
    /// Removes a node and all below it.
    Rm = 13,
    /// Sets the permissions of a node.
    SetPerms = 14,
    /// A watch was triggered. From xenstored only.
    WatchEvent = 15,
    /// Refusal of a request. From xenstored only.
    Error = 16,
    /// Whether a domain has been introduced.
    IsDomainIntroduced = 17,
    /// Resumes `@releaseDomain` events of a domain (dom0).
    Resume = 18,
    /// Gives a domain the rights of another one (dom0).
    SetTarget = 19,
    /// Removes all watches and transactions of the caller.
    ResetWatches = 21,
    /// A part of the names of the children of a node.
    DirectoryPart = 22,
}

impl MsgType {
    /// Every type, in ascending order.
    pub const ALL: [MsgType; 22] = [
        MsgType::Control,
        MsgType::Directory,
        MsgType::Read,
        MsgType::GetPerms,
        MsgType::Watch,
        MsgType::Unwatch,
        MsgType::TransactionStart,
        MsgType::TransactionEnd,
        MsgType::Introduce,
        MsgType::Release,
        MsgType::GetDomainPath,
        MsgType::Write,
        MsgType::Mkdir,
        MsgType::Rm,
        MsgType::SetPerms,
        MsgType::WatchEvent,
        MsgType::Error,
        MsgType::IsDomainIntroduced,
        MsgType::Resume,
        MsgType::SetTarget,
        MsgType::ResetWatches,
        MsgType::DirectoryPart,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The type with this number.
    pub fn from_number(number: u32) -> Option<MsgType> {
        MsgType::ALL.iter().copied().find(|kind| kind.number() == number)
    }

    /// Whether a client may send it: not [`MsgType::WatchEvent`] and not [`MsgType::Error`].
    pub const fn is_request(self) -> bool {
        !matches!(self, MsgType::WatchEvent | MsgType::Error)
    }
}

/// Xenstored broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The header names a type that does not exist.
    #[error("xenstored sent a message of unknown type {0}")]
    UnknownType(u32),
    /// The header announces more than [`XENSTORE_PAYLOAD_MAX`] bytes.
    #[error("xenstored announced a body of {0} bytes; the protocol allows 4096")]
    TooLong(u32),
    /// A string is not terminated by a zero byte, or something follows the last one.
    #[error("xenstored sent a body whose strings do not end where they must")]
    Termination,
    /// A string that must be text is not UTF-8.
    #[error("xenstored sent a name that is not text")]
    NotText,
    /// A number cannot be parsed or is out of range.
    #[error("xenstored sent a number that cannot be parsed")]
    BadNumber,
    /// A permission is not one of `n`, `r`, `w`, `b` and a domain id.
    #[error("xenstored sent a permission that cannot be parsed")]
    BadPermission,
    /// The answer is neither `OK`, nor `T` or `F`, where it must be.
    #[error("xenstored sent an answer of the wrong form")]
    BadAnswer,
    /// An error name that neither `xs_wire.h` nor oxenstored has.
    #[error("xenstored sent an unknown error name")]
    UnknownError,
}

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nothing (`n`).
    #[default]
    None,
    /// Read (`r`).
    Read,
    /// Write (`w`).
    Write,
    /// Read and write (`b`).
    Both,
}

impl Access {
    /// The letter on the wire.
    pub const fn letter(self) -> u8 {
        match self {
            Access::None => b'n',
            Access::Read => b'r',
            Access::Write => b'w',
            Access::Both => b'b',
        }
    }

    /// The access with this letter.
    pub const fn from_letter(letter: u8) -> Option<Access> {
        match letter {
            b'n' => Some(Access::None),
            b'r' => Some(Access::Read),
            b'w' => Some(Access::Write),
            b'b' => Some(Access::Both),
            _ => None,
        }
    }
}

/// One entry of a node's permissions. The first entry of the list names the node's owner, who may do
/// everything, and what all domains that are not listed may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perm {
    /// The domain.
    pub domid: crate::DomId,
    /// What it may do.
    pub access: Access,
}

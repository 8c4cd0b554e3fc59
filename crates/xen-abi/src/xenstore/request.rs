//! Bodies of requests, written into the caller's buffer. Each function returns the length of the body.
//!
//! A buffer of [`XENSTORE_PAYLOAD_MAX`] bytes is always large enough for what
//! xenstored would accept. Requests without arguments have [`EMPTY`] as their body.

use super::{PathError, Perm, XENSTORE_PAYLOAD_MAX, check_path, check_watch_path};
use crate::DomId;

/// The request cannot be sent; the caller has to change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The path is not one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The body has more than [`XENSTORE_PAYLOAD_MAX`] bytes.
    #[error(
        "the xenstore request has a body of {len} bytes; at most 4096 are allowed: store less in one node"
    )]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The caller's buffer is too small.
    #[error("the xenstore request needs a buffer of {need} bytes")]
    Buffer {
        /// How large it has to be.
        need: usize,
    },
    /// The token of a watch contains a zero byte, which ends strings on the wire.
    #[error("the token of a xenstore watch contains a zero byte")]
    Token,
    /// A client may not send messages of this type.
    #[error("only xenstored sends messages of this type")]
    NotARequest,
    /// A list of permissions must at least name the owner.
    #[error("the list of xenstore permissions is empty; its first entry names the owner")]
    NoPermissions,
}

/// Body of [`TransactionStart`](super::MsgType::TransactionStart) and
/// [`ResetWatches`](super::MsgType::ResetWatches).
pub const EMPTY: &[u8] = b"\0";

/// Appends to a buffer and counts on when it is full, so that the error can say how much is needed.
struct Body<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Body<'a> {
    fn new(buf: &'a mut [u8]) -> Body<'a> {
        Body { buf, len: 0 }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        if let Some(target) = self.buf.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            target.copy_from_slice(bytes);
        }
        self.len = self.len.saturating_add(bytes.len());
        self
    }

    fn string(self, text: &str) -> Self {
        self.bytes(text.as_bytes()).bytes(b"\0")
    }

    /// Decimal digits, without a terminating zero.
    fn number(self, mut value: u32) -> Self {
        let mut digits = [0; 10];
        let mut start = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
            start -= 1;
            if value == 0 {
                break;
            }
        }
        self.bytes(digits.get(start..).unwrap_or(&[]))
    }

    fn finish(self) -> Result<usize, RequestError> {
        if self.len > XENSTORE_PAYLOAD_MAX {
            Err(RequestError::TooLong { len: self.len })
        } else if self.len > self.buf.len() {
            Err(RequestError::Buffer { need: self.len })
        } else {
            Ok(self.len)
        }
    }
}

/// A body that is one path: [`Read`](super::MsgType::Read), [`Directory`](super::MsgType::Directory),
/// [`Mkdir`](super::MsgType::Mkdir), [`Rm`](super::MsgType::Rm), [`GetPerms`](super::MsgType::GetPerms).
///
/// # Errors
/// The path or the buffer does not do.
pub fn path(buf: &mut [u8], path: &str) -> Result<usize, RequestError> {
    check_path(path)?;
    Body::new(buf).string(path).finish()
}

/// Body of [`Write`](super::MsgType::Write): path and value. The value may hold any bytes.
///
/// # Errors
/// The path, the length of the value or the buffer does not do.
pub fn write(buf: &mut [u8], path: &str, value: &[u8]) -> Result<usize, RequestError> {
    check_path(path)?;
    Body::new(buf).string(path).bytes(value).finish()
}

/// Body of [`Watch`](super::MsgType::Watch) and [`Unwatch`](super::MsgType::Unwatch): path (or a special name
/// such as `@releaseDomain`) and a token, which comes back with each event.
///
/// # Errors
/// The path, the token or the buffer does not do.
pub fn watch(buf: &mut [u8], path: &str, token: &str) -> Result<usize, RequestError> {
    check_watch_path(path)?;
    if token.contains('\0') {
        return Err(RequestError::Token);
    }
    Body::new(buf).string(path).string(token).finish()
}

/// Body of [`TransactionEnd`](super::MsgType::TransactionEnd).
pub const fn transaction_end(commit: bool) -> &'static [u8] {
    if commit { b"T\0" } else { b"F\0" }
}

/// Body of [`SetPerms`](super::MsgType::SetPerms): path and permissions, the owner's first.
///
/// # Errors
/// The path, the list or the buffer does not do.
pub fn set_perms(buf: &mut [u8], path: &str, perms: &[Perm]) -> Result<usize, RequestError> {
    check_path(path)?;
    if perms.is_empty() {
        return Err(RequestError::NoPermissions);
    }
    perms
        .iter()
        .fold(Body::new(buf).string(path), |body, perm| {
            body.bytes(&[perm.access.letter()]).number(perm.domid.0.into()).bytes(b"\0")
        })
        .finish()
}

/// Body that is a domain id: [`GetDomainPath`](super::MsgType::GetDomainPath),
/// [`IsDomainIntroduced`](super::MsgType::IsDomainIntroduced).
///
/// # Errors
/// The buffer does not do.
pub fn domid(buf: &mut [u8], domid: DomId) -> Result<usize, RequestError> {
    Body::new(buf).number(domid.0.into()).bytes(b"\0").finish()
}

/// Body of [`DirectoryPart`](super::MsgType::DirectoryPart): path and byte offset into the list of children.
///
/// # Errors
/// The path or the buffer does not do.
pub fn directory_part(buf: &mut [u8], path: &str, offset: u32) -> Result<usize, RequestError> {
    check_path(path)?;
    Body::new(buf).string(path).number(offset).bytes(b"\0").finish()
}

//! Bodies of replies and events.
//!
//! The value that [`Read`](super::MsgType::Read) answers with is the body as it is: any bytes, without a
//! terminating zero.

use super::{Access, Perm, ProtocolError};
use crate::{DomId, errno};

/// Error names of `xs_wire.h` (`xsd_errors`), in its order.
pub const ERRORS: [(i32, &str); 16] = [
    (errno::EINVAL, "EINVAL"),
    (errno::EACCES, "EACCES"),
    (errno::EEXIST, "EEXIST"),
    (errno::EISDIR, "EISDIR"),
    (errno::ENOENT, "ENOENT"),
    (errno::ENOMEM, "ENOMEM"),
    (errno::ENOSPC, "ENOSPC"),
    (errno::EIO, "EIO"),
    (errno::ENOTEMPTY, "ENOTEMPTY"),
    (errno::ENOSYS, "ENOSYS"),
    (errno::EROFS, "EROFS"),
    (errno::EBUSY, "EBUSY"),
    (errno::EAGAIN, "EAGAIN"),
    (errno::EISCONN, "EISCONN"),
    (errno::E2BIG, "E2BIG"),
    (errno::EPERM, "EPERM"),
];

/// Name on the wire of an error number (positive), if xenstored can send it.
pub fn error_name(number: i32) -> Option<&'static str> {
    ERRORS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The error number (positive, Linux's values) in the body of an [`Error`](super::MsgType::Error) reply.
///
/// Besides the names of [`ERRORS`] it takes `EQUOTA`, which oxenstored sends where the C xenstored sends
/// `ENOSPC`, as `ENOSPC`.
///
/// # Errors
/// [`ProtocolError::UnknownError`] for another name, [`ProtocolError::Termination`] when it is not one string.
pub fn error_number(body: &[u8]) -> Result<i32, ProtocolError> {
    let name = one_string(body)?;
    if name == "EQUOTA" {
        return Ok(errno::ENOSPC);
    }
    let known = ERRORS.iter().find(|(_, known)| *known == name);
    known.map(|(number, _)| *number).ok_or(ProtocolError::UnknownError)
}

/// Checks the body of a reply that says only `OK`.
///
/// # Errors
/// [`ProtocolError::BadAnswer`].
pub fn ok(body: &[u8]) -> Result<(), ProtocolError> {
    if body == b"OK\0" { Ok(()) } else { Err(ProtocolError::BadAnswer) }
}

/// The answer `T` or `F` of [`IsDomainIntroduced`](super::MsgType::IsDomainIntroduced).
///
/// # Errors
/// [`ProtocolError::BadAnswer`].
pub fn boolean(body: &[u8]) -> Result<bool, ProtocolError> {
    match body {
        b"T\0" => Ok(true),
        b"F\0" => Ok(false),
        _ => Err(ProtocolError::BadAnswer),
    }
}

/// The transaction id in the reply to [`TransactionStart`](super::MsgType::TransactionStart); never 0, which
/// would mean *no transaction*.
///
/// # Errors
/// [`ProtocolError::BadNumber`] or [`ProtocolError::Termination`].
pub fn transaction_id(body: &[u8]) -> Result<u32, ProtocolError> {
    match number(one_string(body)?) {
        Some(0) | None => Err(ProtocolError::BadNumber),
        Some(id) => Ok(id),
    }
}

/// The path in the reply to [`GetDomainPath`](super::MsgType::GetDomainPath).
///
/// # Errors
/// [`ProtocolError::Termination`] or [`ProtocolError::NotText`].
pub fn domain_path(body: &[u8]) -> Result<&str, ProtocolError> {
    one_string(body)
}

/// The names in the reply to [`Directory`](super::MsgType::Directory).
///
/// # Errors
/// [`ProtocolError::Termination`] or [`ProtocolError::NotText`]; after this check every name is good.
pub fn directory(body: &[u8]) -> Result<Strings<'_>, ProtocolError> {
    Strings::new(body)
}

/// The generation count and the names in the reply to [`DirectoryPart`](super::MsgType::DirectoryPart). Parts
/// fit together while the count stays the same. A part that ends in an empty name is the last one.
///
/// # Errors
/// As for [`directory`].
pub fn directory_part(body: &[u8]) -> Result<(&str, Strings<'_>), ProtocolError> {
    let mut strings = Strings::new(body)?;
    let generation = strings.next().ok_or(ProtocolError::Termination)?;
    Ok((generation, strings))
}

/// The permissions in the reply to [`GetPerms`](super::MsgType::GetPerms).
///
/// # Errors
/// [`ProtocolError::Termination`] or [`ProtocolError::NotText`]; each item has its own verdict.
pub fn perms(body: &[u8]) -> Result<Perms<'_>, ProtocolError> {
    Strings::new(body).map(|strings| Perms { strings })
}

/// The body of a [`WatchEvent`](super::MsgType::WatchEvent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchEvent<'a> {
    /// Node that changed; relative if the watch was.
    pub path: &'a str,
    /// Token of the watch.
    pub token: &'a str,
}

impl<'a> WatchEvent<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`ProtocolError::Termination`] when it is not two strings (a third, reserved one is ignored), or
    /// [`ProtocolError::NotText`].
    pub fn parse(body: &'a [u8]) -> Result<WatchEvent<'a>, ProtocolError> {
        let mut strings = Strings::new(body)?;
        match (strings.next(), strings.next()) {
            (Some(path), Some(token)) => Ok(WatchEvent { path, token }),
            _ => Err(ProtocolError::Termination),
        }
    }
}

/// Zero-terminated strings one behind the other.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    /// Empty, or text that ends in a zero.
    rest: &'a str,
}

impl<'a> Strings<'a> {
    fn new(body: &'a [u8]) -> Result<Strings<'a>, ProtocolError> {
        if body.last().is_some_and(|last| *last != 0) {
            return Err(ProtocolError::Termination);
        }
        let rest = str::from_utf8(body).map_err(|_| ProtocolError::NotText)?;
        Ok(Strings { rest })
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_once('\0')?;
        self.rest = rest;
        Some(first)
    }
}

impl core::iter::FusedIterator for Strings<'_> {}

/// Permissions one behind the other; see [`perms`].
#[derive(Clone, Debug)]
pub struct Perms<'a> {
    strings: Strings<'a>,
}

impl Iterator for Perms<'_> {
    type Item = Result<Perm, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.strings.next().map(|text| perm(text).ok_or(ProtocolError::BadPermission))
    }
}

impl core::iter::FusedIterator for Perms<'_> {}

fn perm(text: &str) -> Option<Perm> {
    let (letter, digits) = text.as_bytes().split_first()?;
    let access = Access::from_letter(*letter)?;
    let domid = number(str::from_utf8(digits).ok()?)?;
    Some(Perm { domid: DomId(domid.try_into().ok()?), access })
}

/// Decimal digits only: `str::parse` would take a plus sign too.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Exactly one zero-terminated string.
fn one_string(body: &[u8]) -> Result<&str, ProtocolError> {
    match body.split_last() {
        Some((0, text)) if !text.contains(&0) => str::from_utf8(text).map_err(|_| ProtocolError::NotText),
        _ => Err(ProtocolError::Termination),
    }
}

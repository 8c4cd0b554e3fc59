//! What a xenstore path may look like (`docs/misc/xenstore.txt`, introduction).

use super::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

/// Why a path is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is empty.
    #[error("the xenstore path is empty")]
    Empty,
    /// It is longer than `limit` bytes.
    #[error("the xenstore path has {len} bytes; at most {limit} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit for a path of this kind.
        limit: usize,
    },
    /// The byte at `at` is none of the letters, digits, `-`, `/`, `_` and `@`.
    #[error(
        "the xenstore path has a byte that is not allowed (at offset {at}): use letters, digits and -/_@"
    )]
    BadByte {
        /// Its offset.
        at: usize,
    },
    /// Two slashes in a row at `at`.
    #[error("the xenstore path has an empty component (at offset {at})")]
    DoubleSlash {
        /// Offset of the second slash.
        at: usize,
    },
    /// It starts with `@`, as only the special names of watches do.
    #[error("a xenstore path that starts with @ is only good for a watch")]
    Special,
    /// It ends in a slash and is not the root.
    #[error("the xenstore path ends in a slash")]
    TrailingSlash,
}

/// Checks the path of a node: absolute (`/local/domain/3/x`), or relative to the home of the domain that asks
/// (`data/x`).
///
/// Passing here does not promise that xenstored takes the path: some versions limit absolute paths more
/// tightly, and answer with `EINVAL`.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.starts_with('@') {
        return Err(PathError::Special);
    }
    check_watch_path(path)
}

/// Checks what a watch may name: a path as in [`check_path`], or an event of xenstored's own such as
/// `@releaseDomain`.
///
/// # Errors
/// What is wrong with it.
pub fn check_watch_path(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    let limit = match bytes.first() {
        None => return Err(PathError::Empty),
        Some(b'/') => XENSTORE_ABS_PATH_MAX,
        Some(_) => XENSTORE_REL_PATH_MAX,
    };
    if bytes.len() > limit {
        return Err(PathError::TooLong { len: bytes.len(), limit });
    }
    let mut previous = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'/' if previous == b'/' => return Err(PathError::DoubleSlash { at }),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'/' | b'_' | b'@' => previous = byte,
            _ => return Err(PathError::BadByte { at }),
        }
    }
    if previous == b'/' && bytes.len() > 1 {
        return Err(PathError::TrailingSlash);
    }
    Ok(())
}

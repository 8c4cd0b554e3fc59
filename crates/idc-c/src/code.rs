//! Numbers for what can go wrong.
#![expect(unsafe_code, reason = "exported names")]

use core::ffi::{c_char, c_int};

use idc::{DomId, Error, Violation};

use crate::{last, memory};

/// What functions return when they do not return a number of their own. Errors are negative.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idc_status {
    /// It worked.
    IDC_OK = 0,
    /// The peer has finished its stream; there are no more messages. Not an error.
    IDC_END = -1,
    /// A `try` function would have had to wait.
    IDC_E_WOULD_BLOCK = -2,
    /// The time limit passed.
    IDC_E_TIMED_OUT = -3,
    /// A null pointer, a length that no memory has, a time limit or number out of range, or text that is not UTF-8.
    IDC_E_INVALID = -4,
    /// This handle has been closed.
    IDC_E_CLOSED = -5,
    /// Another thread is in a call with this handle.
    IDC_E_BUSY = -6,
    /// This channel cannot do that: it only reads, or only writes, or is not complete yet.
    IDC_E_DIRECTION = -7,
    /// The peer broke the protocol; `idc_error.reason` says how. The channel is of no more use.
    IDC_E_PEER_MISBEHAVED = -8,
    /// The peer speaks another version.
    IDC_E_INCOMPATIBLE = -9,
    /// The peer closed the channel without finishing its stream, or refused it.
    IDC_E_PEER_CLOSED = -10,
    /// The peer's process or domain is gone.
    IDC_E_PEER_DIED = -11,
    /// There is no such domain.
    IDC_E_PEER_ABSENT = -12,
    /// The peer did not connect in time.
    IDC_E_PEER_NOT_CONNECTED = -13,
    /// The domain does not offer that service.
    IDC_E_NO_SUCH_SERVICE = -14,
    /// This side has finished its stream already.
    IDC_E_FINISHED = -15,
    /// The message is longer than the receiver takes; `idc_error.limit` is what it takes.
    IDC_E_MESSAGE_TOO_LARGE = -16,
    /// The next message, which stays, is longer than the buffer; `idc_error.needed` is its length.
    IDC_E_BUFFER_TOO_SMALL = -17,
    /// A configuration that there cannot be.
    IDC_E_BAD_CONFIG = -18,
    /// Not the name of a service.
    IDC_E_BAD_NAME = -19,
    /// This domain offers that service already.
    IDC_E_NAME_TAKEN = -20,
    /// This side has no more memory, grant entries or ports.
    IDC_E_OUT_OF_MEMORY = -21,
    /// gntalloc's limit is reached.
    IDC_E_GRANT_LIMIT = -22,
    /// The peer keeps pages of closed channels mapped and gets no new ones.
    IDC_E_QUARANTINED = -23,
    /// That grant cannot be mapped.
    IDC_E_BAD_GRANT = -24,
    /// Somebody is connected to that ring already.
    IDC_E_ALREADY_CONNECTED = -25,
    /// There is nothing here that channels could be made of.
    IDC_E_NO_PLATFORM = -26,
    /// The operating system refused; `idc_error.system` is its error number.
    IDC_E_SYSTEM = -27,
    /// An error that this version of the library has no number for.
    IDC_E_OTHER = -28,
}

use idc_status::*;

/// How a peer broke the protocol.
#[expect(dead_code, reason = "for C programs, which get the numbers")]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum idc_reason {
    /// It did not.
    IDC_REASON_NONE = 0,
    /// The setup page does not begin with the magic number.
    IDC_REASON_SETUP_MAGIC = 1,
    /// A number of pages or slots that there cannot be, or a field that must be zero is not.
    IDC_REASON_SETUP_GEOMETRY = 2,
    /// A grant reference in the setup page is one of Xen's reserved ones.
    IDC_REASON_SETUP_GRANT = 3,
    /// The event-channel port in the setup page is missing, or there is one where there must be none.
    IDC_REASON_SETUP_PORT = 4,
    /// Unknown type or reserved bits in a record header.
    IDC_REASON_RECORD_HEADER = 5,
    /// A record reaches beyond the end of the ring.
    IDC_REASON_RECORD_LENGTH = 6,
    /// A filler record that does not end where the ring ends, or starts where it starts.
    IDC_REASON_RECORD_FILLER = 7,
    /// A fragment out of order, empty, or more or fewer bytes than the message declared.
    IDC_REASON_FRAGMENT = 8,
    /// A message comes in more pieces than any geometry needs.
    IDC_REASON_FRAGMENT_COUNT = 9,
    /// A descriptor names pool pages that this side has not given back, or that there are not.
    IDC_REASON_POOL_PAGE = 10,
    /// The count of pool pages that were given back went back, or is more than were taken.
    IDC_REASON_POOL_RETURN = 11,
    /// A message longer than this side said it takes.
    IDC_REASON_MESSAGE_TOO_LARGE = 12,
    /// The index of consumed bytes went back.
    IDC_REASON_CONSUMED_BACK = 13,
    /// The index of consumed bytes passed what had been written, or is not a multiple of eight.
    IDC_REASON_CONSUMED_AHEAD = 14,
    /// An armed event index went back or is out of reach.
    IDC_REASON_ARMED_INDEX = 15,
    /// A state word that has no meaning.
    IDC_REASON_STATE_UNKNOWN = 16,
    /// A state that may not follow the one before.
    IDC_REASON_STATE_BACK = 17,
    /// The reader's page echoes another channel's number.
    IDC_REASON_NONCE = 18,
    /// The grant reference of the answering ring is impossible.
    IDC_REASON_REPLY_GRANT = 19,
}

/// Details of an error.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct idc_error {
    /// An `idc_status`.
    pub status: c_int,
    /// The domain that is to blame, or -1.
    pub peer: c_int,
    /// An `idc_reason`.
    pub reason: c_int,
    /// The operating system's error number, or 0.
    pub system: c_int,
    /// Bytes that were needed, or 0.
    pub needed: u64,
    /// Bytes that were allowed, or 0.
    pub limit: u64,
    /// What happened and what to do about it: a sentence, cut to the room.
    pub message: [c_char; 256],
}

/// Why a function of this library fails.
#[derive(Clone, Copy, Debug)]
pub enum Fail {
    /// For a reason of its own.
    Here(idc_status),
    /// For one of the channel's.
    Idc(Error),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        Fail::Idc(error)
    }
}

impl From<idc_status> for Fail {
    fn from(status: idc_status) -> Fail {
        Fail::Here(status)
    }
}

/// What the C program gets: the number, or the error's, which is remembered.
pub fn number(result: Result<i64, Fail>) -> i64 {
    let (status, error) = match result {
        Ok(number) => return number,
        Err(Fail::Here(status)) => (status, None),
        Err(Fail::Idc(error)) => (status_of(&error), Some(error)),
    };
    if status != IDC_END {
        last::set(error);
    }
    status as i64
}

/// As [`number`], for functions that only succeed or fail, and small numbers.
pub fn status(result: Result<c_int, Fail>) -> c_int {
    c_int::try_from(number(result.map(i64::from))).unwrap_or(IDC_E_OTHER as c_int)
}

/// Success without a number.
pub const OK: Result<c_int, Fail> = Ok(IDC_OK as c_int);

fn status_of(error: &Error) -> idc_status {
    match error {
        Error::PeerMisbehaved { .. } => IDC_E_PEER_MISBEHAVED,
        Error::Incompatible { .. } => IDC_E_INCOMPATIBLE,
        Error::PeerClosed { .. } => IDC_E_PEER_CLOSED,
        Error::PeerDied { .. } => IDC_E_PEER_DIED,
        Error::PeerAbsent { .. } => IDC_E_PEER_ABSENT,
        Error::PeerNotConnected { .. } => IDC_E_PEER_NOT_CONNECTED,
        Error::NoSuchService { .. } => IDC_E_NO_SUCH_SERVICE,
        Error::TimedOut => IDC_E_TIMED_OUT,
        Error::WouldBlock => IDC_E_WOULD_BLOCK,
        Error::Finished => IDC_E_FINISHED,
        Error::MessageTooLarge { .. } => IDC_E_MESSAGE_TOO_LARGE,
        Error::BufferTooSmall { .. } => IDC_E_BUFFER_TOO_SMALL,
        Error::BadConfig(_) => IDC_E_BAD_CONFIG,
        Error::BadName(_) => IDC_E_BAD_NAME,
        Error::NameTaken(_) => IDC_E_NAME_TAKEN,
        Error::OutOfMemory(_) => IDC_E_OUT_OF_MEMORY,
        Error::GrantLimit { .. } => IDC_E_GRANT_LIMIT,
        Error::Quarantined { .. } => IDC_E_QUARANTINED,
        Error::BadGrant { .. } => IDC_E_BAD_GRANT,
        Error::AlreadyConnected { .. } => IDC_E_ALREADY_CONNECTED,
        Error::NoPlatform(_) => IDC_E_NO_PLATFORM,
        Error::System { .. } => IDC_E_SYSTEM,
        _ => IDC_E_OTHER,
    }
}

/// The domain that an error names.
fn peer_of(error: &Error) -> Option<DomId> {
    match *error {
        Error::PeerMisbehaved { peer, .. }
        | Error::Incompatible { peer, .. }
        | Error::PeerClosed { peer, .. }
        | Error::PeerDied { peer }
        | Error::PeerAbsent { peer }
        | Error::PeerNotConnected { peer }
        | Error::NoSuchService { peer, .. }
        | Error::Quarantined { peer, .. }
        | Error::BadGrant { peer, .. }
        | Error::AlreadyConnected { peer, .. } => Some(peer),
        _ => None,
    }
}

/// The text for each status.
fn text_of(status: c_int) -> &'static core::ffi::CStr {
    let texts = [
        c"success",
        c"the peer has finished its stream",
        c"the operation would have to wait",
        c"the time limit passed",
        c"invalid argument",
        c"the handle has been closed",
        c"another thread is using the handle",
        c"the channel cannot do that: wrong direction, or not complete yet",
        c"the peer broke the protocol",
        c"the peer speaks another version of the protocol",
        c"the peer closed or refused the channel",
        c"the peer died",
        c"there is no such domain",
        c"the peer did not connect in time",
        c"the domain does not offer that service",
        c"this side has finished its stream already",
        c"the message is longer than the receiver takes",
        c"the buffer is too small for the next message",
        c"the configuration is not valid",
        c"not the name of a service",
        c"this domain offers that service already",
        c"no memory, grant entries or ports are left",
        c"gntalloc's limit is reached",
        c"the peer keeps pages of closed channels mapped",
        c"the grant cannot be mapped",
        c"the channel is connected already",
        c"there is no platform for channels here",
        c"the operating system refused",
        c"another error",
    ];
    let index = status.checked_neg().and_then(|number| usize::try_from(number).ok());
    index.and_then(|index| texts.get(index)).copied().unwrap_or(c"not a status of IDC")
}

/// A short text for an `idc_status`; never null, never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn idc_strerror(status: c_int) -> *const c_char {
    text_of(status).as_ptr()
}

/// Stores the details of the error that a function returned to this thread last. Without one (or when the function
/// failed because of its arguments) the status is `IDC_OK`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_last_error(error: *mut idc_error) -> c_int {
    let mut details = idc_error {
        status: IDC_OK as c_int,
        peer: -1,
        reason: idc_reason::IDC_REASON_NONE as c_int,
        system: 0,
        needed: 0,
        limit: 0,
        message: [0; 256],
    };
    if let Some(last) = last::get() {
        details.status = status_of(&last) as c_int;
        details.peer = peer_of(&last).map_or(-1, |peer| peer.0.into());
        match last {
            Error::PeerMisbehaved { reason, .. } => details.reason = number_of(reason),
            Error::System { errno, .. } => details.system = errno,
            Error::MessageTooLarge { len, max } => (details.needed, details.limit) = (len, max),
            Error::BufferTooSmall { needed, len } => {
                (details.needed, details.limit) = (needed as u64, len as u64);
            }
            _ => {}
        }
        let text = alloc::format!("{last}");
        // The rest stays zero.
        for (to, from) in details.message[..255].iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
    }
    status(memory::store(error, details).and(OK))
}

fn number_of(reason: Violation) -> c_int {
    c_int::try_from(reason.index() + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_text() {
        for status in 0..=IDC_E_OTHER.wrapping_abs_number() {
            assert_ne!(text_of(-status), text_of(1), "{status}");
        }
        assert_eq!(text_of(-29), text_of(c_int::MIN));
        assert_eq!(text_of(IDC_E_SYSTEM as c_int), c"the operating system refused");
        assert_eq!(text_of(IDC_E_PEER_DIED as c_int), c"the peer died");
    }

    impl idc_status {
        fn wrapping_abs_number(self) -> c_int {
            -(self as c_int)
        }
    }

    #[test]
    fn every_violation_has_its_number() {
        let header = include_str!("code.rs");
        // The C API has no vchan.
        for reason in Violation::ALL.iter().filter(|reason| !reason.name().starts_with("Vchan")) {
            let mut name = String::from("IDC_REASON");
            for letter in reason.name().chars() {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            assert!(header.contains(&format!("{name} = {},", number_of(*reason))), "{name}");
        }
    }
}

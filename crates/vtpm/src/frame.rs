//! Frames of IDC A, between a client (a guest's `vtpmd guest`, or `vtpmd proxy` and the manager in dom0) and the
//! vTPM domain. One IDC message is one frame.
//!
//! ```text
//! offset  bytes  request                          answer
//!   0       1    version, 1                       version, 1
//!   1       1    type                             type of the request with bit 7 set
//!   2       1    locality, 0 to 4                 status
//!   3       1    0                                0
//!   4       4    sequence, chosen by the client   the same
//!   8       4    bytes that follow                bytes that follow
//!  12             TPM command or argument         TPM answer or result
//! ```
//! A client has one command under way. `CANCEL` goes over a second channel of the same domain and names the
//! sequence number of the command that it is about. There is no field for who is asking: Xen says that.

use alloc::vec::Vec;
use core::fmt;

use crate::wire::{Cursor, Put};

/// Version of this layout.
pub const VERSION: u8 = 1;
/// Bytes before the contents.
pub const HEADER_LEN: usize = 12;
/// Most bytes of contents: the largest TPM command or answer.
pub const CONTENTS_MAX: usize = 4096;
/// Most bytes of a frame.
pub const FRAME_MAX: usize = HEADER_LEN + CONTENTS_MAX;
/// Highest locality of the TCG's PC client platform.
pub const LOCALITY_MAX: u8 = 4;
/// Bit of a type that makes it an answer.
const ANSWER: u8 = 0x80;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Run a TPM command.
    Command = 1,
    /// Stop the command with this sequence number, if it is still running.
    Cancel = 2,
    /// Power the TPM off and on, as a reset of the platform does.
    Reset = 3,
    /// Save the volatile state and stop.
    Suspend = 4,
    /// Go on after a suspend.
    Resume = 5,
    /// Tell about the instance: lines `key=value`.
    Info = 6,
    /// Let a guest in: contents are its domid (2 bytes) and its highest locality (1 byte).
    Attach = 7,
    /// Let a guest in no more: contents are its domid (2 bytes).
    Detach = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [
        Kind::Command,
        Kind::Cancel,
        Kind::Reset,
        Kind::Suspend,
        Kind::Resume,
        Kind::Info,
        Kind::Attach,
        Kind::Detach,
    ];

    fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The contents are the answer.
    Ok = 0,
    /// The frame was not understood.
    BadFrame = 1,
    /// This domain may not ask for that.
    Denied = 2,
    /// The locality is above what this domain may use.
    Locality = 3,
    /// The instance has halted: its state could not be kept.
    Halted = 4,
    /// It is suspended.
    Suspended = 5,
    /// The engine failed.
    Engine = 6,
}

impl Status {
    const ALL: [Status; 7] = [
        Status::Ok,
        Status::BadFrame,
        Status::Denied,
        Status::Locality,
        Status::Halted,
        Status::Suspended,
        Status::Engine,
    ];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "done",
            Status::BadFrame => "the vTPM did not understand the frame; are both sides of the same version?",
            Status::Denied => "this domain may not ask the vTPM for that",
            Status::Locality => "this domain may not use that locality",
            Status::Halted => "the vTPM has halted, because it could not keep its state; restart it",
            Status::Suspended => "the vTPM is suspended",
            Status::Engine => "the TPM engine failed",
        })
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header.
    #[error("a frame of {0} bytes is shorter than its header")]
    Short(usize),
    /// More bytes than are allowed.
    #[error("a frame of {0} bytes is longer than {FRAME_MAX}")]
    Long(usize),
    /// Another version.
    #[error("version {0} of the frame format is unknown")]
    Version(u8),
    /// An unknown type.
    #[error("frame type {0} is unknown")]
    Kind(u8),
    /// An unknown status.
    #[error("status {0} is unknown")]
    Status(u8),
    /// A locality that no platform has.
    #[error("there is no locality {0}")]
    Locality(u8),
    /// The byte that must be zero is not.
    #[error("a reserved byte is not zero")]
    Reserved,
    /// The length in the header is not that of the contents.
    #[error("the header announces {declared} bytes and {actual} follow")]
    Length {
        /// In the header.
        declared: u32,
        /// Really there.
        actual: usize,
    },
    /// An answer to something else.
    #[error("the answer belongs to another request")]
    Sequence,
}

/// A request; the contents are borrowed from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is wanted.
    pub kind: Kind,
    /// Locality, for a command.
    pub locality: u8,
    /// Comes back in the answer.
    pub sequence: u32,
    /// Command or argument.
    pub contents: &'a [u8],
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// To what.
    pub kind: Kind,
    /// How it ended.
    pub status: Status,
    /// Of the request.
    pub sequence: u32,
    /// Answer or result.
    pub contents: &'a [u8],
}

/// The fields of a header, as they are in either direction.
struct Raw<'a> {
    kind: u8,
    argument: u8,
    sequence: u32,
    contents: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<Raw<'_>, FrameError> {
    if bytes.len() > FRAME_MAX {
        return Err(FrameError::Long(bytes.len()));
    }
    let mut cursor = Cursor::new(bytes);
    let header =
        || -> Option<_> { Some((cursor.array::<4>()?, cursor.u32()?, cursor.u32()?, cursor.rest())) }();
    let ([version, kind, argument, reserved], sequence, declared, contents) =
        header.ok_or(FrameError::Short(bytes.len()))?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if reserved != 0 {
        return Err(FrameError::Reserved);
    }
    if usize::try_from(declared) != Ok(contents.len()) {
        return Err(FrameError::Length { declared, actual: contents.len() });
    }
    Ok(Raw { kind, argument, sequence, contents })
}

fn build(kind: u8, argument: u8, sequence: u32, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + contents.len());
    bytes.put(&[VERSION, kind, argument, 0]).put_u32(sequence);
    // Longer contents than the format allows are refused by the receiver.
    bytes.put_u32(u32::try_from(contents.len()).unwrap_or(u32::MAX)).put(contents);
    bytes
}

impl<'a> Request<'a> {
    /// Parses what a client sent.
    ///
    /// # Errors
    /// [`FrameError`], if it is no request.
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, FrameError> {
        let Raw { kind, argument, sequence, contents } = parse(bytes)?;
        let kind = Kind::from_number(kind).ok_or(FrameError::Kind(kind))?;
        if argument > LOCALITY_MAX {
            return Err(FrameError::Locality(argument));
        }
        Ok(Request { kind, locality: argument, sequence, contents })
    }

    /// The bytes that go over the channel.
    pub fn to_bytes(&self) -> Vec<u8> {
        build(self.kind as u8, self.locality, self.sequence, self.contents)
    }
}

impl<'a> Answer<'a> {
    /// Parses what the service sent in answer to a request.
    ///
    /// # Errors
    /// [`FrameError`], if it is no answer, or one to another request.
    pub fn parse(bytes: &'a [u8], request: &Request<'_>) -> Result<Answer<'a>, FrameError> {
        let Raw { kind, argument, sequence, contents } = parse(bytes)?;
        let number = kind;
        let kind = number.checked_sub(ANSWER).and_then(Kind::from_number).ok_or(FrameError::Kind(number))?;
        let status = Status::ALL.into_iter().find(|status| *status as u8 == argument);
        let status = status.ok_or(FrameError::Status(argument))?;
        // A service that did not understand the request cannot repeat its number.
        if status != Status::BadFrame && (kind != request.kind || sequence != request.sequence) {
            return Err(FrameError::Sequence);
        }
        Ok(Answer { kind, status, sequence, contents })
    }

    /// The bytes that go over the channel.
    pub fn to_bytes(&self) -> Vec<u8> {
        build(self.kind as u8 | ANSWER, self.status as u8, self.sequence, self.contents)
    }
}

//! The ten bytes that every TPM command and answer begins with, and the few commands that a vTPM sends itself.
//!
//! Source: TCG TPM 2.0 Library, part 1, 18 and part 3; TCG TPM Main 1.2, part 3. Numbers are big-endian.
//!
//! A command is checked before the engine sees it: the engine gets exactly the bytes that the header announces.

use alloc::vec::Vec;

use crate::frame::CONTENTS_MAX;

/// Bytes of the header: tag, size, code.
pub const HEADER_LEN: usize = 10;

/// Generation of the TPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// TPM 1.2.
    Tpm12 = 12,
    /// TPM 2.0.
    #[default]
    Tpm20 = 20,
}

impl Family {
    /// The family with this number.
    pub const fn from_number(number: u8) -> Option<Family> {
        match number {
            12 => Some(Family::Tpm12),
            20 => Some(Family::Tpm20),
            _ => None,
        }
    }

    /// `1.2` or `2.0`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Tpm12 => "1.2",
            Family::Tpm20 => "2.0",
        }
    }
}

/// Tags of TPM 2.0: `TPM_ST_NO_SESSIONS`, `TPM_ST_SESSIONS`.
const TAGS_20: [u16; 2] = [0x8001, 0x8002];
/// Tags of TPM 1.2: `TPM_TAG_RQU_COMMAND`, `TPM_TAG_RQU_AUTH1_COMMAND`, `TPM_TAG_RQU_AUTH2_COMMAND`.
const TAGS_12: [u16; 3] = [0x00c1, 0x00c2, 0x00c3];

/// Why a command is not passed on to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Shorter than a header, longer than any command, or of another length than its header says.
    #[error("the size of the command is wrong")]
    Size,
    /// A tag that no command of this family has.
    #[error("the command has an unknown tag")]
    Tag,
}

impl CommandError {
    /// What a TPM answers to such a command.
    pub fn answer(self, family: Family) -> Vec<u8> {
        let code = match (family, self) {
            (Family::Tpm20, CommandError::Size) => code::COMMAND_SIZE,
            (Family::Tpm20, CommandError::Tag) => code::BAD_TAG,
            (Family::Tpm12, CommandError::Size) => code::BAD_PARAM_SIZE_12,
            (Family::Tpm12, CommandError::Tag) => code::BAD_TAG_12,
        };
        answer(family, code)
    }
}

/// Answer codes.
pub mod code {
    /// It worked.
    pub const SUCCESS: u32 = 0;
    /// `TPM_RC_INITIALIZE`: `TPM2_Startup` is missing, or is not expected.
    pub const INITIALIZE: u32 = 0x100;
    /// `TPM_RC_FAILURE`.
    pub const FAILURE: u32 = 0x101;
    /// `TPM_RC_COMMAND_SIZE`.
    pub const COMMAND_SIZE: u32 = 0x142;
    /// `TPM_RC_BAD_TAG`, a code of TPM 1.2 that TPM 2.0 kept.
    pub const BAD_TAG: u32 = 0x1e;
    /// `TPM_RC_LOCALITY`.
    pub const LOCALITY: u32 = 0x907;
    /// `TPM_FAIL` of TPM 1.2.
    pub const FAIL_12: u32 = 9;
    /// `TPM_BAD_PARAM_SIZE` of TPM 1.2.
    pub const BAD_PARAM_SIZE_12: u32 = 25;
    /// `TPM_BADTAG` of TPM 1.2.
    pub const BAD_TAG_12: u32 = 30;
}

/// A command whose header is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Tag.
    pub tag: u16,
    /// Command code (2.0) or ordinal (1.2).
    pub code: u32,
    /// The whole command.
    pub bytes: &'a [u8],
}

/// Tag, size and code of a header.
fn header(bytes: &[u8]) -> Option<(u16, u32, u32)> {
    let [t0, t1, s0, s1, s2, s3, c0, c1, c2, c3] = *bytes.first_chunk()?;
    let number = u32::from_be_bytes;
    Some((u16::from_be_bytes([t0, t1]), number([s0, s1, s2, s3]), number([c0, c1, c2, c3])))
}

impl<'a> Command<'a> {
    /// Checks the header of a command.
    ///
    /// # Errors
    /// [`CommandError`], which knows the right answer.
    pub fn parse(bytes: &'a [u8], family: Family) -> Result<Command<'a>, CommandError> {
        let (tag, size, code) = header(bytes).ok_or(CommandError::Size)?;
        if bytes.len() > CONTENTS_MAX || usize::try_from(size) != Ok(bytes.len()) {
            return Err(CommandError::Size);
        }
        let known = match family {
            Family::Tpm20 => TAGS_20.contains(&tag),
            Family::Tpm12 => TAGS_12.contains(&tag),
        };
        if !known {
            return Err(CommandError::Tag);
        }
        Ok(Command { tag, code, bytes })
    }
}

/// The code in an answer; `None` if it is no answer.
pub fn answer_code(bytes: &[u8]) -> Option<u32> {
    let (_, size, code) = header(bytes)?;
    (usize::try_from(size) == Ok(bytes.len())).then_some(code)
}

/// An answer that is nothing but a code.
pub fn answer(family: Family, code: u32) -> Vec<u8> {
    // TPM_ST_NO_SESSIONS, but TPM_ST_RSP_COMMAND with BAD_TAG; TPM_TAG_RSP_COMMAND.
    let tag: u16 = match family {
        Family::Tpm20 if code != code::BAD_TAG => 0x8001,
        _ => 0x00c4,
    };
    build(tag, code, &[])
}

/// What a broken TPM answers to everything.
pub fn failure(family: Family) -> Vec<u8> {
    answer(
        family,
        match family {
            Family::Tpm20 => code::FAILURE,
            Family::Tpm12 => code::FAIL_12,
        },
    )
}

fn build(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
    bytes.extend_from_slice(&tag.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The command that starts a TPM after power-on, with its PCRs at their first values.
pub fn startup_clear(family: Family) -> Vec<u8> {
    match family {
        // TPM2_Startup(TPM_SU_CLEAR)
        Family::Tpm20 => build(0x8001, 0x144, &0u16.to_be_bytes()),
        // TPM_Startup(TPM_ST_CLEAR)
        Family::Tpm12 => build(0x00c1, 0x99, &1u16.to_be_bytes()),
    }
}

/// The command by which a TPM tests what it has not tested yet.
pub fn self_test(family: Family) -> Vec<u8> {
    match family {
        // TPM2_SelfTest(fullTest = NO)
        Family::Tpm20 => build(0x8001, 0x143, &[0]),
        // TPM_ContinueSelfTest
        Family::Tpm12 => build(0x00c1, 0x53, &[]),
    }
}

/// The command that extends a PCR in every bank with the digest of `event` (`TPM2_PCR_Event`, empty password).
pub fn pcr_event(pcr: u32, event: &[u8]) -> Vec<u8> {
    // TPM_RS_PW with empty nonce, no attributes, empty password.
    const AUTHORIZATION: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let mut body = Vec::new();
    body.extend_from_slice(&pcr.to_be_bytes());
    body.extend_from_slice(&AUTHORIZATION);
    body.extend_from_slice(&u16::try_from(event.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(event);
    build(0x8002, 0x13c, &body)
}

/// The command that extends a PCR of a TPM 1.2 with a digest (`TPM_Extend`).
pub fn extend_12(pcr: u32, digest: &[u8; 20]) -> Vec<u8> {
    let mut body = pcr.to_be_bytes().to_vec();
    body.extend_from_slice(digest);
    build(0x00c1, 0x14, &body)
}

//! Sealing of state: XChaCha20-Poly1305 (RFC 8439, with the 24-byte nonce of draft-irtf-cfrg-xchacha) over the
//! serialised [`State`](crate::state::State), the header as associated data.
//!
//! ```text
//! offset  bytes
//!   0       8   magic
//!   8       2   format, 1
//!  10       2   zero
//!  12      16   UUID of the instance
//!  28       8   epoch: number of the lease under which it was written
//!  36       8   counter: number of the state; no two states of an instance have the same
//!  44      24   nonce, random
//!  68       4   bytes of ciphertext that follow
//!  72           ciphertext and tag
//! ```
//! A random nonce of 24 bytes stays safe when a domain was forked or rolled back; one made from epoch and counter
//! would be used twice then.

use alloc::vec::Vec;
use core::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::wire::{Cursor, Put};

/// Bytes of the header.
pub const HEADER_LEN: usize = 72;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;
/// Bytes of the tag behind the ciphertext.
pub const TAG_LEN: usize = 16;
/// Most bytes of a sealed state.
pub const SEALED_MAX: usize = 512 << 10;

const MAGIC: [u8; 8] = *b"CMVTPMST";
const FORMAT: u16 = 1;

/// Identity of an instance (RFC 4122, as bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A random UUID (version 4) from random bytes.
    pub const fn from_random(mut bytes: [u8; 16]) -> Uuid {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// Reads 32 hexadecimal digits with hyphens in the usual places.
    pub fn parse(text: &str) -> Option<Uuid> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().enumerate();
        for byte in &mut bytes {
            let mut value = 0;
            for _ in 0..2 {
                let (mut place, mut digit) = digits.next()?;
                if matches!(place, 8 | 13 | 18 | 23) {
                    if digit != b'-' {
                        return None;
                    }
                    (place, digit) = digits.next()?;
                }
                debug_assert!(place < 36);
                value = value << 4 | u8::try_from(char::from(digit).to_digit(16)?).ok()?;
            }
            *byte = value;
        }
        digits.next().is_none().then_some(Uuid(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret of 32 bytes. It is never printed, and wiped when it is dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    /// The bytes, for those who store or send them.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one instance for one purpose, from the manager's master key (HKDF-SHA-256, RFC 5869).
    pub fn derive(&self, uuid: &Uuid, purpose: Purpose) -> Key {
        let mut bytes = Zeroizing::new([0; 32]);
        let info: [&[u8]; 3] = [b"casemate vtpm 1 ", purpose.name().as_bytes(), &uuid.0];
        let derived = Hkdf::<Sha256>::new(None, self.bytes()).expand_multi_info(&info, &mut *bytes);
        // 32 bytes is one block of the hash; only more than 255 blocks are refused.
        debug_assert!(derived.is_ok());
        Key(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing of state; the vTPM domain gets this key and no other.
    State,
    /// Authentication of the ledger; this key does not leave the manager.
    Ledger,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Purpose::State => "state",
            Purpose::Ledger => "ledger",
        }
    }
}

/// What the header says. Nothing of it is true before [`open`] succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The instance.
    pub uuid: Uuid,
    /// The lease under which the state was written.
    pub epoch: u64,
    /// Its number.
    pub counter: u64,
}

/// Why a sealed state is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is not such a container, or is cut.
    #[error("it is no sealed state, or is cut short")]
    Malformed,
    /// It was written in a format that this version does not know.
    #[error("its format {0} is unknown; it was written by a newer version")]
    Format(u16),
    /// Wrong key, or not one bit of header and contents is to be trusted.
    #[error("it was changed, or sealed with another key")]
    Forged,
    /// More state than a container holds.
    #[error("the state is larger than {SEALED_MAX} bytes")]
    TooLarge,
}

fn header_bytes(header: &Header, nonce: &[u8; NONCE_LEN], len: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + len as usize);
    bytes.put(&MAGIC).put_u16(FORMAT).put_u16(0).put(&header.uuid.0);
    bytes.put_u64(header.epoch).put_u64(header.counter).put(nonce).put_u32(len);
    bytes
}

/// Seals a state.
///
/// # Errors
/// [`SealError::TooLarge`].
pub fn seal(key: &Key, header: &Header, nonce: &[u8; NONCE_LEN], state: &[u8]) -> Result<Vec<u8>, SealError> {
    if state.len() > SEALED_MAX - HEADER_LEN - TAG_LEN {
        return Err(SealError::TooLarge);
    }
    let len = u32::try_from(state.len() + TAG_LEN).map_err(|_| SealError::TooLarge)?;
    let mut bytes = header_bytes(header, nonce, len);
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let payload = Payload { msg: state, aad: &bytes };
    let sealed = cipher.encrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::TooLarge)?;
    bytes.put(&sealed);
    Ok(bytes)
}

/// Reads the header, without any key.
///
/// # Errors
/// [`SealError`], if it is no complete container.
pub fn peek(bytes: &[u8]) -> Result<Header, SealError> {
    split(bytes).map(|parts| parts.0)
}

/// Header, nonce, associated data, ciphertext.
type Parts<'a> = (Header, [u8; NONCE_LEN], &'a [u8], &'a [u8]);

fn split(bytes: &[u8]) -> Result<Parts<'_>, SealError> {
    if bytes.len() > SEALED_MAX {
        return Err(SealError::Malformed);
    }
    let (associated, sealed) = bytes.split_at_checked(HEADER_LEN).ok_or(SealError::Malformed)?;
    let mut cursor = Cursor::new(associated);
    let mut fields = || {
        let start = (cursor.array::<8>()?, cursor.u16()?, cursor.u16()?);
        let header = Header { uuid: Uuid(cursor.array()?), epoch: cursor.u64()?, counter: cursor.u64()? };
        Some((start, header, cursor.array()?, cursor.u32()?))
    };
    let ((magic, format, zero), header, nonce, len) = fields().ok_or(SealError::Malformed)?;
    if magic != MAGIC {
        return Err(SealError::Malformed);
    }
    if format != FORMAT {
        return Err(SealError::Format(format));
    }
    if zero != 0 || usize::try_from(len) != Ok(sealed.len()) || sealed.len() < TAG_LEN {
        return Err(SealError::Malformed);
    }
    Ok((header, nonce, associated, sealed))
}

/// Opens a sealed state.
///
/// # Errors
/// [`SealError`].
pub fn open(key: &Key, bytes: &[u8]) -> Result<(Header, Zeroizing<Vec<u8>>), SealError> {
    let (header, nonce, aad, msg) = split(bytes)?;
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let state = cipher.decrypt(&XNonce::from(nonce), Payload { msg, aad }).map_err(|_| SealError::Forged)?;
    Ok((header, Zeroizing::new(state)))
}

/// The hash by which manager and domain name a sealed state.
pub fn hash(sealed: &[u8]) -> [u8; 32] {
    Sha256::digest(sealed).into()
}

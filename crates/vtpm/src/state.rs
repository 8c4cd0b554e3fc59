//! The state of a TPM between two lives of its engine, as a list of tagged values.
//!
//! ```text
//! { tag: 2 bytes, length: 4 bytes, value }*     the family first, each tag at most once, ascending
//! ```
//! A reader refuses a tag that it does not know, unless its highest bit says that it may be skipped: an older
//! version must not silently drop state that a newer one needs. The values are the engine's own formats and
//! attacker input to the engine, if whoever holds the key is an attacker.

use alloc::vec::Vec;

use zeroize::Zeroizing;

/// Bytes that are wiped when they are dropped.
pub type Secret = Zeroizing<Vec<u8>>;

use crate::command::Family;
use crate::wire::{Cursor, Put};

/// Most bytes of one value.
pub const VALUE_MAX: usize = 256 << 10;

const TAG_FAMILY: u16 = 1;
const TAG_PERMANENT: u16 = 0x10;
const TAG_SAVED: u16 = 0x11;
const TAG_VOLATILE: u16 = 0x12;
/// Tags with this bit may be skipped.
const OPTIONAL: u16 = 0x8000;

/// What a TPM remembers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Generation of the TPM that wrote it.
    pub family: Family,
    /// Non-volatile memory: seeds, NV indices, persistent objects, counters.
    pub permanent: Option<Secret>,
    /// What `TPM_SaveState` saved (1.2).
    pub saved: Option<Secret>,
    /// What is lost without power: PCRs, sessions, transient objects. Only from a suspend to the next start.
    pub volatile: Option<Secret>,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let len = |value: &Option<Secret>| value.as_ref().map(|bytes| bytes.len());
        let State { family, permanent, saved, volatile } = self;
        // Contents are secret.
        write!(f, "State({family:?}, {:?}, {:?}, {:?} bytes)", len(permanent), len(saved), len(volatile))
    }
}

/// Why bytes are no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A value ends behind the end, or is too long.
    #[error("a value is cut short or too long")]
    Length,
    /// Tags are not ascending.
    #[error("the tag {0:#06x} is in the wrong place, or there twice")]
    Order(u16),
    /// A tag that this version does not know and may not skip.
    #[error("the tag {0:#06x} is unknown; it was written by a newer version")]
    Tag(u16),
    /// No family, or one that does not exist.
    #[error("it does not say for which TPM family it is")]
    Family,
}

fn bytes_of(value: &Option<Secret>) -> Option<&[u8]> {
    value.as_ref().map(|bytes| bytes.as_slice())
}

impl State {
    /// The state of a TPM that never ran.
    pub fn new(family: Family) -> State {
        State { family, ..State::default() }
    }

    /// Serialises it.
    ///
    /// # Errors
    /// [`StateError::Length`], if a value is longer than [`VALUE_MAX`].
    pub fn to_bytes(&self) -> Result<Secret, StateError> {
        let values = [
            (TAG_FAMILY, Some(&[self.family as u8][..])),
            (TAG_PERMANENT, bytes_of(&self.permanent)),
            (TAG_SAVED, bytes_of(&self.saved)),
            (TAG_VOLATILE, bytes_of(&self.volatile)),
        ];
        let present = || values.iter().filter_map(|(tag, value)| Some((*tag, (*value)?)));
        // Room for all of it at once: a growing vector would leave copies of secrets behind.
        let mut bytes = Vec::with_capacity(present().map(|(_, value)| 6 + value.len()).sum());
        for (tag, value) in present() {
            let len = u32::try_from(value.len()).map_err(|_| StateError::Length)?;
            if value.len() > VALUE_MAX {
                return Err(StateError::Length);
            }
            bytes.put_u16(tag).put_u32(len).put(value);
        }
        Ok(Secret::new(bytes))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn parse(bytes: &[u8]) -> Result<State, StateError> {
        let mut cursor = Cursor::new(bytes);
        let mut state = State::default();
        let mut last = 0;
        while cursor.end().is_none() {
            let (tag, len) = cursor.u16().zip(cursor.u32()).ok_or(StateError::Length)?;
            let len = usize::try_from(len).ok().filter(|len| *len <= VALUE_MAX).ok_or(StateError::Length)?;
            let value = cursor.bytes(len).ok_or(StateError::Length)?;
            if tag <= last {
                return Err(StateError::Order(tag));
            }
            // Whatever comes first without being the family has no family before it.
            if last == 0 && tag != TAG_FAMILY {
                return Err(StateError::Family);
            }
            last = tag;
            match tag {
                TAG_FAMILY => {
                    let [number] = *value else { return Err(StateError::Family) };
                    state.family = Family::from_number(number).ok_or(StateError::Family)?;
                }
                TAG_PERMANENT => state.permanent = Some(Secret::new(value.to_vec())),
                TAG_SAVED => state.saved = Some(Secret::new(value.to_vec())),
                TAG_VOLATILE => state.volatile = Some(Secret::new(value.to_vec())),
                tag if tag & OPTIONAL != 0 => {}
                tag => return Err(StateError::Tag(tag)),
            }
        }
        if last == 0 { Err(StateError::Family) } else { Ok(state) }
    }
}

//! The pages of a ring, and the codec of its setup page.
//!
//! A ring has a direction. Its writer allocates every page of it and grants them to the reader:
//!
//! | page | granted | written by |
//! |---|---|---|
//! | setup page | read-only | the writer, once, before the grant reference is passed on |
//! | writer's control page | read-only | the writer |
//! | reader's control page | read-write | the reader |
//! | 1 to 256 data pages | read-only | the writer |
//! | 0 to 256 pool pages | read-only | the writer |
//!
//! The grant reference of the setup page is all that the reader has to be told. It copies the page once,
//! checks the copy with [`Setup::decode`], unmaps it and never looks at it again.
//!
//! # Setup page (little-endian)
//! | offset | type | content |
//! |---|---|---|
//! | 0 | u64 | [`MAGIC`] |
//! | 8 | u32 | [`VERSION`] |
//! | 12 | u32 | epoch: how often this ring has been set up anew |
//! | 16 | u64 | features that the reader must know ([`features`]) |
//! | 24 | u64 | features that the reader may ignore; none are defined |
//! | 32 | u64 | nonce: the reader echoes it, so that two rings cannot be taken for one another |
//! | 40 | u32 | event-channel port of the writer, unbound, for the reader to bind to; 0 with `SHARED_PORT` |
//! | 44 | u32 | number of data pages |
//! | 48 | u32 | grant reference of the writer's control page |
//! | 52 | u32 | grant reference of the reader's control page |
//! | 56 | u32 | number of pool pages, 0 to 256; not 0 with `POOL`, 0 without |
//! | 60 | u32 | number of slots: 8, 32 or 128 with `SLOTS`, and then there is one data page; 0 without |
//! | 128 | 256 x u32 | grant references of the data pages; the rest is 0 |
//! | 2,048 | 256 x u32 | grant references of the pool pages (granted read-only); the rest is 0 |
//!
//! The other bytes are 0.
//!
//! # Control pages (64-bit words)
//! Offsets are in [`control`]. No word has two writers, except that the liveness word of a Linux process is
//! cleared by its kernel when the process dies.

use alloc::vec::Vec;

use crate::error::{CloseReason, Error, Violation};
use crate::{DomId, EvtchnPort, GrantRef};

pub use xen_abi::PAGE_SIZE;

/// First word of a setup page: the bytes `CSMTIDC2`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CSMTIDC2");
/// Version of the layout that this module describes.
pub const VERSION: u32 = 2;
/// Most data pages of a ring.
pub const MAX_PAGES: usize = 256;
/// Grant references below this one belong to Xen's tool stack (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const FIRST_GRANT: u32 = 8;

/// Most pool pages of a ring.
pub const MAX_POOL: usize = 256;
/// Numbers of slots that there may be in a page.
pub const SLOTS: [usize; 3] = [8, 32, 128];

/// Offsets of what is new when a ring is set up anew.
pub(crate) const VERSION_AND_EPOCH: usize = 8;
pub(crate) const NONCE: usize = 32;
/// Offset of the port.
pub(crate) const PORT: usize = 40;
const DATA_REFS: usize = 128;
const POOL_REFS: usize = 2048;

/// Bits of the features that a reader must know. It refuses a ring with a bit that it does not know.
pub mod features {
    /// The reader is to answer with a ring of its own; the writer waits for it in
    /// [`REPLY_REF`](super::control::REPLY_REF).
    pub const DUPLEX: u64 = 1;
    /// The ring has no port of its own: it uses the one of the ring that it answers.
    pub const SHARED_PORT: u64 = 2;
    /// Payload may be in pool pages.
    pub const POOL: u64 = 4;
    /// The ring is a page of slots.
    pub const SLOTS: u64 = 8;
    /// What this version knows.
    pub const KNOWN: u64 = DUPLEX | SHARED_PORT | POOL | SLOTS;
}

/// Byte offsets of the words in a control page.
pub mod control {
    /// State of the owner of the page; see [`State`](super::State).
    pub const STATE: usize = 0;
    /// 1 while the owner lives. The lowest byte is cleared by the kernel when a Linux process dies.
    pub const ALIVE: usize = 8;
    /// The owner wants an event when the index that it waits for reaches this value.
    pub const ARMED: usize = 16;
    /// Reader's page: position up to which the reader is done with the data.
    pub const CONSUMED: usize = 64;
    /// Reader's page: pool pages that the reader is done with since the ring was made.
    pub const POOL_CONSUMED: usize = 72;
    /// Reader's page: longest message that the reader takes. Valid once the state is open.
    pub const MAX_MESSAGE: usize = 128;
    /// Reader's page: the nonce of the setup page. Valid once the state is open.
    pub const NONCE: usize = 136;
    /// Reader's page: grant reference of the setup page of the answering ring, with `DUPLEX`. Valid once the
    /// state is open.
    pub const REPLY_REF: usize = 144;
    /// Reader's page: optional features that the reader takes up. Valid once the state is open.
    pub const FEATURES: usize = 152;
    /// Writer's page: headers of the slots, one word each.
    pub const SLOTS: usize = 1024;
}

/// State word of one side: the state in the lowest byte, a [`CloseReason`] in the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected yet (the reader only).
    Absent,
    /// Connected.
    Open,
    /// Everything has been written (the writer only); what is in the ring is still to be read.
    Finished,
    /// Gone.
    Closed(CloseReason),
}

impl State {
    /// The word that stands for this state.
    pub fn encode(self) -> u64 {
        match self {
            State::Absent => 0,
            State::Open => 1,
            State::Finished => 2,
            State::Closed(reason) => 3 | (reason as u64) << 8,
        }
    }

    /// Checks a word that was loaded once.
    ///
    /// # Errors
    /// [`Violation::StateUnknown`].
    pub fn decode(word: u64) -> Result<State, Violation> {
        match (word & 0xff, word >> 8) {
            (0, 0) => Ok(State::Absent),
            (1, 0) => Ok(State::Open),
            (2, 0) => Ok(State::Finished),
            (3, reason) => CloseReason::from_number(reason).map(State::Closed).ok_or(Violation::StateUnknown),
            _ => Err(Violation::StateUnknown),
        }
    }

    /// States only ever go up.
    pub fn rank(self) -> u8 {
        match self {
            State::Absent => 0,
            State::Open => 1,
            State::Finished => 2,
            State::Closed(_) => 3,
        }
    }
}

/// The contents of a setup page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Bits of [`features`] that the reader must know, without those of the geometry.
    pub features: u64,
    /// How often the ring has been set up anew.
    pub epoch: u32,
    /// Number that tells this ring from others.
    pub nonce: u64,
    /// The writer's unbound port; `None` with [`features::SHARED_PORT`].
    pub port: Option<EvtchnPort>,
    /// The writer's control page.
    pub writer_ref: GrantRef,
    /// The reader's control page.
    pub reader_ref: GrantRef,
    /// Slots in the data page; 0 for a ring without slots. One of [`SLOTS`].
    pub slots: usize,
    /// The data pages, 1 to [`MAX_PAGES`].
    pub data_refs: Vec<GrantRef>,
    /// The pool pages, at most [`MAX_POOL`].
    pub pool_refs: Vec<GrantRef>,
}

/// Why a setup page was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The peer is to blame.
    Violation(Violation),
    /// Nobody is to blame: the two sides are of different versions.
    Incompatible(&'static str),
}

impl From<Violation> for SetupError {
    fn from(reason: Violation) -> Self {
        SetupError::Violation(reason)
    }
}

impl SetupError {
    /// The error to report about `peer`.
    pub fn blame(self, peer: DomId) -> Error {
        match self {
            SetupError::Violation(reason) => Error::PeerMisbehaved { peer, reason },
            SetupError::Incompatible(what) => Error::Incompatible { peer, what },
        }
    }
}

impl Setup {
    /// Bytes of data in the ring.
    pub fn capacity(&self) -> usize {
        self.data_refs.len() * PAGE_SIZE
    }

    /// Bytes of a slot; 0 without slots.
    pub fn slot(&self) -> usize {
        PAGE_SIZE.checked_div(self.slots).unwrap_or(0)
    }

    /// The page as bytes. The features of the geometry follow from it.
    pub fn encode(&self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        put(&mut page, 0, &MAGIC.to_le_bytes());
        put(&mut page, 8, &VERSION.to_le_bytes());
        put(&mut page, 12, &self.epoch.to_le_bytes());
        put(&mut page, 16, &(self.features | self.geometry()).to_le_bytes());
        put(&mut page, 32, &self.nonce.to_le_bytes());
        put(&mut page, 40, &self.port.unwrap_or_default().0.to_le_bytes());
        put(&mut page, 44, &(self.data_refs.len() as u32).to_le_bytes());
        put(&mut page, 48, &self.writer_ref.0.to_le_bytes());
        put(&mut page, 52, &self.reader_ref.0.to_le_bytes());
        put(&mut page, 56, &(self.pool_refs.len() as u32).to_le_bytes());
        put(&mut page, 60, &(self.slots as u32).to_le_bytes());
        for (start, refs) in [(DATA_REFS, &self.data_refs), (POOL_REFS, &self.pool_refs)] {
            for (index, gref) in refs.iter().take(MAX_PAGES).enumerate() {
                put(&mut page, start + index * 4, &gref.0.to_le_bytes());
            }
        }
        page
    }

    fn geometry(&self) -> u64 {
        (if self.pool_refs.is_empty() { 0 } else { features::POOL })
            | (if self.slots == 0 { 0 } else { features::SLOTS })
    }

    /// Checks a private copy of a setup page.
    ///
    /// # Errors
    /// See [`SetupError`]. No field of a page that does not pass may be used.
    pub fn decode(page: &[u8; PAGE_SIZE]) -> Result<Setup, SetupError> {
        if word64(page, 0) != MAGIC {
            return Err(Violation::SetupMagic.into());
        }
        if word32(page, 8) != VERSION {
            return Err(SetupError::Incompatible("the protocol version differs"));
        }
        let features = word64(page, 16);
        if features & !features::KNOWN != 0 {
            return Err(SetupError::Incompatible("it needs a feature that is unknown here"));
        }
        let (count, pool) = (word32(page, 44) as usize, word32(page, 56) as usize);
        let slots = word32(page, 60) as usize;
        let possible = (1..=MAX_PAGES).contains(&count)
            && pool <= MAX_POOL
            && (slots == 0 || (SLOTS.contains(&slots) && count == 1))
            && (slots != 0) == (features & features::SLOTS != 0)
            && (pool != 0) == (features & features::POOL != 0);
        let is_zero = |start: usize, end: usize| {
            page.get(start..end).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
        };
        if !possible
            || !is_zero(DATA_REFS + count * 4, POOL_REFS)
            || !is_zero(POOL_REFS + pool * 4, PAGE_SIZE)
        {
            return Err(Violation::SetupGeometry.into());
        }
        let port = match (word32(page, 40), features & features::SHARED_PORT != 0) {
            (0, true) => None,
            (port, false) if port != 0 => Some(EvtchnPort(port)),
            _ => return Err(Violation::SetupPort.into()),
        };
        let setup = Setup {
            features: features & !(features::POOL | features::SLOTS),
            epoch: word32(page, 12),
            nonce: word64(page, 32),
            port,
            writer_ref: GrantRef(word32(page, 48)),
            reader_ref: GrantRef(word32(page, 52)),
            slots,
            data_refs: refs(page, DATA_REFS, count),
            pool_refs: refs(page, POOL_REFS, pool),
        };
        let own = [setup.writer_ref, setup.reader_ref];
        let mut all = own.iter().chain(&setup.data_refs).chain(&setup.pool_refs);
        if all.any(|gref| gref.0 < FIRST_GRANT) {
            return Err(Violation::SetupGrant.into());
        }
        Ok(setup)
    }
}

fn refs(page: &[u8; PAGE_SIZE], start: usize, count: usize) -> Vec<GrantRef> {
    (0..count).map(|index| GrantRef(word32(page, start + index * 4))).collect()
}

fn put(page: &mut [u8; PAGE_SIZE], offset: usize, bytes: &[u8]) {
    if let Some(target) = page.get_mut(offset..offset + bytes.len()) {
        target.copy_from_slice(bytes);
    }
}

/// The offsets are constants of this module and lie inside the page.
fn word32(page: &[u8; PAGE_SIZE], offset: usize) -> u32 {
    page.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn word64(page: &[u8; PAGE_SIZE], offset: usize) -> u64 {
    page.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

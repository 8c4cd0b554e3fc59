//! Messages of IDC B, between a vTPM domain and the manager. The vTPM domain asks, the manager answers; the manager
//! knows who is asking from Xen, and which instance that is from having started the domain.
//!
//! ```text
//! offset  bytes
//!   0       1    version, 1
//!   1       1    request; in an answer with bit 7 set
//!   2       2    result: 0, or why not (answers only)
//!   4            contents
//! ```

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::command::Family;
use crate::policy::{PEERS_MAX, Peer, Role};
use crate::seal::{Key, SEALED_MAX, Uuid};
use crate::vault::Mark;
use crate::wire::{Cursor, Put};

/// Name of the manager's service.
pub const SERVICE: &str = "vtpm-manager";
/// Version of this layout.
pub const VERSION: u8 = 1;
/// Bytes before the contents.
pub const HEADER_LEN: usize = 4;
/// Most bytes of a message.
pub const MESSAGE_MAX: usize = HEADER_LEN + SEALED_MAX;
/// Bytes of entropy that the manager gives at once.
pub const SEED_LEN: usize = 64;
const ANSWER: u8 = 0x80;

/// What the vTPM domain wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Its lease.
    Lease = 1,
    /// Its sealed state; empty for a new instance.
    Load = 2,
    /// To have this sealed state written.
    Store = 3,
    /// Entropy.
    Seed = 4,
    /// To go on with its lease (8 bytes) on a new channel: the manager was restarted. The answer is the
    /// [`Mark`] of the state that was written last, so that a write that was under way is not made twice.
    Rejoin = 5,
}

impl Ask {
    const ALL: [Ask; 5] = [Ask::Lease, Ask::Load, Ask::Store, Ask::Seed, Ask::Rejoin];
}

/// Why the manager refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum Refusal {
    /// It did not understand.
    #[error("the manager did not understand the message")]
    BadMessage = 1,
    /// It did not start this domain.
    #[error("the manager has no instance for this domain")]
    Unknown = 2,
    /// The lease has ended.
    #[error("the lease has ended: another domain runs this instance")]
    StaleLease = 3,
    /// The stored state is not the last one.
    #[error("the stored state is damaged, or was rolled back")]
    RolledBack = 4,
    /// A state that is no state of this instance, or does not follow the last one.
    #[error("the manager does not take this state")]
    BadState = 5,
    /// Its storage failed.
    #[error("the manager's storage failed")]
    Storage = 6,
    /// No lease was taken on this channel.
    #[error("a lease comes first")]
    NoLease = 7,
}

impl Refusal {
    const ALL: [Refusal; 7] = [
        Refusal::BadMessage,
        Refusal::Unknown,
        Refusal::StaleLease,
        Refusal::RolledBack,
        Refusal::BadState,
        Refusal::Storage,
        Refusal::NoLease,
    ];
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message on the manager's channel is malformed, or of another version")]
pub struct BadMessage;

/// A request.
pub fn request(ask: Ask, contents: &[u8]) -> Vec<u8> {
    message(ask as u8, 0, contents)
}

/// The contents of an answer.
pub fn answer(ask: Ask, result: Result<&[u8], Refusal>) -> Vec<u8> {
    match result {
        Ok(contents) => message(ask as u8 | ANSWER, 0, contents),
        Err(refusal) => message(ask as u8 | ANSWER, refusal as u16, &[]),
    }
}

fn message(kind: u8, result: u16, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + contents.len());
    bytes.put(&[VERSION, kind]).put_u16(result).put(contents);
    bytes
}

/// Reads a request.
///
/// # Errors
/// [`BadMessage`].
pub fn parse_request(bytes: &[u8]) -> Result<(Ask, &[u8]), BadMessage> {
    let (kind, result, contents) = parse(bytes).ok_or(BadMessage)?;
    let ask = Ask::ALL.into_iter().find(|ask| *ask as u8 == kind).ok_or(BadMessage)?;
    if result == 0 { Ok((ask, contents)) } else { Err(BadMessage) }
}

/// Reads the answer to a request.
///
/// # Errors
/// [`BadMessage`]; the inner error is the manager's.
pub fn parse_answer(bytes: &[u8], ask: Ask) -> Result<Result<&[u8], Refusal>, BadMessage> {
    let (kind, result, contents) = parse(bytes).ok_or(BadMessage)?;
    if kind != ask as u8 | ANSWER {
        return Err(BadMessage);
    }
    if result == 0 {
        return Ok(Ok(contents));
    }
    let refusal = Refusal::ALL.into_iter().find(|refusal| *refusal as u16 == result);
    refusal.map(Err).ok_or(BadMessage)
}

fn parse(bytes: &[u8]) -> Option<(u8, u16, &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let ([version, kind], result) = (cursor.array()?, cursor.u16()?);
    (version == VERSION && bytes.len() <= MESSAGE_MAX).then_some((kind, result, cursor.rest()))
}

/// The right to run an instance, and all that is needed for it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The instance.
    pub uuid: Uuid,
    /// Its family.
    pub family: Family,
    /// The guest starts together with the TPM, so it has booted nothing yet. If not, the PCRs that it had are lost
    /// and no PCR may look as if nothing had been measured.
    pub fresh: bool,
    /// Number of the lease; every state that is written carries it.
    pub epoch: u64,
    /// The state that was written last.
    pub mark: Option<Mark>,
    /// Key of the sealed state.
    pub key: Key,
    /// Entropy of the manager.
    pub seed: Seed,
    /// Who may talk to the instance.
    pub peers: Vec<Peer>,
}

/// The contents of the answer to [`Ask::Rejoin`].
pub fn mark_to_bytes(mark: Option<Mark>) -> Vec<u8> {
    let Mark { epoch, counter, hash } = mark.unwrap_or_default();
    let mut bytes = Vec::with_capacity(49);
    bytes.put_u8(mark.is_some().into()).put_u64(epoch).put_u64(counter).put(&hash);
    bytes
}

fn read_mark(cursor: &mut Cursor<'_>) -> Option<Option<Mark>> {
    let present = cursor.flag()?;
    let mark = Mark { epoch: cursor.u64()?, counter: cursor.u64()?, hash: cursor.array()? };
    Some(present.then_some(mark))
}

/// Reads the answer to [`Ask::Rejoin`].
///
/// # Errors
/// [`BadMessage`].
pub fn parse_mark(bytes: &[u8]) -> Result<Option<Mark>, BadMessage> {
    let mut cursor = Cursor::new(bytes);
    let mark = read_mark(&mut cursor).ok_or(BadMessage)?;
    cursor.end().ok_or(BadMessage)?;
    Ok(mark)
}

/// Entropy on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(pub Zeroizing<[u8; SEED_LEN]>);

impl core::fmt::Debug for Seed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Lease {
    /// The contents of the answer to [`Ask::Lease`]. Peers beyond [`PEERS_MAX`] are left out.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        bytes.put(&self.uuid.0).put_u8(self.family as u8).put_u8(self.fresh.into()).put_u64(self.epoch);
        bytes.put(&mark_to_bytes(self.mark));
        bytes.put(self.key.bytes()).put(&*self.seed.0);
        let peers = self.peers.get(..PEERS_MAX).unwrap_or(&self.peers);
        // PEERS_MAX fits into a byte.
        bytes.put_u8(peers.len() as u8);
        for peer in peers {
            bytes.put_u16(peer.domid).put_u8(peer.role as u8).put_u8(peer.locality);
        }
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn parse(bytes: &[u8]) -> Result<Lease, BadMessage> {
        Lease::read(&mut Cursor::new(bytes)).ok_or(BadMessage)
    }

    fn read(cursor: &mut Cursor<'_>) -> Option<Lease> {
        let uuid = Uuid(cursor.array()?);
        let family = Family::from_number(cursor.u8()?)?;
        let (fresh, epoch, mark) = (cursor.flag()?, cursor.u64()?, read_mark(cursor)?);
        let (key, seed) = (Key::new(cursor.array()?), Seed(Zeroizing::new(cursor.array()?)));
        let count = usize::from(cursor.u8()?);
        if count > PEERS_MAX {
            return None;
        }
        let mut peers = Vec::with_capacity(count);
        for _ in 0..count {
            let (domid, role, locality) = (cursor.u16()?, Role::from_number(cursor.u8()?)?, cursor.u8()?);
            peers.push(Peer { domid, role, locality });
        }
        cursor.end()?;
        Some(Lease { uuid, family, fresh, epoch, mark, key, seed, peers })
    }
}

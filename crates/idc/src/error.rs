//! What can go wrong, and who is to blame.
//!
//! [`Error::PeerMisbehaved`] is kept apart from everything else: it is neither a failure of this side nor of
//! the machine, but a peer that broke the protocol, by mistake or on purpose. Its [`Violation`] says how, and
//! each is counted (see [`crate::stats`]). A peer that closed, died or was never there has errors of its own.

use crate::name::ServiceName;
use crate::{DomId, GrantRef};

/// Result of this crate's functions.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol. The channel is closed and nothing of it may be trusted.
    #[error(
        "domain {peer} broke the IDC protocol: {reason}; the channel is closed, and that domain is faulty or hostile"
    )]
    PeerMisbehaved {
        /// The guilty domain.
        peer: DomId,
        /// What it did.
        reason: Violation,
    },
    /// The peer speaks another version of the protocol, or needs a feature that this side lacks.
    #[error(
        "domain {peer} speaks an IDC that this side does not ({what}): build both sides from the same version"
    )]
    Incompatible {
        /// The other domain.
        peer: DomId,
        /// What does not fit.
        what: &'static str,
    },
    /// The peer closed the channel without finishing its stream, or refused it.
    #[error("domain {peer} closed the channel: {reason}")]
    PeerClosed {
        /// The other domain.
        peer: DomId,
        /// Why it did.
        reason: CloseReason,
    },
    /// The peer's process ended or its domain was destroyed while the channel was open.
    #[error(
        "domain {peer} died (its process ended or the domain was destroyed); look at its console, then connect again"
    )]
    PeerDied {
        /// The domain that is gone.
        peer: DomId,
    },
    /// There is no such domain.
    #[error("domain {peer} does not exist: check the number with `xl list`")]
    PeerAbsent {
        /// The domain that was asked for.
        peer: DomId,
    },
    /// The deadline passed and the peer had not connected to the other end.
    #[error(
        "domain {peer} did not connect in time: is the program on the other side running, and does it have the grant reference?"
    )]
    PeerNotConnected {
        /// The domain that should have connected.
        peer: DomId,
    },
    /// The deadline passed and the domain did not offer the service.
    #[error("domain {peer} does not offer the service `{service}`: start it there, or wait longer")]
    NoSuchService {
        /// The domain that was asked.
        peer: DomId,
        /// The service that was asked for.
        service: ServiceName,
    },
    /// The deadline passed.
    #[error("the deadline passed before the operation could complete")]
    TimedOut,
    /// A `try_` call would have had to wait.
    #[error("the operation would have to wait")]
    WouldBlock,
    /// This end has been closed or has sent its end mark already.
    #[error("this end of the channel has already been finished")]
    Finished,
    /// The message is longer than the receiver takes.
    #[error(
        "a message of {len} bytes is longer than the receiver takes ({max}): split it, or raise its max_message"
    )]
    MessageTooLarge {
        /// Bytes of the message.
        len: u64,
        /// Bytes that are allowed.
        max: u64,
    },
    /// The caller's buffer is too small for the next message, which stays where it is.
    #[error("the next message has {needed} bytes and the buffer only {len}: pass a larger buffer")]
    BufferTooSmall {
        /// Bytes of the message.
        needed: usize,
        /// Bytes of the buffer.
        len: usize,
    },
    /// A parameter is out of range.
    #[error("the configuration is not valid: {0}")]
    BadConfig(&'static str),
    /// The name of a service is not one.
    #[error("`{0}` is not the name of a service: use 1 to 32 of a-z, 0-9 and `-`, not starting with `-`")]
    BadName(ServiceName),
    /// The service is offered by this domain already.
    #[error("this domain offers the service `{0}` already: stop the other program first")]
    NameTaken(ServiceName),
    /// No memory, grant entries or ports are left on this side.
    #[error(
        "this side is out of memory for {0}: use fewer or smaller channels, or give the domain more memory"
    )]
    OutOfMemory(&'static str),
    /// `/dev/xen/gntalloc` has handed out as many pages as its limit allows.
    #[error("no more pages can be granted ({wanted} wanted): raise the limit with `echo {} > /sys/module/xen_gntalloc/parameters/limit`, or use fewer pages a channel", limit.saturating_mul(4))]
    GrantLimit {
        /// Pages that were wanted.
        wanted: usize,
        /// The limit now, in pages of all channels of this machine.
        limit: usize,
    },
    /// The peer keeps so many pages mapped that were taken back from it that it gets no more.
    #[error(
        "domain {peer} still has {pages} pages mapped that belong to closed channels: it gets no new channel until it unmaps them"
    )]
    Quarantined {
        /// The domain that keeps them.
        peer: DomId,
        /// How many.
        pages: usize,
    },
    /// A grant reference that cannot be mapped: not granted to us, or no longer.
    #[error("grant {gref} of domain {peer} cannot be mapped: it is not granted to this domain, or no longer")]
    BadGrant {
        /// The domain that should have granted it.
        peer: DomId,
        /// The reference.
        gref: GrantRef,
    },
    /// Somebody on this side has connected to that ring before.
    #[error("grant {gref} of domain {peer} belongs to a channel that is connected already")]
    AlreadyConnected {
        /// The domain that made the ring.
        peer: DomId,
        /// Its setup page.
        gref: GrantRef,
    },
    /// There is nothing here that channels could be made of.
    #[error("{0}")]
    NoPlatform(&'static str),
    /// A call of the operating system or the kernel failed.
    #[error("{call} failed with error {errno} ({}): {hint}", errno_name(*errno))]
    System {
        /// The call or device.
        call: &'static str,
        /// Linux error number, positive.
        errno: i32,
        /// What to do about it.
        hint: &'static str,
    },
}

fn errno_name(errno: i32) -> &'static str {
    xen_abi::errno::name(errno).unwrap_or("unknown")
}

/// Reason with which a side closes a channel; the number goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum CloseReason {
    /// The end was dropped without having sent its end mark.
    #[error("it stopped without finishing what it had to say")]
    Dropped = 0,
    /// It has too many channels open, or does not want this peer.
    #[error("it refused the channel, probably because too many are open")]
    Refused = 1,
    /// It says that this side broke the protocol.
    #[error("it says that this side broke the protocol; update the older of the two")]
    Misbehaved = 2,
    /// It ran out of memory, grant entries or ports.
    #[error("it is out of memory or grant entries")]
    Resources = 3,
}

impl CloseReason {
    /// The reason with this number.
    pub fn from_number(number: u64) -> Option<CloseReason> {
        [CloseReason::Dropped, CloseReason::Refused, CloseReason::Misbehaved, CloseReason::Resources]
            .into_iter()
            .find(|reason| *reason as u64 == number)
    }
}

macro_rules! violations {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// How a peer broke the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        pub enum Violation {
            $($(#[doc = $doc])+ #[error($text)] $name,)+
        }

        impl Violation {
            /// Every violation, in the order of [`Violation::index`].
            pub const ALL: &'static [Violation] = &[$(Violation::$name),+];

            /// Position in [`Violation::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// Short name for logs and counters.
            pub const fn name(self) -> &'static str {
                match self { $(Violation::$name => stringify!($name)),+ }
            }
        }
    };
}

violations! {
    /// The setup page does not begin with the magic number.
    SetupMagic = "the page is not a setup page (wrong magic number)",
    /// A number of pages or slots that there cannot be, or a field that must be zero is not.
    SetupGeometry = "the setup page declares an impossible geometry",
    /// A grant reference in the setup page is one of Xen's reserved ones.
    SetupGrant = "the setup page names a reserved grant reference",
    /// The event-channel port in the setup page is missing, or there is one where there must be none.
    SetupPort = "the setup page names an impossible event-channel port",
    /// Unknown type or reserved bits in a record header.
    RecordHeader = "a record has an unknown type or reserved bits",
    /// A record reaches beyond the end of the ring.
    RecordLength = "a record is longer than the ring has room for",
    /// A filler record that does not end where the ring ends, or starts where it starts.
    RecordFiller = "a filler record is in the wrong place",
    /// A fragment out of order, empty, or more or fewer bytes than the message declared.
    Fragment = "the fragments of a message do not fit together",
    /// A message comes in more pieces than any geometry needs.
    FragmentCount = "a message comes in too many fragments",
    /// A descriptor names pool pages that this side has not given back, or that there are not.
    PoolPage = "a descriptor names a pool page that is not the next one",
    /// The count of pool pages that were given back went back, or is more than were taken.
    PoolReturn = "the reader gives back pool pages that it does not have",
    /// A message longer than this side said it takes.
    MessageTooLarge = "a message is longer than the declared maximum",
    /// The index of consumed bytes went back.
    ConsumedBack = "the reader's index went backwards",
    /// The index of consumed bytes passed what had been written, or is not a multiple of eight.
    ConsumedAhead = "the reader's index is ahead of what was written",
    /// An armed event index went back or is out of reach.
    ArmedIndex = "an event index is out of range",
    /// A state word that has no meaning.
    StateUnknown = "a state word has an unknown value",
    /// A state that may not follow the one before.
    StateBack = "a state word went backwards",
    /// The reader's page echoes another channel's number.
    Nonce = "the reader's page belongs to another channel",
    /// The grant reference of the answering ring is impossible.
    ReplyGrant = "the answer names an impossible grant reference",
    /// vchan: what xenstore says about the server is no grant reference or no port.
    VchanName = "the vchan's nodes in xenstore do not hold numbers",
    /// vchan: a size of the rings is impossible, or the two do not fit together.
    VchanOrder = "the vchan's page declares impossible rings",
    /// vchan: a grant reference of the rings is one of Xen's reserved ones.
    VchanGrant = "the vchan's page names a reserved grant reference",
    /// vchan: an index went back, or is further ahead than the ring is large.
    VchanIndex = "an index of the vchan is out of range",
    /// vchan: bits in a notification byte that have no meaning.
    VchanNotify = "a notification byte of the vchan has unknown bits",
    /// vchan: a state that has no meaning, or may not follow the one before.
    VchanLive = "a state byte of the vchan has an impossible value",
}

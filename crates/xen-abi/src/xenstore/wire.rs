//! Message headers, and cutting a stream of bytes into messages.

use super::{MsgType, ProtocolError, RequestError, XENSTORE_PAYLOAD_MAX};

/// Bytes of a header (`struct xsd_sockmsg`).
pub const HEADER_LEN: usize = 16;

/// Header of a message (`struct xsd_sockmsg`): four little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: MsgType,
    /// Number chosen by the client and repeated in the reply. Events have 0, so a client should not use it.
    pub req_id: u32,
    /// Transaction; 0 for none.
    pub tx_id: u32,
    /// Bytes of the body, at most [`XENSTORE_PAYLOAD_MAX`].
    pub len: u32,
}

impl Header {
    /// The bytes of the header of a request.
    ///
    /// # Errors
    /// [`RequestError::TooLong`] when `len` is above the limit, [`RequestError::NotARequest`] when a client
    /// may not send this type. Xenstored would drop the connection.
    pub fn encode(&self) -> Result<[u8; HEADER_LEN], RequestError> {
        if self.len as usize > XENSTORE_PAYLOAD_MAX {
            return Err(RequestError::TooLong { len: self.len as usize });
        }
        if !self.kind.is_request() {
            return Err(RequestError::NotARequest);
        }
        let [a, b, c, d] = [self.kind.number(), self.req_id, self.tx_id, self.len].map(u32::to_le_bytes);
        Ok([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]])
    }

    /// Reads a header that xenstored sent.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownType`] or [`ProtocolError::TooLong`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, ProtocolError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (number, len) = (word(0), word(12));
        let kind = MsgType::from_number(number).ok_or(ProtocolError::UnknownType(number))?;
        if len as usize > XENSTORE_PAYLOAD_MAX {
            return Err(ProtocolError::TooLong(len));
        }
        Ok(Header { kind, req_id: word(4), tx_id: word(8), len })
    }
}

/// What [`Decoder::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A message begins.
    Header(Header),
    /// Bytes of its body, at least one; there may be several such items.
    Body(&'a [u8]),
    /// The message is complete.
    End,
}

/// Cuts a stream of bytes into messages, however the bytes arrive.
///
/// ```
/// use xen_abi::xenstore::{Decoder, Item};
/// # fn main() -> Result<(), xen_abi::xenstore::ProtocolError> {
/// let mut decoder = Decoder::new();
/// let mut body = Vec::new();
/// for mut chunk in [&[2u8, 0, 0, 0, 7, 0, 0, 0, 0][..], &[0, 0, 0, 2, 0, 0, 0, b'h'], b"i"] {
///     while let Some(item) = decoder.next(&mut chunk)? {
///         match item {
///             Item::Header(header) => assert_eq!((header.req_id, header.len), (7, 2)),
///             Item::Body(bytes) => body.extend_from_slice(bytes),
///             Item::End => assert_eq!(body, b"hi"),
///         }
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_LEN],
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the header are here.
    Header(usize),
    /// So many bytes of the body are missing.
    Body(usize),
    /// The stream is broken.
    Failed(ProtocolError),
}

impl Default for State {
    fn default() -> Self {
        State::Header(0)
    }
}

impl Decoder {
    /// A decoder at the start of a message.
    pub const fn new() -> Decoder {
        Decoder { header: [0; HEADER_LEN], state: State::Header(0) }
    }

    /// Takes bytes from the front of `input` and says what they are; `None` when `input` is used up. Call it
    /// until it returns `None`: the end of a message is reported by a call of its own that takes nothing.
    ///
    /// # Errors
    /// When a header is impossible, now and on every later call: the boundaries of messages are lost.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, ProtocolError> {
        match self.state {
            State::Failed(error) => Err(error),
            State::Header(have) => {
                let Some(missing) = self.header.get_mut(have..) else { return Ok(None) };
                let count = missing.len().min(input.len());
                let (taken, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
                *input = rest;
                for (to, from) in missing.iter_mut().zip(taken) {
                    *to = *from;
                }
                self.state = State::Header(have + count);
                if have + count < HEADER_LEN {
                    return Ok(None);
                }
                match Header::decode(&self.header) {
                    Ok(header) => {
                        self.state = State::Body(header.len as usize);
                        Ok(Some(Item::Header(header)))
                    }
                    Err(error) => {
                        self.state = State::Failed(error);
                        Err(error)
                    }
                }
            }
            State::Body(0) => {
                self.state = State::Header(0);
                Ok(Some(Item::End))
            }
            State::Body(missing) => {
                if input.is_empty() {
                    return Ok(None);
                }
                let count = missing.min(input.len());
                let (taken, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
                *input = rest;
                self.state = State::Body(missing - count);
                Ok(Some(Item::Body(taken)))
            }
        }
    }

    /// Bytes that are missing to the end of the present part (header or body): a caller that reads from a ring
    /// or a device can take just so many. 0 when [`Decoder::next`] has something to say without input.
    pub fn wanted(&self) -> usize {
        match self.state {
            State::Header(have) => HEADER_LEN - have,
            State::Body(missing) => missing,
            State::Failed(_) => 0,
        }
    }

    /// Whether the stream is between two messages (a connection may end here).
    pub fn is_idle(&self) -> bool {
        self.state == State::Header(0)
    }
}

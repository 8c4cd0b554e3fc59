//! Messages.
#![expect(unsafe_code, reason = "exported names")]

use alloc::vec::Vec;
use core::ffi::{c_char, c_int, c_void};

use idc::platform::Native;
use idc::{Channel, Pending, Reader, Writer};

use crate::code::{Fail, OK, idc_status::*, number, status};
use crate::context::deadline;
use crate::handle::{self, Handle, Pool};
use crate::memory;

/// One end of a channel, in one direction or in both. For one thread at a time; `idc_split` makes two of one.
pub struct idc_channel {
    _private: (),
}

/// What a channel can do.
#[expect(clippy::large_enum_variant, reason = "the handle keeps it in a box")]
pub enum End {
    Writer(Writer<Native>),
    Reader(Reader<Native>),
    Both(Channel),
    Pending(Pending<Native>),
    /// For a moment only: it is becoming something else.
    Changing,
}

impl Handle for idc_channel {
    type Value = End;
    fn pool() -> &'static Pool<End> {
        static POOL: Pool<End> = Pool::new();
        &POOL
    }
}

impl End {
    pub fn writer(&mut self) -> Result<&mut Writer<Native>, Fail> {
        match self {
            End::Writer(writer) => Ok(writer),
            End::Both(channel) => Ok(channel.writer()),
            End::Reader(_) | End::Pending(_) | End::Changing => Err(IDC_E_DIRECTION.into()),
        }
    }

    pub fn reader(&mut self) -> Result<&mut Reader<Native>, Fail> {
        match self {
            End::Reader(reader) => Ok(reader),
            End::Both(channel) => Ok(channel.reader()),
            End::Writer(_) | End::Pending(_) | End::Changing => Err(IDC_E_DIRECTION.into()),
        }
    }
}

/// One message of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct idc_buffer {
    /// Its bytes; may be null if there are none.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// What `None` of the Rust functions means.
fn length(result: Option<usize>) -> Result<i64, Fail> {
    i64::try_from(result.ok_or(IDC_END)?).map_err(|_| IDC_E_OTHER.into())
}

/// Waits until the peer has answered an `idc_offer`. After a failure other than `IDC_E_BUSY`, `IDC_E_DIRECTION` and
/// `IDC_E_PEER_NOT_CONNECTED` the channel is of no more use; close it.
#[unsafe(no_mangle)]
pub extern "C" fn idc_complete(channel: *mut idc_channel, timeout_ms: c_int) -> c_int {
    status(handle::with(channel, |end| {
        let End::Pending(pending) = end else { return Err(IDC_E_DIRECTION.into()) };
        let limit = deadline(timeout_ms, |timeout| pending.deadline(timeout));
        pending.wait_answered_by(limit)?;
        if let End::Pending(pending) = core::mem::replace(end, End::Changing) {
            *end = End::Both(pending.complete_by(limit)?);
        }
        OK
    }))
}

fn write(channel: *mut idc_channel, data: *const c_void, len: usize, timeout_ms: Option<c_int>) -> c_int {
    status(handle::with(channel, |end| {
        let message = memory::slice(data.cast::<u8>(), len)?;
        let Some(timeout_ms) = timeout_ms else {
            end.writer()?.try_send(message)?;
            return OK;
        };
        let limit = {
            let writer = end.writer()?;
            deadline(timeout_ms, |timeout| writer.deadline(timeout))
        };
        match end {
            // This one gives back what was received before it sleeps.
            End::Both(channel) => channel.send_by(message, limit)?,
            other => other.writer()?.send_by(message, limit)?,
        }
        OK
    }))
}

/// The paper's *Write*: sends one message of `len` bytes (0 is a message, too); waits for room.
#[unsafe(no_mangle)]
pub extern "C" fn idc_write(channel: *mut idc_channel, data: *const c_void, len: usize) -> c_int {
    write(channel, data, len, Some(-1))
}

/// As `idc_write`, without waiting: `IDC_E_WOULD_BLOCK`, and then the same call again, with the same bytes.
#[unsafe(no_mangle)]
pub extern "C" fn idc_try_write(channel: *mut idc_channel, data: *const c_void, len: usize) -> c_int {
    write(channel, data, len, None)
}

/// As `idc_write`, waiting at most `timeout_ms` milliseconds (negative: for ever).
#[unsafe(no_mangle)]
pub extern "C" fn idc_timed_write(
    channel: *mut idc_channel,
    data: *const c_void,
    len: usize,
    timeout_ms: c_int,
) -> c_int {
    write(channel, data, len, Some(timeout_ms))
}

/// Sends several messages, waking the reader at most once; waits for room. `IDC_OK`: all were sent.
#[unsafe(no_mangle)]
pub extern "C" fn idc_write_batch(
    channel: *mut idc_channel,
    messages: *const idc_buffer,
    count: usize,
) -> c_int {
    status(handle::with(channel, |end| {
        let messages = batch(messages, count)?;
        match end {
            End::Both(channel) => channel.send_batch(&messages)?,
            other => other.writer()?.send_batch(&messages)?,
        }
        OK
    }))
}

/// As `idc_write_batch`, without waiting; returns how many messages, of the first ones, were sent.
#[unsafe(no_mangle)]
pub extern "C" fn idc_try_write_batch(
    channel: *mut idc_channel,
    messages: *const idc_buffer,
    count: usize,
) -> i64 {
    number(handle::with(channel, |end| {
        let messages = batch(messages, count)?;
        length(Some(end.writer()?.try_send_batch(&messages)?))
    }))
}

fn batch<'a>(messages: *const idc_buffer, count: usize) -> Result<Vec<&'a [u8]>, Fail> {
    let messages = memory::slice(messages, count)?;
    let mut slices = Vec::new();
    slices.try_reserve_exact(messages.len()).map_err(|_| IDC_E_OUT_OF_MEMORY)?;
    for message in messages {
        slices.push(memory::slice(message.data.cast::<u8>(), message.len)?);
    }
    Ok(slices)
}

/// Finds room in the ring for a message of at most `len` bytes, which is not more than `idc_max_inline`; waits for it at
/// most `timeout_ms` milliseconds (negative: for ever). `idc_append` writes the message there, in as many pieces as you
/// like, and `idc_commit` sends it. Another write in between gives the room up, and so does another `idc_reserve`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_reserve(channel: *mut idc_channel, len: usize, timeout_ms: c_int) -> c_int {
    status(handle::with(channel, |end| {
        let writer = end.writer()?;
        let limit = deadline(timeout_ms, |timeout| writer.deadline(timeout));
        writer.reserve_by(len, limit)?.suspend();
        OK
    }))
}

/// Appends bytes to the message for which `idc_reserve` found room. `IDC_E_MESSAGE_TOO_LARGE`: there is not enough of it;
/// nothing was appended. `IDC_E_INVALID`: there is none.
#[unsafe(no_mangle)]
pub extern "C" fn idc_append(channel: *mut idc_channel, data: *const c_void, len: usize) -> c_int {
    status(handle::with(channel, |end| {
        let bytes = memory::slice(data.cast::<u8>(), len)?;
        let mut loan = end.writer()?.resume().ok_or(IDC_E_INVALID)?;
        let result = loan.append(bytes);
        loan.suspend();
        result?;
        OK
    }))
}

/// Sends what was appended, which may be less than was reserved. `IDC_E_INVALID`: nothing is reserved.
#[unsafe(no_mangle)]
pub extern "C" fn idc_commit(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        end.writer()?.resume().ok_or(IDC_E_INVALID)?.commit()?;
        OK
    }))
}

/// From now on writing does not wake a reader that sleeps, until `idc_flush`, `idc_uncork`, or a write that has to
/// wait.
#[unsafe(no_mangle)]
pub extern "C" fn idc_cork(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        end.writer()?.cork();
        OK
    }))
}

/// Ends `idc_cork` and wakes the reader if there is something new.
#[unsafe(no_mangle)]
pub extern "C" fn idc_uncork(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        end.writer()?.uncork()?;
        OK
    }))
}

/// Wakes the reader if it sleeps and there is something new.
#[unsafe(no_mangle)]
pub extern "C" fn idc_flush(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        end.writer()?.flush()?;
        OK
    }))
}

/// Says that this side has written everything; the peer reads what is left and then gets `IDC_END`. Reading goes
/// on. A channel that is closed without this is an error on the other side.
#[unsafe(no_mangle)]
pub extern "C" fn idc_finish(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        end.writer()?.finish()?;
        OK
    }))
}

/// Waits until the peer has read everything, at most `timeout_ms` milliseconds (negative: for ever).
#[unsafe(no_mangle)]
pub extern "C" fn idc_drain(channel: *mut idc_channel, timeout_ms: c_int) -> c_int {
    status(handle::with(channel, |end| {
        let limit = {
            let writer = end.writer()?;
            deadline(timeout_ms, |timeout| writer.deadline(timeout))
        };
        match end {
            End::Both(channel) => channel.wait_drained_by(limit)?,
            other => other.writer()?.wait_drained_by(limit)?,
        }
        OK
    }))
}

/// After the reader has gone: makes a channel of `idc_create` ready for another one in the same domain, which connects
/// with the same number.
#[unsafe(no_mangle)]
pub extern "C" fn idc_renew(channel: *mut idc_channel, timeout_ms: c_int) -> c_int {
    status(handle::with(channel, |end| {
        let End::Writer(writer) = end else { return Err(IDC_E_DIRECTION.into()) };
        let limit = deadline(timeout_ms, |timeout| writer.deadline(timeout));
        writer.renew_by(limit)?;
        OK
    }))
}

fn read(channel: *mut idc_channel, buffer: *mut c_void, room: usize, timeout_ms: Option<c_int>) -> i64 {
    number(handle::with(channel, |end| {
        let buffer = memory::buffer(buffer.cast(), room)?;
        let reader = end.reader()?;
        length(match timeout_ms {
            None => reader.try_recv_into(buffer)?,
            Some(timeout_ms) => {
                let limit = deadline(timeout_ms, |timeout| reader.deadline(timeout));
                reader.recv_into_by(buffer, limit)?
            }
        })
    }))
}

/// The paper's *Read*: waits for a message, copies it, and returns its length; `IDC_END` when the peer has finished.
/// `IDC_E_BUFFER_TOO_SMALL`: the message stays; `idc_error.needed` is its length.
#[unsafe(no_mangle)]
pub extern "C" fn idc_read(channel: *mut idc_channel, buffer: *mut c_void, room: usize) -> i64 {
    read(channel, buffer, room, Some(-1))
}

/// As `idc_read`, without waiting.
#[unsafe(no_mangle)]
pub extern "C" fn idc_try_read(channel: *mut idc_channel, buffer: *mut c_void, room: usize) -> i64 {
    read(channel, buffer, room, None)
}

/// As `idc_read`, waiting at most `timeout_ms` milliseconds (negative: for ever). A limit that passes loses nothing.
#[unsafe(no_mangle)]
pub extern "C" fn idc_timed_read(
    channel: *mut idc_channel,
    buffer: *mut c_void,
    room: usize,
    timeout_ms: c_int,
) -> i64 {
    read(channel, buffer, room, Some(timeout_ms))
}

/// Waits for a message at most `timeout_ms` milliseconds (negative: for ever), and takes as many more as are there
/// already, up to `most`: returns how many, and `IDC_END` when the peer has finished. They are copied one behind the
/// other, and their lengths stored in `lens`. What has no more room stays; `IDC_E_BUFFER_TOO_SMALL` is for the first one.
#[unsafe(no_mangle)]
pub extern "C" fn idc_read_batch(
    channel: *mut idc_channel,
    buffer: *mut c_void,
    room: usize,
    lens: *mut usize,
    most: usize,
    timeout_ms: c_int,
) -> i64 {
    number(handle::with(channel, |end| {
        let mut rest = memory::buffer(buffer.cast(), room)?;
        let lens = memory::array(lens, most)?;
        let reader = end.reader()?;
        let limit = deadline(timeout_ms, |timeout| reader.deadline(timeout));
        let mut count = 0;
        for place in lens {
            let next = match count {
                0 => reader.recv_into_by(rest, limit),
                _ => reader.try_recv_into(rest),
            };
            match next {
                Ok(Some(len)) => {
                    *place = len;
                    rest = rest.get_mut(len..).unwrap_or_default();
                }
                // The next call says so again.
                Ok(None) | Err(_) if count > 0 => break,
                other => return length(other?),
            }
            count += 1;
        }
        length(Some(count))
    }))
}

/// Waits for a message at most `timeout_ms` milliseconds (negative: for ever), copies as much of it as there is room
/// for, and returns its whole length. The message stays.
#[unsafe(no_mangle)]
pub extern "C" fn idc_peek(
    channel: *mut idc_channel,
    buffer: *mut c_void,
    room: usize,
    timeout_ms: c_int,
) -> i64 {
    number(handle::with(channel, |end| {
        let buffer = memory::buffer(buffer.cast(), room)?;
        let reader = end.reader()?;
        let limit = deadline(timeout_ms, |timeout| reader.deadline(timeout));
        let message = reader.peek_by(limit)?.ok_or(IDC_END)?;
        let count = buffer.len().min(message.len());
        buffer[..count].copy_from_slice(&message[..count]);
        length(Some(message.len()))
    }))
}

/// Makes two channels of one that goes both ways, for two threads: `channel` reads from now on, and the one in
/// `writer` writes. Each is closed for itself.
#[unsafe(no_mangle)]
pub extern "C" fn idc_split(channel: *mut idc_channel, writer: *mut *mut idc_channel) -> c_int {
    status((|| {
        memory::place(writer)?;
        let half = handle::with(channel, |end| match core::mem::replace(end, End::Changing) {
            End::Both(both) => {
                let (half, reader) = both.split();
                *end = End::Reader(reader);
                Ok(half)
            }
            other => {
                *end = other;
                Err(IDC_E_DIRECTION.into())
            }
        })?;
        memory::store(writer, handle::make(End::Writer(half))).and(OK)
    })())
}

/// The domain on the other side, as Xen attests it.
#[unsafe(no_mangle)]
pub extern "C" fn idc_peer(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| match end {
        End::Reader(reader) => Ok(reader.peer().0.into()),
        End::Pending(pending) => Ok(pending.peer().0.into()),
        other => Ok(other.writer()?.peer().0.into()),
    }))
}

/// Longest message that is written in one piece; longer ones are cut, which is invisible to the reader.
#[unsafe(no_mangle)]
pub extern "C" fn idc_max_inline(channel: *mut idc_channel) -> i64 {
    number(handle::with(channel, |end| length(Some(end.writer()?.max_inline()))))
}

/// Counters of this channel, as a JSON object with the members `sent` and `received` (or one of them). Writes at
/// most `room` bytes with the final zero, and returns the length of the whole text without it.
#[unsafe(no_mangle)]
pub extern "C" fn idc_stats_json(channel: *mut idc_channel, buffer: *mut c_char, room: usize) -> i64 {
    number(handle::with(channel, |end| {
        let text = match end {
            End::Writer(writer) => alloc::format!("{{\"sent\":{}}}", writer.stats().to_json()),
            End::Reader(reader) => alloc::format!("{{\"received\":{}}}", reader.stats().to_json()),
            End::Both(channel) => {
                let (sent, received) = channel.stats();
                alloc::format!("{{\"sent\":{},\"received\":{}}}", sent.to_json(), received.to_json())
            }
            End::Pending(_) | End::Changing => return Err(IDC_E_DIRECTION.into()),
        };
        memory::copy_text(&text, buffer, room)
    }))
}

/// Closes a channel. What was written before is still read by the peer; if this side has not called `idc_finish`, the
/// peer then gets `IDC_E_PEER_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_channel_close(channel: *mut idc_channel) -> c_int {
    status(handle::close(channel).and(OK))
}

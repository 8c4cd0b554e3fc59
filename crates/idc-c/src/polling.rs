//! For programs with an event loop of their own.
//!
//! Ask for an event (`idc_arm_read`, `idc_arm_write`); if nothing is there, poll `idc_fd` for input, for 50 ms at most;
//! then `idc_take_event` if it is readable, or `idc_check_peer` if not; then read and write with the `try`
//! functions until `IDC_E_WOULD_BLOCK`.
#![expect(unsafe_code, reason = "exported names")]

use core::ffi::c_int;

use crate::channel::{End, idc_channel};
#[cfg(casemate)]
use crate::code::idc_status::IDC_E_NO_PLATFORM;
use crate::code::{OK, status};
use crate::handle;

/// A descriptor for `poll` and `epoll`; it belongs to the channel. `IDC_E_NO_PLATFORM` in a domain.
#[unsafe(no_mangle)]
pub extern "C" fn idc_fd(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        #[cfg(not(casemate))]
        {
            use std::os::fd::{AsFd, AsRawFd};
            Ok(match end {
                End::Reader(reader) => reader.as_fd().as_raw_fd(),
                other => other.writer()?.as_fd().as_raw_fd(),
            })
        }
        #[cfg(casemate)]
        {
            let _ = end;
            Err(IDC_E_NO_PLATFORM.into())
        }
    }))
}

/// Asks for an event when there is something to read. 1: there is (or the channel has ended); do not poll, but read.
#[unsafe(no_mangle)]
pub extern "C" fn idc_arm_read(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| Ok(end.reader()?.arm()?.into())))
}

/// Asks for an event when a message of `len` bytes has room. 1: it has (or the channel has ended); do not poll, but
/// write.
#[unsafe(no_mangle)]
pub extern "C" fn idc_arm_write(channel: *mut idc_channel, len: usize) -> c_int {
    status(handle::with(channel, |end| Ok(end.writer()?.arm(len)?.into())))
}

/// Takes the event that made the descriptor readable: 1 if there was one.
#[unsafe(no_mangle)]
pub extern "C" fn idc_take_event(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| match end {
        End::Reader(reader) => Ok(reader.take_event()?.into()),
        other => Ok(other.writer()?.take_event()?.into()),
    }))
}

/// Looks whether the peer is still there: nobody sends an event when a domain is destroyed.
#[unsafe(no_mangle)]
pub extern "C" fn idc_check_peer(channel: *mut idc_channel) -> c_int {
    status(handle::with(channel, |end| {
        match end {
            End::Writer(writer) => writer.check_peer()?,
            other => other.reader()?.check_peer()?,
        }
        OK
    }))
}

//! The protocol of Microsoft's TPM 2.0 simulator (the reference code's `TcpServer.c`): numbered requests on both
//! sockets, big-endian; TPM commands are one kind of them and carry their locality.

use std::io;

use vtpm::command::HEADER_LEN;
use vtpm::frame::CONTENTS_MAX;

use super::{Stream, Tpm, invalid, number, read};

/// `TPM_SIGNAL_POWER_ON` and so on.
mod request {
    pub const POWER_ON: u32 = 1;
    pub const POWER_OFF: u32 = 2;
    pub const SEND_COMMAND: u32 = 8;
    pub const CANCEL_ON: u32 = 9;
    pub const CANCEL_OFF: u32 = 10;
    pub const NV_ON: u32 = 11;
    pub const NV_OFF: u32 = 12;
    pub const HANDSHAKE: u32 = 15;
    pub const RESET: u32 = 17;
    pub const SESSION_END: u32 = 20;
    pub const STOP: u32 = 21;
}

/// Commands.
pub(super) fn commands(stream: &mut dyn Stream, tpm: &Tpm) -> io::Result<()> {
    while let Some(bytes) = read::<4>(stream)? {
        match u32::from_be_bytes(bytes) {
            request::SEND_COMMAND => {
                let [locality] = read::<1>(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = number(stream)? as usize;
                if !(HEADER_LEN..=CONTENTS_MAX).contains(&size) {
                    return Err(invalid(format!("a client sent a command of {size} bytes")));
                }
                let mut command = vec![0; size];
                stream.read_exact(&mut command)?;
                let answer = tpm.command_at(locality, &command);
                let mut bytes = Vec::with_capacity(answer.len() + 8);
                bytes.extend_from_slice(&(answer.len() as u32).to_be_bytes());
                bytes.extend_from_slice(&answer);
                bytes.extend_from_slice(&[0; 4]);
                stream.write_all(&bytes)?;
            }
            request::HANDSHAKE => {
                // The client's version; ours, and that this is a simulator without a raw interface.
                number(stream)?;
                stream.write_all(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])?;
            }
            request::SESSION_END | request::STOP => return Ok(()),
            other => return Err(invalid(format!("a client sent the request {other}, which is unknown"))),
        }
    }
    Ok(())
}

/// Requests to the platform around the TPM.
pub(super) fn platform(stream: &mut dyn Stream, tpm: &Tpm) -> io::Result<()> {
    while let Some(bytes) = read::<4>(stream)? {
        let good = match u32::from_be_bytes(bytes) {
            request::POWER_ON => tpm.power(true),
            request::POWER_OFF => tpm.power(false),
            request::RESET => tpm.reset(),
            request::CANCEL_ON => tpm.cancel(),
            request::CANCEL_OFF | request::NV_ON | request::NV_OFF => true,
            request::SESSION_END | request::STOP => return Ok(()),
            other => return Err(invalid(format!("a client sent the request {other}, which is unknown"))),
        };
        stream.write_all(&u32::from(!good).to_be_bytes())?;
    }
    Ok(())
}

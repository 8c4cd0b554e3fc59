//! swtpm's protocol (swtpm(8), swtpm_ioctls(3)): bare TPM commands on one socket, numbered requests on the other.
//! Numbers are big-endian.

use std::io;

use vtpm::command::HEADER_LEN;
use vtpm::frame::CONTENTS_MAX;

use super::{Stream, Tpm, invalid, number, read};

/// `CMD_GET_CAPABILITY` and so on.
mod request {
    pub const GET_CAPABILITY: u32 = 1;
    pub const INIT: u32 = 2;
    pub const SHUTDOWN: u32 = 3;
    pub const GET_ESTABLISHED: u32 = 4;
    pub const SET_LOCALITY: u32 = 5;
    pub const CANCEL: u32 = 9;
    pub const RESET_ESTABLISHED: u32 = 11;
    pub const STOP: u32 = 14;
    pub const GET_CONFIG: u32 = 15;
    pub const SET_BUFFER_SIZE: u32 = 17;
}

/// `PTM_CAP_*` of what is answered: init, shutdown, established, locality, cancel, reset established, stop, config,
/// buffer size.
const CAPABILITIES: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 13;
/// `TPM_FAIL`.
const FAIL: u32 = 9;
/// `TPM_BAD_ORDINAL`, swtpm's answer to what it does not know.
const BAD_ORDINAL: u32 = 10;
/// `TPM_BAD_LOCALITY`.
const BAD_LOCALITY: u32 = 61;

/// Commands: each has its size in its header.
pub(super) fn commands(stream: &mut dyn Stream, tpm: &Tpm) -> io::Result<()> {
    while let Some(header) = read::<HEADER_LEN>(stream)? {
        let [_, _, a, b, c, d, ..] = header;
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(HEADER_LEN..=CONTENTS_MAX).contains(&size) {
            // Where the next command begins is unknown.
            return Err(invalid(format!("a client sent a command of {size} bytes")));
        }
        let mut command = vec![0; size];
        command[..HEADER_LEN].copy_from_slice(&header);
        stream.read_exact(&mut command[HEADER_LEN..])?;
        stream.write_all(&tpm.command(&command))?;
    }
    Ok(())
}

/// Control requests.
pub(super) fn control(stream: &mut dyn Stream, tpm: &Tpm) -> io::Result<()> {
    let result = |good: bool| if good { 0 } else { FAIL };
    while let Some(bytes) = read::<4>(stream)? {
        let answer: Vec<u32> = match u32::from_be_bytes(bytes) {
            request::GET_CAPABILITY => vec![0, CAPABILITIES],
            request::INIT => {
                number(stream)?;
                vec![result(tpm.reset())]
            }
            // The vTPM domain is the manager's to stop.
            request::SHUTDOWN | request::STOP => vec![0],
            request::GET_ESTABLISHED => {
                stream.write_all(&[0; 8])?;
                continue;
            }
            request::SET_LOCALITY => {
                let [locality] = read::<1>(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                vec![if tpm.set_locality(locality) { 0 } else { BAD_LOCALITY }]
            }
            request::CANCEL => vec![result(tpm.cancel())],
            request::RESET_ESTABLISHED => {
                read::<1>(stream)?;
                vec![0]
            }
            request::GET_CONFIG => vec![0, 0],
            request::SET_BUFFER_SIZE => {
                // Ours has one size.
                number(stream)?;
                let size = CONTENTS_MAX as u32;
                vec![0, size, size, size]
            }
            other => {
                stream.write_all(&BAD_ORDINAL.to_be_bytes())?;
                // How long the request is, is unknown.
                return Err(invalid(format!("a client sent the control request {other}, which is unknown")));
            }
        };
        let bytes: Vec<u8> = answer.into_iter().flat_map(u32::to_be_bytes).collect();
        stream.write_all(&bytes)?;
    }
    Ok(())
}

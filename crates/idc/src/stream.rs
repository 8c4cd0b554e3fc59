//! `std::io` adapters: bytes instead of messages.
//!
//! A stream does not keep the boundaries of messages. Each `write` sends what fits into one record; a reader
//! keeps what the caller had no room for. The end of the stream is `Ok(0)`, as for a socket; a peer that went
//! away without an end mark is an error, so a truncated stream is not taken for a complete one.

use std::io;
use std::time::Duration;
use std::vec::Vec;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::platform::{Native, Platform};
use crate::reader::Reader;
use crate::wait::Deadline;
use crate::writer::Writer;

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::TimedOut | Error::PeerNotConnected { .. } | Error::NoSuchService { .. } => {
                io::ErrorKind::TimedOut
            }
            Error::WouldBlock => io::ErrorKind::WouldBlock,
            Error::PeerClosed { .. } | Error::PeerDied { .. } => io::ErrorKind::ConnectionReset,
            Error::PeerMisbehaved { .. } => io::ErrorKind::InvalidData,
            Error::PeerAbsent { .. } => io::ErrorKind::NotFound,
            Error::Finished => io::ErrorKind::BrokenPipe,
            Error::OutOfMemory(_) => io::ErrorKind::OutOfMemory,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

fn deadline(now: u64, timeout: Option<Duration>) -> Deadline {
    timeout.map_or(Deadline::NEVER, |timeout| Deadline::after(now, timeout))
}

/// Writes a stream of bytes. Made by [`Writer::stream`] or [`Channel::streams`].
#[derive(Debug)]
pub struct WriteStream<'a, P: Platform = Native> {
    writer: &'a mut Writer<P>,
    timeout: Option<Duration>,
}

impl<P: Platform> WriteStream<'_, P> {
    /// Limits how long one `write` waits.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// As for [`Writer::finish`].
    pub fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}

impl<P: Platform> io::Write for WriteStream<'_, P> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let part = buf.get(..self.writer.max_inline()).unwrap_or(buf);
        if !part.is_empty() {
            let deadline = deadline(self.writer.link.platform.now(), self.timeout);
            self.writer.send_by(part, deadline)?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream of bytes. Made by [`Reader::stream`] or [`Channel::streams`].
#[derive(Debug)]
pub struct ReadStream<'a, P: Platform = Native> {
    reader: &'a mut Reader<P>,
    timeout: Option<Duration>,
    rest: Vec<u8>,
    at: usize,
}

impl<P: Platform> ReadStream<'_, P> {
    /// Limits how long one `read` waits.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }
}

impl<P: Platform> io::Read for ReadStream<'_, P> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.at == self.rest.len() {
            let deadline = deadline(self.reader.link.platform.now(), self.timeout);
            match self.reader.recv_into_by(buf, deadline) {
                Ok(None) => return Ok(0),
                // An empty message is no end of the stream.
                Ok(Some(0)) => {}
                Ok(Some(len)) => return Ok(len),
                Err(Error::BufferTooSmall { .. }) => match self.reader.recv_by(deadline)? {
                    None => return Ok(0),
                    Some(message) => (self.rest, self.at) = (message, 0),
                },
                Err(error) => return Err(error.into()),
            }
        }
        let rest = self.rest.get(self.at..).unwrap_or(&[]);
        let len = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += len;
        Ok(len)
    }
}

impl<P: Platform> Writer<P> {
    /// This end as a stream of bytes.
    pub fn stream(&mut self) -> WriteStream<'_, P> {
        WriteStream { writer: self, timeout: None }
    }
}

impl<P: Platform> Reader<P> {
    /// This end as a stream of bytes. What the stream has taken out of the ring and not handed out is lost
    /// when it is dropped: make one stream and keep it.
    pub fn stream(&mut self) -> ReadStream<'_, P> {
        ReadStream { reader: self, timeout: None, rest: Vec::new(), at: 0 }
    }
}

impl<P: Platform> Channel<P> {
    /// Both directions as streams of bytes, for one thread; see [`Reader::stream`].
    pub fn streams(&mut self) -> (WriteStream<'_, P>, ReadStream<'_, P>) {
        let (writer, reader) = self.ends();
        (writer.stream(), reader.stream())
    }
}

//! Bytes instead of messages: `std::io`, `embedded_io` and `embedded_io_async` adapters.
//!
//! A stream does not keep the boundaries of messages. Each `write` sends what fits into one record; a reader
//! keeps what the caller had no room for. The end of the stream is `Ok(0)`, as for a socket; a peer that went
//! away without an end mark is an error, so a truncated stream is not taken for a complete one.
//!
//! The adapters for `embedded_io_async` are for the library OS with its cooperative threads: they never return
//! `Pending`, but block the thread; others run meanwhile. In a Linux program with an executor use the feature `tokio`.

use alloc::vec::Vec;
use core::time::Duration;
#[cfg(feature = "std")]
use std::io;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::platform::{Native, Platform};
use crate::reader::Reader;
use crate::wait::Deadline;
use crate::writer::Writer;

#[cfg(feature = "std")]
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

impl<P: Platform> WriteStream<'_, P> {
    /// Sends as much as one record takes: how many bytes. The `write` of all the traits.
    ///
    /// # Errors
    /// As for [`Writer::send_by`].
    pub fn write_some(&mut self, buf: &[u8]) -> Result<usize> {
        let part = buf.get(..self.writer.max_inline()).unwrap_or(buf);
        if !part.is_empty() {
            let deadline = deadline(self.writer.link.platform.now(), self.timeout);
            self.writer.send_by(part, deadline)?;
        }
        Ok(part.len())
    }
}

#[cfg(feature = "std")]
impl<P: Platform> io::Write for WriteStream<'_, P> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(self.write_some(buf)?)
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

#[cfg(feature = "std")]
impl<P: Platform> io::Read for ReadStream<'_, P> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(buf)?)
    }
}

impl<P: Platform> ReadStream<'_, P> {
    /// Receives at least one byte, if there is room for one, and at most what there is room for; 0 is the end of the
    /// stream. The `read` of all the traits.
    ///
    /// # Errors
    /// As for [`Reader::recv_by`].
    pub fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
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
                Err(error) => return Err(error),
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

#[cfg(feature = "embedded-io")]
mod embedded {
    use super::{Error, Platform, ReadStream, WriteStream};

    impl embedded_io::Error for Error {
        fn kind(&self) -> embedded_io::ErrorKind {
            use embedded_io::ErrorKind;
            match self {
                Error::TimedOut | Error::PeerNotConnected { .. } => ErrorKind::TimedOut,
                Error::PeerClosed { .. } | Error::PeerDied { .. } => ErrorKind::ConnectionReset,
                Error::PeerMisbehaved { .. } => ErrorKind::InvalidData,
                Error::Finished => ErrorKind::BrokenPipe,
                Error::OutOfMemory(_) => ErrorKind::OutOfMemory,
                _ => ErrorKind::Other,
            }
        }
    }

    impl<P: Platform> embedded_io::ErrorType for WriteStream<'_, P> {
        type Error = Error;
    }

    impl<P: Platform> embedded_io::ErrorType for ReadStream<'_, P> {
        type Error = Error;
    }

    impl<P: Platform> embedded_io::Write for WriteStream<'_, P> {
        fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
            self.write_some(buf)
        }

        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    impl<P: Platform> embedded_io::Read for ReadStream<'_, P> {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
            self.read_some(buf)
        }
    }

    #[cfg(feature = "embedded-io-async")]
    impl<P: Platform> embedded_io_async::Write for WriteStream<'_, P> {
        async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
            self.write_some(buf)
        }

        async fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[cfg(feature = "embedded-io-async")]
    impl<P: Platform> embedded_io_async::Read for ReadStream<'_, P> {
        async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
            self.read_some(buf)
        }
    }
}

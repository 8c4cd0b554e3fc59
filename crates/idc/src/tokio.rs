//! Ends of channels for programs that use tokio (feature `tokio`).
//!
//! [`AsyncReader`] and [`AsyncWriter`] wait in tokio's event loop for the descriptor of the channel. The end of a
//! peer's domain makes no descriptor readable, so a wait looks for that every 50 ms. Both need a runtime with I/O and
//! time enabled, and are made inside of one.
//!
//! All futures can be dropped without harm: a message is received whole or not at all; one that was being sent in
//! pieces is given up, and the reader drops what it has of it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ::tokio::io::unix::AsyncFd;
use ::tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use ::tokio::time::{Instant, Sleep, sleep};

use crate::DomId;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::platform::{Native, Platform};
use crate::reader::Reader;
use crate::writer::Writer;

/// How often a wait looks whether the peer lives.
const CHECK: Duration = Duration::from_millis(50);
/// Steps after which a task lets others run, however much its peer gives it to do.
const BURST: usize = 64;

fn system(error: &io::Error) -> Error {
    Error::System {
        call: "waiting in tokio's event loop",
        errno: error.raw_os_error().unwrap_or(0),
        hint: "make the channel inside a runtime with I/O and time enabled",
    }
}

/// Waits for the descriptor of an end. Each end has a duplicate, since tokio takes a descriptor once.
#[derive(Debug)]
struct Watch {
    fd: AsyncFd<OwnedFd>,
    check: Pin<Box<Sleep>>,
}

enum News {
    /// There may be an event.
    Event,
    /// It is time to look whether the peer lives.
    Check,
}

impl Watch {
    fn new(end: &impl AsFd) -> Result<Watch> {
        let fd = end.as_fd().try_clone_to_owned().map_err(|error| system(&error))?;
        #[allow(
            deprecated,
            reason = "what is unsound with a descriptor that can be closed is not with one that is owned"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|error| system(&error))?;
        Ok(Watch { fd, check: Box::pin(sleep(CHECK)) })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<News>> {
        match self.fd.poll_read_ready(cx) {
            Poll::Ready(Ok(mut guard)) => {
                // Before the event is taken: one that comes later makes it ready again.
                guard.clear_ready();
                return Poll::Ready(Ok(News::Event));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(system(&error))),
            Poll::Pending => {}
        }
        ready!(self.check.as_mut().poll(cx));
        self.check.as_mut().reset(Instant::now() + CHECK);
        Poll::Ready(Ok(News::Check))
    }
}

/// Reads messages from a peer. As [`AsyncRead`] it is a stream of bytes, which does not keep their boundaries.
#[derive(Debug)]
pub struct AsyncReader<P: Platform = Native> {
    reader: Reader<P>,
    watch: Watch,
    /// Of a message that the caller of [`AsyncRead`] had no room for.
    rest: Vec<u8>,
    at: usize,
}

impl<P: Platform> AsyncReader<P>
where
    P::Event: AsFd,
{
    /// Takes an end into the runtime that this is called in.
    ///
    /// # Errors
    /// The system's.
    pub fn new(reader: Reader<P>) -> Result<AsyncReader<P>> {
        let watch = Watch::new(&reader)?;
        Ok(AsyncReader { reader, watch, rest: Vec::new(), at: 0 })
    }

    /// The end without the runtime. Bytes that [`AsyncRead`] has taken and not handed out are lost.
    pub fn into_inner(self) -> Reader<P> {
        self.reader
    }

    /// The domain that writes.
    pub fn peer(&self) -> DomId {
        self.reader.peer()
    }

    /// Receives a message. `None` is the end of the stream.
    ///
    /// # Errors
    /// As for [`Reader::recv`].
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv), for an implementation of [`Future`].
    ///
    /// # Errors
    /// As for [`Reader::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>>> {
        for _ in 0..BURST {
            match self.reader.try_recv() {
                Err(Error::WouldBlock) => {}
                other => return Poll::Ready(other),
            }
            if self.reader.arm()? {
                continue;
            }
            match ready!(self.watch.poll(cx))? {
                News::Event => self.reader.take_event().map(|_| ())?,
                News::Check => self.reader.check_peer()?,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Platform + Unpin> AsyncRead for AsyncReader<P>
where
    P::Event: AsFd,
    Reader<P>: Unpin,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.at == this.rest.len() {
            match ready!(this.poll_recv(cx)) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some(message)) => (this.rest, this.at) = (message, 0),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let rest = this.rest.get(this.at..).unwrap_or(&[]);
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        this.at += part.len();
        Poll::Ready(Ok(()))
    }
}

/// Writes messages to a peer. As [`AsyncWrite`] it is a stream of bytes.
#[derive(Debug)]
pub struct AsyncWriter<P: Platform = Native> {
    writer: Writer<P>,
    watch: Watch,
}

/// A message that is being sent. Dropped before its end, it is given up.
struct Sending<'a, P: Platform> {
    end: &'a mut AsyncWriter<P>,
    sent: usize,
}

impl<P: Platform> Drop for Sending<'_, P> {
    fn drop(&mut self) {
        self.end.writer.give_up(self.sent);
    }
}

impl<P: Platform> AsyncWriter<P>
where
    P::Event: AsFd,
{
    /// Takes an end into the runtime that this is called in.
    ///
    /// # Errors
    /// The system's.
    pub fn new(writer: Writer<P>) -> Result<AsyncWriter<P>> {
        let watch = Watch::new(&writer)?;
        Ok(AsyncWriter { writer, watch })
    }

    /// The end without the runtime.
    pub fn into_inner(self) -> Writer<P> {
        self.writer
    }

    /// The domain that reads.
    pub fn peer(&self) -> DomId {
        self.writer.peer()
    }

    /// Sends a message; waits for room.
    ///
    /// # Errors
    /// As for [`Writer::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_with(message, &mut || Ok(())).await
    }

    async fn send_with(
        &mut self,
        message: &[u8],
        before_wait: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<()> {
        let mut sending = Sending { end: self, sent: 0 };
        let result = poll_fn(|cx| {
            let Sending { end, sent } = &mut sending;
            end.poll_send(cx, message, sent, before_wait)
        })
        .await;
        if result.is_ok() {
            sending.sent = 0;
        }
        result
    }

    /// Ends the stream; see [`Writer::finish`].
    ///
    /// # Errors
    /// As for [`Writer::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.writer.finish()
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
        sent: &mut usize,
        before_wait: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Poll<Result<()>> {
        for _ in 0..BURST {
            self.writer.check_open()?;
            if self.writer.advance(message, sent)? {
                return Poll::Ready(self.writer.flush());
            }
            before_wait()?;
            if self.writer.arm_part(message.len(), *sent)? {
                continue;
            }
            match ready!(self.watch.poll(cx))? {
                News::Event => self.writer.take_event().map(|_| ())?,
                News::Check => self.writer.check_peer()?,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Platform + Unpin> AsyncWrite for AsyncWriter<P>
where
    P::Event: AsFd,
    Writer<P>: Unpin,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let part = buf.get(..this.writer.max_inline()).unwrap_or(buf);
        if part.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // One record, so it is sent as a whole or not at all.
        ready!(this.poll_send(cx, part, &mut 0, &mut || Ok(())))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().writer.flush().map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().writer.finish().map_err(io::Error::from))
    }
}

/// Both directions of a duplex channel.
#[derive(Debug)]
pub struct AsyncChannel<P: Platform = Native> {
    writer: AsyncWriter<P>,
    reader: AsyncReader<P>,
}

impl<P: Platform> AsyncChannel<P>
where
    P::Event: AsFd,
    P::Memory: Send + Sync,
    Reader<P>: Send,
{
    /// Takes a channel into the runtime that this is called in.
    ///
    /// # Errors
    /// The system's.
    pub fn new(channel: Channel<P>) -> Result<AsyncChannel<P>> {
        let (writer, reader) = channel.split();
        Ok(AsyncChannel { writer: AsyncWriter::new(writer)?, reader: AsyncReader::new(reader)? })
    }

    /// The two directions, for two tasks.
    pub fn split(self) -> (AsyncWriter<P>, AsyncReader<P>) {
        (self.writer, self.reader)
    }

    /// The domain on the other side.
    pub fn peer(&self) -> DomId {
        self.writer.peer()
    }

    /// Sends a message; waits for room. What has been received is given back first, as [`Channel::send`] does.
    ///
    /// # Errors
    /// As for [`Writer::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        let AsyncChannel { writer, reader } = self;
        writer.send_with(message, &mut || reader.reader.give_back()).await
    }

    /// Receives a message. `None` is the end of the stream.
    ///
    /// # Errors
    /// As for [`Reader::recv`].
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        self.reader.recv().await
    }

    /// Ends the sending direction.
    ///
    /// # Errors
    /// As for [`Writer::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.writer.finish()
    }
}

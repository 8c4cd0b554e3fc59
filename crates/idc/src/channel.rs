//! A duplex channel: two rings and one event channel, for one thread.
//!
//! The two directions share a port, so only one thread can sleep on it; a program that wants to read and write
//! at once from two threads uses two one-way channels. Before a send sleeps, what has been received is given
//! back to the peer: two sides that both send never wait for space that is free in truth.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::DomId;
use crate::endpoint::{Config, Idc};
use crate::error::{Error, Result};
use crate::name::ServiceName;
use crate::platform::{Call, Dial, Native, Platform};
use crate::reader::Reader;
use crate::stats::Stats;
use crate::wait::Deadline;
use crate::writer::Writer;

/// After so long without an answer a client makes its offer again.
const REMIND: Duration = Duration::from_secs(1);

/// Sends messages to a peer and receives messages from it.
///
/// Dropping it without [`finish`](Self::finish) tells the peer that the stream is incomplete.
#[derive(Debug)]
pub struct Channel<P: Platform = Native> {
    writer: Writer<P>,
    reader: Reader<P>,
    /// Counts this channel at the listener that accepted it.
    pub(crate) ticket: Option<Arc<()>>,
}

impl<P: Platform> Channel<P> {
    pub(crate) fn new(writer: Writer<P>, reader: Reader<P>) -> Channel<P> {
        Channel { writer, reader, ticket: None }
    }

    /// Connects to the service `name` of domain `peer`; waits for it to appear and to accept.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::PeerAbsent`]; [`Error::NoSuchService`] when the deadline passes before the
    /// service is there, [`Error::PeerNotConnected`] when it passes before the service has answered;
    /// [`Error::PeerClosed`] when it has too many clients; [`Error::PeerMisbehaved`]; or the system's.
    pub fn dial(
        idc: &Idc<P>,
        peer: DomId,
        name: &str,
        config: &Config,
        deadline: Deadline,
    ) -> Result<Channel<P>> {
        let service = ServiceName::new(name)?;
        let mut pending = idc.offer(peer, config)?;
        let id = idc.platform.nonce();
        let dial = Dial { peer, service, gref: pending.grant_ref(), id };
        let mut call = idc.platform.call(dial, deadline.0)?;
        loop {
            let next = idc.deadline(REMIND).min(deadline);
            match pending.writer.wait_connected_by(next) {
                Err(Error::PeerNotConnected { .. }) if next < deadline => call.remind()?,
                result => break result?,
            }
        }
        pending.complete()
    }

    /// The domain on the other side, as Xen attests it.
    pub fn peer(&self) -> DomId {
        self.writer.peer()
    }

    /// What has been sent, and what has been received.
    pub fn stats(&self) -> (Stats, Stats) {
        (self.writer.stats(), self.reader.stats())
    }

    /// A time limit for the `_by` functions.
    pub fn deadline(&self, timeout: Duration) -> Deadline {
        self.writer.deadline(timeout)
    }

    /// Longest message that is sent in one piece; longer ones are cut.
    pub fn max_inline(&self) -> usize {
        self.writer.max_inline()
    }

    /// See [`Writer::send`].
    ///
    /// # Errors
    /// See there.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_by(message, Deadline::NEVER)
    }

    /// See [`Writer::send_by`].
    ///
    /// # Errors
    /// See there.
    pub fn send_by(&mut self, message: &[u8], deadline: Deadline) -> Result<()> {
        let Channel { writer, reader, .. } = self;
        writer.send_with(message, deadline, &mut || reader.give_back())
    }

    /// See [`Writer::try_send`].
    ///
    /// # Errors
    /// See there.
    pub fn try_send(&mut self, message: &[u8]) -> Result<()> {
        self.writer.try_send(message)
    }

    /// See [`Writer::send_batch`].
    ///
    /// # Errors
    /// See there.
    pub fn send_batch(&mut self, messages: &[&[u8]]) -> Result<()> {
        self.reader.give_back()?;
        self.writer.send_batch(messages)
    }

    /// See [`Reader::recv`].
    ///
    /// # Errors
    /// See there.
    pub fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        self.reader.recv()
    }

    /// See [`Reader::recv_by`].
    ///
    /// # Errors
    /// See there.
    pub fn recv_by(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>> {
        self.reader.recv_by(deadline)
    }

    /// See [`Reader::recv_into`].
    ///
    /// # Errors
    /// See there.
    pub fn recv_into(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        self.reader.recv_into(buf)
    }

    /// See [`Reader::recv_into_by`].
    ///
    /// # Errors
    /// See there.
    pub fn recv_into_by(&mut self, buf: &mut [u8], deadline: Deadline) -> Result<Option<usize>> {
        self.reader.recv_into_by(buf, deadline)
    }

    /// See [`Reader::try_recv`].
    ///
    /// # Errors
    /// See there.
    pub fn try_recv(&mut self) -> Result<Option<Vec<u8>>> {
        self.reader.try_recv()
    }

    /// See [`Reader::peek_len`].
    ///
    /// # Errors
    /// See there.
    pub fn peek_len(&mut self) -> Result<Option<usize>> {
        self.reader.peek_len()
    }

    /// Ends the sending direction ([`Writer::finish`]); receiving goes on.
    ///
    /// # Errors
    /// See there.
    pub fn finish(&mut self) -> Result<()> {
        self.writer.finish()
    }

    /// See [`Writer::wait_drained_by`].
    ///
    /// # Errors
    /// See there.
    pub fn wait_drained_by(&mut self, deadline: Deadline) -> Result<()> {
        self.reader.give_back()?;
        self.writer.wait_drained_by(deadline)
    }

    /// The two ends, for the stream adapters.
    #[cfg(feature = "std")]
    pub(crate) fn ends(&mut self) -> (&mut Writer<P>, &mut Reader<P>) {
        (&mut self.writer, &mut self.reader)
    }
}

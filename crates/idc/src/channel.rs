//! A duplex channel: two rings and one event channel, for one thread.
//!
//! A program that wants to read and write at once from two threads splits it ([`Channel::split`]). Before a send sleeps, what has been received is given
//! back to the peer: two sides that both send never wait for space that is free in truth.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::DomId;
use crate::endpoint::{Config, Idc, Pending};
use crate::error::{Error, Result};
use crate::name::ServiceName;
use crate::platform::{Call, Dial, Native, Platform};
use crate::reader::Reader;
use crate::ring::RingMemory;
use crate::stats::Stats;
use crate::wait::Deadline;
use crate::writer::Writer;

/// After so long without an answer a client makes its offer again; each time twice as long, up to a second. The
/// service may have put the offer off because this side had not unmapped the pages of an earlier channel yet.
const REMIND: Duration = Duration::from_millis(250);
const REMIND_MAX: Duration = Duration::from_secs(1);

/// Sends messages to a peer and receives messages from it.
///
/// Dropping it without [`finish`](Self::finish) tells the peer that the stream is incomplete.
#[derive(Debug)]
pub struct Channel<P: Platform = Native> {
    writer: Writer<P>,
    reader: Reader<P>,
}

impl<P: Platform> Channel<P> {
    pub(crate) fn new(writer: Writer<P>, reader: Reader<P>) -> Channel<P> {
        Channel { writer, reader }
    }

    /// Connects to the service `name` of domain `peer`; waits for it to appear and to accept.
    ///
    /// A service may say something and close its end before this side has noticed that it was accepted. That is no
    /// error here: what it said is received first, as on any channel.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::PeerAbsent`]; [`Error::NoSuchService`] when the deadline passes before the
    /// service is there, [`Error::PeerNotConnected`] when it passes before the service has answered;
    /// [`Error::PeerClosed`] when it has too many clients; [`Error::Quarantined`] when it passes before that domain has
    /// unmapped the pages of earlier channels; [`Error::PeerMisbehaved`]; or the system's.
    pub fn dial(
        idc: &Idc<P>,
        peer: DomId,
        name: &str,
        config: &Config,
        deadline: Deadline,
    ) -> Result<Channel<P>> {
        let service = ServiceName::new(name)?;
        Channel::call(idc, idc.offer_by(peer, config, deadline)?, service, deadline)
    }

    /// Connects anew after the service has gone: with the pages of this channel, so that nothing is allocated for
    /// the direction in which this side writes. For a channel that was made by [`dial`](Self::dial).
    ///
    /// # Errors
    /// As for [`dial`](Self::dial) and [`Writer::renew`].
    pub fn redial(self, idc: &Idc<P>, name: &str, config: &Config, deadline: Deadline) -> Result<Channel<P>> {
        let service = ServiceName::new(name)?;
        let Channel { mut writer, reader } = self;
        drop(reader);
        writer.renew_by(deadline)?;
        Channel::call(idc, Pending::from_writer(idc, writer, config), service, deadline)
    }

    fn call(
        idc: &Idc<P>,
        mut pending: Pending<P>,
        service: ServiceName,
        deadline: Deadline,
    ) -> Result<Channel<P>> {
        let id = idc.platform.nonce();
        let dial = Dial { peer: pending.writer.peer(), service, gref: pending.grant_ref(), id };
        let mut call = idc.platform.call(dial, deadline.0)?;
        let mut patience = REMIND;
        loop {
            let next = idc.deadline(patience).min(deadline);
            match pending.wait_answered_by(next) {
                Err(Error::PeerNotConnected { .. }) if next < deadline => {
                    patience = (patience * 2).min(REMIND_MAX);
                    call.remind()?;
                }
                result => break result?,
            }
        }
        pending.complete()
    }

    /// The two directions as values of their own, for two threads. Each ends with its own half: see
    /// [`Writer::close`].
    pub fn split(self) -> (Writer<P>, Reader<P>) {
        (self.writer, self.reader)
    }

    /// Two halves of one channel as a channel again. Halves of different ones do not become a good one: what sleeps
    /// in it is woken by the events of one of them only.
    pub fn join(writer: Writer<P>, reader: Reader<P>) -> Channel<P> {
        Channel { writer, reader }
    }

    /// Counts this channel at the listener that accepted it.
    pub(crate) fn count(&mut self, ticket: Arc<()>) {
        self.writer.link.ticket = Some(Arc::clone(&ticket));
        self.reader.link.ticket = Some(ticket);
    }

    /// The domain on the other side, as Xen attests it.
    pub fn peer(&self) -> DomId {
        self.writer.peer()
    }

    /// Asks the system whether the peer has gone. A wait notices that by itself; this is for a channel that was not
    /// used for some time, before something is sent that is not to be lost.
    ///
    /// # Errors
    /// The system's.
    pub fn peer_has_gone(&self) -> Result<bool> {
        self.reader.link.peer_has_gone()
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
        let Channel { writer, reader } = self;
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
        let Channel { writer, reader } = self;
        writer.send_batch_with(messages, Deadline::NEVER, &mut || reader.give_back())
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

    /// See [`Reader::try_recv_into`].
    ///
    /// # Errors
    /// See there.
    pub fn try_recv_into(&mut self, buf: &mut [u8]) -> Result<Option<usize>> {
        self.reader.try_recv_into(buf)
    }

    /// See [`Reader::peek_by`].
    ///
    /// # Errors
    /// See there.
    pub fn peek_by(&mut self, deadline: Deadline) -> Result<Option<&[u8]>> {
        self.reader.peek_by(deadline)
    }

    /// The end that writes, for what is only there.
    pub fn writer(&mut self) -> &mut Writer<P> {
        &mut self.writer
    }

    /// The end that reads, for what is only there.
    pub fn reader(&mut self) -> &mut Reader<P> {
        &mut self.reader
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

    /// The ring that this side writes, to keep it when the channel is gone.
    pub(crate) fn hold(&self) -> (Arc<RingMemory<P::Memory>>, Arc<P::Event>) {
        (Arc::clone(self.writer.ring.shared()), Arc::clone(&self.writer.link.event))
    }

    /// The two ends, for the stream adapters.
    pub(crate) fn ends(&mut self) -> (&mut Writer<P>, &mut Reader<P>) {
        (&mut self.writer, &mut self.reader)
    }
}

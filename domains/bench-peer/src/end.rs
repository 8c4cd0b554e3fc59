//! The second half's end of a connection.

use alloc::{format, string::ToString};

use idc::{
    Channel,
    platform::{Native, Platform},
    shm::Fields,
    vchan::Vchan,
};

use crate::{Failure, order::Job};

/// What an end has done so far, beyond reading and writing shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events sent to the other side; each is one hypercall.
    pub events: u64,
    /// Times that it went to sleep; each is at least one hypercall (of the kernel below, if there is one).
    pub sleeps: u64,
}

/// An end that does jobs.
pub trait End {
    /// Does a job with so many messages as long as the buffer.
    ///
    /// # Errors
    /// What went wrong.
    fn run(&mut self, job: Job, buf: &mut [u8], count: usize) -> Result<(), Failure>;

    /// Counters, if the transport has any.
    fn counts(&self) -> Option<Counts> {
        None
    }
}

/// An end of a channel of IDC.
#[derive(Debug)]
pub struct IdcEnd<P: Platform = Native> {
    /// The channel.
    pub channel: Channel<P>,
    /// Messages in a batch.
    pub batch: usize,
}

impl<P: Platform> IdcEnd<P> {
    /// Sends so many messages, in batches.
    ///
    /// # Errors
    /// The channel's.
    pub fn send_many(&mut self, message: &[u8], count: usize) -> Result<(), idc::Error> {
        if self.batch == 1 {
            return (0..count).try_for_each(|_| self.channel.send(message));
        }
        let batch = alloc::vec![message; self.batch];
        let mut left = count;
        while left > 0 {
            let part = batch.get(..left).unwrap_or(&batch);
            self.channel.send_batch(part)?;
            left -= part.len();
        }
        Ok(())
    }

    /// Receives a message as long as the buffer.
    ///
    /// # Errors
    /// The channel's, its end, or a message of another length.
    pub fn recv(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        match self.channel.recv_into(buf) {
            Ok(Some(len)) if len == buf.len() => Ok(()),
            Ok(Some(len)) => Err(format!("a message of {len} bytes in place of {}", buf.len())),
            Ok(None) => Err("the stream ended".to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl<P: Platform> End for IdcEnd<P> {
    fn run(&mut self, job: Job, buf: &mut [u8], count: usize) -> Result<(), Failure> {
        let text = |error: idc::Error| error.to_string();
        match job {
            Job::Sink => {
                (0..count).try_for_each(|_| self.recv(buf))?;
                self.channel.send(&[1; 8]).map_err(text)
            }
            Job::Source => {
                self.recv(&mut [0; 8])?;
                self.send_many(buf, count).map_err(text)
            }
            Job::Echo => (0..count).try_for_each(|_| {
                self.recv(buf)?;
                self.channel.send(buf).map_err(text)
            }),
        }
    }

    fn counts(&self) -> Option<Counts> {
        let (sent, received) = self.channel.stats();
        Some(Counts { events: sent.events_sent + received.events_sent, sleeps: sent.parks + received.parks })
    }
}

/// An end of a channel in the manner of libxenvchan. It is a stream, so many messages are read in as few pieces as
/// they come.
#[derive(Debug)]
pub struct VchanEnd<P: Platform = Native>(pub Vchan<P>)
where
    P::Memory: Fields;

impl<P: Platform> VchanEnd<P>
where
    P::Memory: Fields,
{
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Failure> {
        match self.0.read(buf) {
            Ok(0) => Err("the stream ended".to_string()),
            other => other.map_err(|error| error.to_string()),
        }
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(rest) = buf.get_mut(at..).filter(|rest| !rest.is_empty()) {
            at += self.read(rest)?;
        }
        Ok(())
    }
}

impl<P: Platform> End for VchanEnd<P>
where
    P::Memory: Fields,
{
    fn run(&mut self, job: Job, buf: &mut [u8], count: usize) -> Result<(), Failure> {
        let text = |error: idc::Error| error.to_string();
        match job {
            Job::Sink => {
                let mut chunk = alloc::vec![0; buf.len().max(64 << 10)];
                let mut left = buf.len() * count;
                while left > 0 {
                    let most = chunk.len().min(left);
                    left -= self.read(chunk.get_mut(..most).unwrap_or_default())?;
                }
                self.0.write_all(&[1; 8]).map_err(text)
            }
            Job::Source => {
                self.read_exact(&mut [0; 8])?;
                (0..count).try_for_each(|_| self.0.write_all(buf)).map_err(text)
            }
            Job::Echo => (0..count).try_for_each(|_| {
                self.read_exact(buf)?;
                self.0.write_all(buf).map_err(text)
            }),
        }
    }
}

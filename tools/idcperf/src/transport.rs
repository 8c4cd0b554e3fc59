//! The transports: each is a pair of ends, made by the first half and joined by the second one.

mod copy;
#[cfg(feature = "iceoryx2")]
mod iceoryx;
mod idc;
mod socket;
mod vchan;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench_peer::{Counts, Job};

use crate::{
    measure::Test,
    site::Site,
    spec::{Kind, Spec},
};

/// Pause before a message, long enough for both sides to be asleep.
pub const PAUSE: Duration = Duration::from_millis(2);

/// One end of a connection between the two halves.
pub trait Transport {
    /// Sends one message `count` times, without waiting for answers.
    fn send_many(&mut self, message: &[u8], count: usize) -> anyhow::Result<()> {
        (0..count).try_for_each(|_| self.send(message))
    }

    /// Sends a message.
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()>;

    /// Receives a message as long as the buffer.
    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()>;

    /// Receives `count` messages, in whatever way is the fastest.
    fn recv_many(&mut self, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        (0..count).try_for_each(|_| self.recv(buf))
    }

    /// The second half's part of a test.
    fn serve(&mut self, job: Job, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        match job {
            // Takes everything and says so by one message.
            Job::Sink => {
                self.recv_many(buf, count)?;
                self.send(&[1; 8])
            }
            Job::Source => {
                self.recv(&mut [0; 8])?;
                self.send_many(buf, count)
            }
            Job::Echo => (0..count).try_for_each(|_| {
                self.recv(buf)?;
                self.send(buf)
            }),
        }
    }

    /// The first half's part: how long it took. In a test of latencies `laps` gets the nanoseconds of each round trip.
    fn drive(
        &mut self,
        test: Test,
        message: &mut [u8],
        count: usize,
        laps: &mut Vec<u64>,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        match test {
            Test::Stream | Test::Count => {
                self.send_many(message, count)?;
                self.recv(&mut [0; 8])?;
            }
            Test::Back => {
                self.send(&[1; 8])?;
                self.recv_many(message, count)?;
            }
            Test::Roundtrip | Test::Fan => {
                for _ in 0..count {
                    self.send(message)?;
                    self.recv(message)?;
                }
            }
            Test::Parked | Test::Latency => {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    if test == Test::Parked {
                        std::thread::sleep(PAUSE);
                    }
                    let start = Instant::now();
                    self.send(message)?;
                    self.recv(message)?;
                    let lap = start.elapsed();
                    time += lap;
                    laps.push(lap.as_nanos() as u64);
                }
                return Ok(time);
            }
        }
        Ok(start.elapsed())
    }

    /// What this end has done, if it counts that.
    fn counts(&self) -> Option<Counts> {
        None
    }
}

/// An end of the first half that waits for the second one.
pub trait Waiting {
    /// What the second half has to be told.
    fn address(&self) -> String;

    /// Waits for it.
    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>>;
}

/// Makes the first end, with a name of its own. `longest` is the longest message that will be sent.
pub fn offer(spec: &Spec, site: &Site, name: &str, longest: usize) -> anyhow::Result<Box<dyn Waiting>> {
    Ok(match spec.kind {
        Kind::Idc => Box::new(idc::Offer::new(spec, site, name)?),
        Kind::Tcp => Box::new(socket::TcpOffer::new(spec, site)?),
        Kind::Unix => Box::new(socket::UnixOffer::new(&site.folder(name)?.join("unix"))?),
        Kind::Pipe => {
            site.folder(name)?;
            Box::new(socket::PipeOffer::new()?)
        }
        Kind::Vchan => Box::new(vchan::Offer::new(spec, site, name)?),
        Kind::Copy => Box::new(copy::Offer::new(&site.folder(name)?, longest)?),
        Kind::Eventfd => Box::new(copy::EventOffer::new(&site.folder(name)?)?),
        #[cfg(feature = "iceoryx2")]
        Kind::Iceoryx2 => Box::new(iceoryx::Offer::new(spec, &site.folder(name)?, longest)?),
        #[cfg(not(feature = "iceoryx2"))]
        Kind::Iceoryx2 => bail!("this idcperf was built without it; build with `--features iceoryx2`"),
    })
}

/// Joins in the second half.
pub fn join(spec: &Spec, site: &Site, address: &str) -> anyhow::Result<Box<dyn Transport>> {
    Ok(match spec.kind {
        Kind::Idc => Box::new(idc::join(spec, site, address)?),
        Kind::Tcp => Box::new(socket::join_tcp(spec, address)?),
        Kind::Unix => Box::new(socket::join_unix(address)?),
        Kind::Pipe => Box::new(socket::join_pipe(address)?),
        Kind::Vchan => Box::new(vchan::join(spec, site, address)?),
        Kind::Copy => Box::new(copy::join(address)?),
        Kind::Eventfd => Box::new(copy::join_event(address)?),
        #[cfg(feature = "iceoryx2")]
        Kind::Iceoryx2 => Box::new(iceoryx::join(spec, address)?),
        #[cfg(not(feature = "iceoryx2"))]
        Kind::Iceoryx2 => bail!("the second half was built without iceoryx2"),
    })
}

/// Two parts of an address.
fn halves(address: &str) -> anyhow::Result<(&str, &str)> {
    let parts = address.rsplit_once('|').context("an address has two parts")?;
    if parts.0.is_empty() {
        bail!("an address has two parts");
    }
    Ok(parts)
}

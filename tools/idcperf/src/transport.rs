//! The transports: each is a pair of ends, made by the first process and joined by the second one.

mod copy;
mod idc;
mod socket;

use anyhow::{Context, bail};

use crate::spec::{Kind, Spec};

/// One end of a connection between the two processes.
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

    /// System calls for events that this end has made, if it counts them.
    fn events(&self) -> Option<u64> {
        None
    }
}

/// An end of the first process that waits for the second one.
pub trait Waiting {
    /// What the second process has to be told.
    fn address(&self) -> String;

    /// Waits for it.
    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>>;
}

/// Makes the first end. `longest` is the longest message that will be sent.
pub fn offer(spec: &Spec, directory: &std::path::Path, longest: usize) -> anyhow::Result<Box<dyn Waiting>> {
    Ok(match spec.kind {
        Kind::Idc => Box::new(idc::Offer::new(spec, directory)?),
        Kind::Tcp => Box::new(socket::TcpOffer::new()?),
        Kind::Unix => Box::new(socket::UnixOffer::new(&directory.join("unix"))?),
        Kind::Pipe => Box::new(socket::PipeOffer::new(directory)?),
        Kind::Copy => Box::new(copy::Offer::new(directory, longest)?),
        Kind::Eventfd => Box::new(copy::EventOffer::new(directory)?),
    })
}

/// Joins in the second process.
pub fn join(spec: &Spec, address: &str) -> anyhow::Result<Box<dyn Transport>> {
    Ok(match spec.kind {
        Kind::Idc => Box::new(idc::join(spec, address)?),
        Kind::Tcp => Box::new(socket::join_tcp(address)?),
        Kind::Unix => Box::new(socket::join_unix(address)?),
        Kind::Pipe => Box::new(socket::join_pipe(address)?),
        Kind::Copy => Box::new(copy::join(address)?),
        Kind::Eventfd => Box::new(copy::join_event(address)?),
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

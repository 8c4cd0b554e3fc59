//! IDC: a duplex channel between two hosted domains.

use std::path::Path;

use anyhow::Context;
use idc::{Channel, DomId, GrantRef, HostedConfig, Idc, Pending};

use super::{Transport, Waiting, halves};
use crate::spec::Spec;

const FIRST: DomId = DomId(1);
const SECOND: DomId = DomId(2);

/// The client's half.
pub struct Offer {
    idc: Idc,
    pending: Pending<idc::Native>,
    directory: String,
    batch: usize,
}

impl Offer {
    /// Makes a ring.
    pub fn new(spec: &Spec, directory: &Path) -> anyhow::Result<Offer> {
        let directory = directory.join(spec.to_string().replace(['=', ':'], "-"));
        let idc = Idc::hosted(HostedConfig::new(FIRST).directory(&directory))?;
        let pending = idc.offer(SECOND, &spec.config)?;
        let directory = directory.to_str().context("the path is not Unicode")?.to_owned();
        Ok(Offer { idc, pending, directory, batch: spec.batch })
    }
}

impl Waiting for Offer {
    fn address(&self) -> String {
        format!("{}|{}", self.directory, self.pending.grant_ref().0)
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        let deadline = self.idc.deadline(std::time::Duration::from_secs(30));
        let channel = self.pending.complete_by(deadline)?;
        Ok(Box::new(End { channel, batch: self.batch, idc: self.idc }))
    }
}

/// The service's half.
pub fn join(spec: &Spec, address: &str) -> anyhow::Result<impl Transport + use<>> {
    let (directory, gref) = halves(address)?;
    let idc = Idc::hosted(HostedConfig::new(SECOND).directory(directory))?;
    let channel = idc.answer(FIRST, GrantRef(gref.parse()?), &spec.config)?;
    Ok(End { channel, batch: spec.batch, idc })
}

struct End {
    channel: Channel,
    batch: usize,
    idc: Idc,
}

impl Transport for End {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        Ok(self.channel.send(message)?)
    }

    fn send_many(&mut self, message: &[u8], count: usize) -> anyhow::Result<()> {
        if self.batch == 1 {
            for _ in 0..count {
                self.channel.send(message)?;
            }
            return Ok(());
        }
        let batch = vec![message; self.batch];
        let mut left = count;
        while left > 0 {
            let part = left.min(self.batch);
            self.channel.send_batch(&batch[..part])?;
            left -= part;
        }
        Ok(())
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        let len = self.channel.recv_into(buf)?.context("the stream ended")?;
        anyhow::ensure!(len == buf.len(), "a message of {len} bytes in place of {}", buf.len());
        Ok(())
    }

    fn recv_many(&mut self, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let len = self.channel.recv_into(buf)?;
            anyhow::ensure!(len == Some(buf.len()), "a message of another length");
        }
        Ok(())
    }

    fn events(&self) -> Option<u64> {
        let (sent, received) = self.channel.stats();
        Some(sent.events_sent + received.events_sent)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if std::env::var_os("IDCPERF_STATS").is_some() {
            let (sent, received) = self.channel.stats();
            eprintln!("{}\n{}\n{}", sent.to_json(), received.to_json(), self.idc.counters().to_json());
        }
    }
}

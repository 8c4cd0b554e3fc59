//! IDC: a duplex channel between two hosted domains, or two real ones.

use anyhow::Context;
use bench_peer::{Counts, End as _, IdcEnd};
use idc::{DomId, GrantRef, HostedConfig, Idc, Pending};

use super::{Transport, Waiting, halves};
use crate::{site::Site, spec::Spec};

const FIRST: DomId = DomId(1);
const SECOND: DomId = DomId(2);

/// The client's half.
pub struct Offer {
    idc: Idc,
    pending: Pending<idc::Native>,
    /// For hosted domains.
    folder: Option<String>,
    batch: usize,
}

impl Offer {
    /// Makes a ring.
    pub fn new(spec: &Spec, site: &Site, name: &str) -> anyhow::Result<Offer> {
        let (idc, peer, folder) = match site {
            Site::Hosted(_) => {
                let folder = site.folder(name)?.join("idc");
                let idc = Idc::hosted(HostedConfig::new(FIRST).directory(&folder))?;
                (idc, SECOND, Some(folder.to_str().context("the path is not Unicode")?.to_owned()))
            }
            Site::Xen { idc, peer, .. } => (idc.clone(), *peer, None),
        };
        let pending = idc.offer(peer, &spec.options.config)?;
        Ok(Offer { idc, pending, folder, batch: spec.options.batch })
    }
}

impl Waiting for Offer {
    fn address(&self) -> String {
        let gref = self.pending.grant_ref().0;
        self.folder.as_ref().map_or(gref.to_string(), |folder| format!("{folder}|{gref}"))
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        let deadline = self.idc.deadline(std::time::Duration::from_secs(30));
        let channel = self.pending.complete_by(deadline)?;
        Ok(Box::new(End { end: IdcEnd { channel, batch: self.batch }, idc: self.idc }))
    }
}

/// The service's half.
pub fn join(spec: &Spec, site: &Site, address: &str) -> anyhow::Result<impl Transport + use<>> {
    let (idc, peer, gref) = match site {
        Site::Hosted(_) => {
            let (folder, gref) = halves(address)?;
            (Idc::hosted(HostedConfig::new(SECOND).directory(folder))?, FIRST, gref)
        }
        Site::Xen { idc, peer, .. } => (idc.clone(), *peer, address),
    };
    let channel = idc.answer(peer, GrantRef(gref.parse()?), &spec.options.config)?;
    Ok(End { end: IdcEnd { channel, batch: spec.options.batch }, idc })
}

struct End {
    end: IdcEnd,
    idc: Idc,
}

impl Transport for End {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        Ok(self.end.channel.send(message)?)
    }

    fn send_many(&mut self, message: &[u8], count: usize) -> anyhow::Result<()> {
        Ok(self.end.send_many(message, count)?)
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        self.end.recv(buf).map_err(anyhow::Error::msg)
    }

    fn counts(&self) -> Option<Counts> {
        self.end.counts()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if std::env::var_os("IDCPERF_STATS").is_some() {
            let (sent, received) = self.end.channel.stats();
            eprintln!("{}\n{}\n{}", sent.to_json(), received.to_json(), self.idc.counters().to_json());
        }
    }
}

//! The second half: does what it is told.

use std::path::PathBuf;

use bench_peer::{Counts, End, Failure, Job, serve};
use idc::Idc;

use crate::{
    site::{Follow, Site},
    transport::{self, Transport},
};

/// A transport as the end that the second half works with.
struct Served(Box<dyn Transport>);

impl End for Served {
    fn run(&mut self, job: Job, buf: &mut [u8], count: usize) -> Result<(), Failure> {
        self.0.serve(job, buf, count).map_err(|error| format!("{error:#}"))
    }

    fn counts(&self) -> Option<Counts> {
        self.0.counts()
    }
}

fn run(site: &Site, control: &mut Follow) -> anyhow::Result<()> {
    let join = |spec: &str, address: &str| -> Result<Box<dyn End>, Failure> {
        let end = transport::join(&spec.parse()?, site, address).map_err(|error| format!("{error:#}"))?;
        Ok(Box::new(Served(end)))
    };
    serve(control, &mut { join }).map_err(anyhow::Error::msg)
}

/// As a process next to the first half.
pub fn process(folder: PathBuf) -> anyhow::Result<()> {
    run(&Site::Hosted(folder), &mut Follow::Process)
}

/// In another domain of the same Xen, for one client.
pub fn domain(vchan: Option<PathBuf>) -> anyhow::Result<()> {
    let idc = Idc::open()?;
    let (mut control, peer) = Follow::accept(&idc, || println!("ready"))?;
    run(&Site::Xen { idc, peer, address: None, vchan }, &mut control)
}

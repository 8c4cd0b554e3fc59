//! Xen's libxenvchan: a small program in C (`tests/peers/vchan-perf.c`) that is linked with it does the work and keeps
//! the time; each half has one as its child.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use bench_peer::{Counts, Job};

use super::{Transport, Waiting};
use crate::{measure::Test, site::Site, spec::Spec};

/// The server's half.
pub struct Offer {
    program: Program,
    path: String,
}

impl Offer {
    /// Starts the server, and waits until its nodes are in xenstore: those of an earlier server, which was killed, would
    /// lead the client to pages that are something else by now.
    pub fn new(spec: &Spec, site: &Site, name: &str) -> anyhow::Result<Offer> {
        let Site::Xen { idc, .. } = site else { bail!("libxenvchan needs two domains; use --peer") };
        let path = format!("/local/domain/{}/data/vchan/{name}", idc.domid()?);
        let mut program = Program::start("server", site, &path, spec.options.ring)?;
        program.wait_open()?;
        Ok(Offer { program, path })
    }
}

impl Waiting for Offer {
    fn address(&self) -> String {
        self.path.clone()
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        Ok(Box::new(self.program))
    }
}

/// Starts the client.
pub fn join(spec: &Spec, site: &Site, address: &str) -> anyhow::Result<impl Transport + use<>> {
    let mut program = Program::start("client", site, address, spec.options.ring)?;
    program.wait_open()?;
    Ok(program)
}

struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    counts: Counts,
}

impl Program {
    fn start(role: &str, site: &Site, path: &str, ring: usize) -> anyhow::Result<Program> {
        let Site::Xen { peer, vchan, .. } = site else { bail!("libxenvchan needs two domains") };
        let program: &PathBuf = vchan.as_ref().context("name the program for vchan with --vchan")?;
        let mut child = Command::new(program)
            .args([role, &peer.to_string(), path, &ring.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the child's output")?);
        Ok(Program { child, orders, answers, counts: Counts::default() })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        anyhow::ensure!(line.ends_with('\n'), "the program for vchan ended");
        Ok(line)
    }

    fn wait_open(&mut self) -> anyhow::Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line == "open\n", "the program for vchan says {line:?}");
        Ok(())
    }

    /// Notifications, nanoseconds, and those of each round trip.
    fn run(&mut self, what: &str, size: usize, count: usize) -> anyhow::Result<(u64, Vec<u64>)> {
        writeln!(self.orders.as_ref().context("the child's input")?, "{what} {size} {count}")?;
        let line = self.line()?;
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [events, nanos, laps @ ..] = numbers.as_slice() else {
            bail!("the program for vchan says {line:?}")
        };
        self.counts.events += events;
        Ok((*nanos, laps.to_vec()))
    }
}

impl Transport for Program {
    fn send(&mut self, _: &[u8]) -> anyhow::Result<()> {
        bail!("vchan has no fan test")
    }

    fn recv(&mut self, _: &mut [u8]) -> anyhow::Result<()> {
        bail!("vchan has no fan test")
    }

    fn serve(&mut self, job: Job, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        self.run(&job.to_string(), buf.len(), count).map(drop)
    }

    fn drive(
        &mut self,
        test: Test,
        message: &mut [u8],
        count: usize,
        laps: &mut Vec<u64>,
    ) -> anyhow::Result<Duration> {
        let what = match test {
            Test::Stream | Test::Count => "stream",
            Test::Back => "back",
            Test::Roundtrip => "roundtrip",
            Test::Parked => "parked",
            Test::Latency => "latency",
            Test::Fan => bail!("vchan has no fan test"),
        };
        let (nanos, mut theirs) = self.run(what, message.len(), count)?;
        laps.append(&mut theirs);
        Ok(Duration::from_nanos(nanos))
    }

    fn counts(&self) -> Option<Counts> {
        Some(self.counts)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

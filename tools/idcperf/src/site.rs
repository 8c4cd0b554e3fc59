//! Where the two halves are, and the control connection between them.

use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use bench_peer::{Failure, NAME, Order};
use idc::{Channel, Config, DomId, Idc, ListenConfig, Listener};

/// Where this half is, and how the other one is reached.
#[derive(Debug)]
pub enum Site {
    /// Two processes of one machine that meet in a folder.
    Hosted(PathBuf),
    /// Two domains of one Xen.
    Xen {
        /// This one.
        idc: Idc,
        /// The other one.
        peer: DomId,
        /// Address of this half, for TCP.
        address: Option<IpAddr>,
        /// The program for `vchan`.
        vchan: Option<PathBuf>,
    },
}

impl Site {
    /// A folder of its own for a connection of two processes.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let Site::Hosted(directory) = self else {
            bail!("this transport is for two processes of one machine")
        };
        let folder = directory.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The first half's side of the control connection.
pub enum Lead {
    /// To a child process.
    Process {
        /// It.
        child: Child,
        /// Its input.
        orders: Option<ChildStdin>,
        /// Its output.
        answers: BufReader<ChildStdout>,
    },
    /// To another domain.
    Domain(Box<Channel>),
}

impl Lead {
    /// Starts the second half as a process on this machine.
    pub fn start(folder: &Path) -> anyhow::Result<Lead> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("peer")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the child's output")?);
        Ok(Lead::Process { child, orders, answers })
    }

    /// Dials the second half in another domain.
    pub fn dial(idc: &Idc, peer: DomId) -> anyhow::Result<Lead> {
        let deadline = idc.deadline(Duration::from_secs(60));
        let channel = Channel::dial(idc, peer, NAME, &Config::default().with_pages(1), deadline);
        let advice = "start it there first: `idcperf serve` in Linux, or the domain `bench-peer`";
        let channel =
            channel.with_context(|| format!("there is no second half in domain {peer}; {advice}"))?;
        Ok(Lead::Domain(Box::new(channel)))
    }

    /// The second half's process, if it is one of this machine.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Lead::Process { child, .. } => Some(child.id()),
            Lead::Domain(_) => None,
        }
    }

    /// Gives an order.
    pub fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = order.to_string();
        match self {
            Lead::Process { orders, .. } => {
                writeln!(orders.as_ref().context("the child's input")?, "{line}")?
            }
            Lead::Domain(channel) => channel.send(line.as_bytes())?,
        }
        Ok(())
    }

    /// Waits for an answer that begins with this word; returns the rest.
    pub fn expect(&mut self, word: &str) -> anyhow::Result<String> {
        let line = match self {
            Lead::Process { answers, .. } => {
                let mut line = String::new();
                answers.read_line(&mut line)?;
                anyhow::ensure!(line.ends_with('\n'), "the second half ended");
                line
            }
            Lead::Domain(channel) => String::from_utf8(channel.recv()?.context("the second half ended")?)?,
        };
        match line.trim_end().strip_prefix(word) {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None => bail!("the second half: {}", line.trim_end()),
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        match self {
            Lead::Process { child, orders, .. } => {
                // The end of its input is the end of the second process; if it hangs, it is our own child.
                *orders = None;
                let _ = child.kill();
                let _ = child.wait();
            }
            // It may be gone already.
            Lead::Domain(channel) => drop(channel.finish()),
        }
    }
}

/// The second half's side of the control connection.
pub enum Follow {
    /// Standard input and output.
    Process,
    /// From another domain.
    Domain(Box<Channel>),
}

impl Follow {
    /// Waits for the first half in any domain.
    pub fn accept(idc: &Idc, ready: impl FnOnce()) -> anyhow::Result<(Follow, DomId)> {
        let mut listener = Listener::bind(idc, NAME, ListenConfig::default())?;
        ready();
        let channel = listener.accept()?;
        let peer = channel.peer();
        Ok((Follow::Domain(Box::new(channel)), peer))
    }
}

impl bench_peer::Control for Follow {
    fn hear(&mut self) -> Result<Option<String>, Failure> {
        match self {
            Follow::Process => {
                let mut line = String::new();
                let len = std::io::stdin().read_line(&mut line).map_err(|error| error.to_string())?;
                Ok((len > 0).then(|| line.trim_end().to_owned()))
            }
            Follow::Domain(channel) => {
                let message = channel.recv().map_err(|error| error.to_string())?;
                message.map(String::from_utf8).transpose().map_err(|error| error.to_string())
            }
        }
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Follow::Process => {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
            }
            Follow::Domain(channel) => channel.send(line.as_bytes()).map_err(|error| error.to_string()),
        }
    }
}

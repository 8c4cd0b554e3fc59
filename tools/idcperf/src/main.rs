//! `idcperf`: how fast messages go from one process or domain to another, over IDC and over its peers, in one run.
//!
//! Two halves, each on a processor of its own: two processes of one machine, or two domains of one Xen. For each size
//! and kind of test the transports take turns in short windows, so that whatever else the machine does hits all of
//! them alike; what is reported is the median of the windows, and the ratio to the first transport.
#![forbid(unsafe_code)]

mod measure;
mod peer;
mod report;
mod site;
mod spec;
mod transport;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use idc::{DomId, Idc};

use crate::{measure::Test, site::Site, spec::Spec};

/// Measures IDC and its peers between two processes, or between two domains.
///
/// A transport is a name, with options behind colons: `idc:nospin:pages=16:batch=8`.
///
/// Names: `idc`, `tcp`; between two processes `unix`, `pipe` and `iceoryx2` (if built in), and as references `copy` (a
/// bare copy through shared pages, spinning) and `eventfd` (wake-ups without data, round trips only); between two
/// domains `vchan` (Xen's libxenvchan).
///
/// Options of `idc`: `nospin`, `pages=N`, `paper=N` (one page in N slots), `pool=N` (pool pages), `batch=N` (so many
/// messages in one `send_batch`). Of `tcp`: `nagle` (no `TCP_NODELAY`). Of `vchan`: `ring=BYTES`. Of `iceoryx2`: `poll` (does not wait for events).
#[derive(Debug, Parser)]
#[command(name = "idcperf", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// What is measured; the others are compared to the first one.
    #[arg(long, value_delimiter = ',', default_value = "idc,tcp,unix,pipe")]
    transport: Vec<Spec>,
    /// Bytes in a message.
    #[arg(long, value_delimiter = ',', default_value = "16,64,256,1024,4096,16384,65536,262144,1048576")]
    size: Vec<usize>,
    /// Kinds of test.
    #[arg(long, value_delimiter = ',', default_value = "stream,roundtrip")]
    test: Vec<Test>,
    /// Messages, for the test `count`.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    count: Vec<usize>,
    /// Connections at once, for the test `fan`.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    connections: Vec<usize>,
    /// Windows for each combination.
    #[arg(long, default_value_t = 9)]
    windows: usize,
    /// Length of a window in milliseconds.
    #[arg(long, default_value_t = 40)]
    window_ms: u64,
    /// Seconds after which the test `count` begins no further turn.
    #[arg(long, default_value_t = 60)]
    longest: u64,
    /// Reports the best window in place of the median: for a machine that others use too.
    #[arg(long)]
    least: bool,
    /// Does not bind the two processes to processors 0 and 1.
    #[arg(long)]
    unpinned: bool,
    /// Prints one line of JSON for each result, as soon as it is there.
    #[arg(long)]
    json: bool,
    /// The second half is in this domain: `idcperf serve` in Linux, or the domain `bench-peer`.
    #[arg(long, value_name = "DOMID")]
    peer: Option<u16>,
    /// Address of this domain, for `tcp` between two domains.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The program for `vchan`, built from `tests/peers/vchan-perf.c`.
    #[arg(long, value_name = "PROGRAM")]
    vchan: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the second half in this domain, for one run.
    Serve {
        /// The program for `vchan`, built from `tests/peers/vchan-perf.c`.
        #[arg(long, value_name = "PROGRAM")]
        vchan: Option<PathBuf>,
    },
    /// The second half next to the first one, which starts it.
    #[command(hide = true)]
    Peer { folder: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("idcperf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Some(Command::Peer { folder }) => return peer::process(folder),
        Some(Command::Serve { vchan }) => return peer::domain(vchan),
        None => {}
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let series: Vec<String> = cli.transport.iter().map(ToString::to_string).collect();
    let plan = measure::Plan {
        specs: cli.transport,
        sizes: cli.size,
        tests: cli.test,
        counts: cli.count.into_iter().filter(|count| *count > 0).collect(),
        connections: cli.connections.into_iter().filter(|count| *count > 0).collect(),
        windows: cli.windows.max(1),
        window: Duration::from_millis(cli.window_ms.max(1)),
        longest: Duration::from_secs(cli.longest),
        pinned: !cli.unpinned,
        command: format!("idcperf {}", words.join(" ")),
    };
    let directory = tempfile::tempdir()?;
    let site = match cli.peer {
        None => Site::Hosted(directory.path().to_owned()),
        Some(peer) => {
            Site::Xen { idc: Idc::open()?, peer: DomId(peer), address: cli.address, vchan: cli.vchan }
        }
    };
    let mut records = Vec::new();
    let say = |line| {
        if !cli.json {
            eprintln!("{line}");
        }
    };
    measure::run(&plan, &site, say, |record| {
        if cli.json {
            println!("{}", record.to_line());
        }
        records.push(record);
    })?;
    if !cli.json {
        print!("{}", report::tables(&series, &records, cli.least));
    }
    Ok(())
}

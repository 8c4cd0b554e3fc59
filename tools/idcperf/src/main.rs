//! `idcperf`: how fast messages go from one process to another, over IDC and over its peers, in one run.
//!
//! Two processes, each on a processor of its own. For each size and kind of test the transports take turns in
//! short windows, so that whatever else the machine does hits all of them alike; what is reported is the median
//! of the windows, and the ratio to the first transport.

mod measure;
mod peer;
mod report;
mod spec;
mod transport;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::spec::Spec;

/// Measures IDC and its peers between two processes.
///
/// A transport is a name, with options for `idc` behind colons: `idc:nospin:pages=16:batch=8`.
///
/// Names: `idc`, `tcp`, `unix`, `pipe`; and as references `copy` (a bare copy through shared pages, spinning)
/// and `eventfd` (wake-ups without data, round trips only). Options of `idc`: `nospin`, `pages=N`, `paper=N`
/// (one page in N slots), `pool=N` (pool pages), `batch=N` (so many messages in one `send_batch`).
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
    /// Windows for each combination.
    #[arg(long, default_value_t = 9)]
    windows: usize,
    /// Length of a window in milliseconds.
    #[arg(long, default_value_t = 40)]
    window_ms: u64,
    /// Reports the best window in place of the median: for a machine that others use too.
    #[arg(long)]
    least: bool,
    /// Does not bind the two processes to processors 0 and 1.
    #[arg(long)]
    unpinned: bool,
    /// Prints one JSON document in place of tables.
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Test {
    /// Messages one way, as many as go.
    Stream,
    /// One message there and one back.
    Roundtrip,
    /// The same with a pause before each, long enough for both sides to be asleep.
    Parked,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The other process; started by the first one.
    #[command(hide = true)]
    Peer { spec: Spec, address: String },
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
    if let Some(Command::Peer { spec, address }) = cli.command {
        return peer::run(&spec, &address);
    }
    let plan = measure::Plan {
        specs: cli.transport,
        sizes: cli.size,
        tests: cli.test,
        windows: cli.windows.max(1),
        window: Duration::from_millis(cli.window_ms.max(1)),
        pinned: !cli.unpinned,
        least: cli.least,
    };
    let results = measure::run(&plan, |line| {
        if !cli.json {
            eprintln!("{line}");
        }
    })?;
    if cli.json {
        println!("{:#}", report::json(&plan, &results));
    } else {
        print!("{}", report::tables(&plan, &results));
    }
    Ok(())
}

//! Puts inter-domain communication between Linux programs under strain: many channels at once, and streams that
//! last until somebody dies. The test bed's Linux tests use it; `probe` has the checks of what is sent.
//!
//! ```text
//! crowd serve NAME N            takes N channels, then sends back what comes, a round at a time, until all end
//! crowd open DOMID NAME N       opens N channels, keeps them open at once, checks two rounds over each, ends them
//! crowd flood DOMID NAME [N]    streams N bytes (for ever, if none are named); says when a megabyte has gone
//! crowd sink NAME               takes one channel and reads it to its end; says when a megabyte has come
//! ```
//! Exit status 0 for a good end; 1 and the reason for any other. With `IDC_HOSTED=DOMID` in the environment it plays
//! that domain without Xen.
//!
//! A thousand channels need limits that are raised on both sides: `ulimit -n` (a descriptor for each port) and
//! `/sys/module/xen_gntalloc/parameters/limit` (pages); and a domU with `event_channels` in its configuration.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use idc::{Channel, Config, DomId, Error, HostedConfig, Idc, ListenConfig, Listener};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// How long to wait for the other side to appear.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes after which a stream is known to flow.
const FLOWS: usize = 1_000_000;

/// Bytes of a message in a stream.
const PIECE: usize = 4096;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Outcome {
    let idc = match std::env::var("IDC_HOSTED") {
        Ok(number) => Idc::hosted(HostedConfig::new(DomId(number.parse()?)))?,
        Err(_) => Idc::open()?,
    };
    match *args {
        ["serve", name, count] => serve(&idc, name, count.parse()?),
        ["open", domid, name, count] => open(&idc, DomId(domid.parse()?), name, count.parse()?),
        ["flood", domid, name] => flood(&idc, DomId(domid.parse()?), name, usize::MAX),
        ["flood", domid, name, bytes] => flood(&idc, DomId(domid.parse()?), name, bytes.parse()?),
        ["sink", name] => sink(&idc, name),
        _ => Err("see the head of examples/crowd.rs for the commands".into()),
    }
}

/// A small ring: what is tried here is their number.
fn small() -> Config {
    Config::default().with_pages(1).with_max_message(4096)
}

fn listen(idc: &Idc, name: &str, channel: Config, clients: usize) -> Result<Listener, Error> {
    let config = ListenConfig { channel, max_clients: clients, max_clients_per_peer: clients };
    Listener::bind(idc, name, config)
}

fn say(what: &str) {
    println!("{what}");
    // Somebody waits for this line at the other end of a pipe.
    let _ = std::io::stdout().flush();
}

fn serve(idc: &Idc, name: &str, count: usize) -> Outcome {
    let mut listener = listen(idc, name, small(), count)?;
    say("ready");
    let mut channels = (0..count).map(|_| listener.accept()).collect::<Result<Vec<_>, _>>()?;
    say(&format!("{} channels are open", listener.clients()));
    let mut rounds = 0;
    while !channels.is_empty() {
        let mut left = Vec::new();
        for mut channel in channels {
            match channel.recv()? {
                Some(message) => {
                    channel.send(&message)?;
                    left.push(channel);
                }
                None => channel.finish()?,
            }
        }
        channels = left;
        rounds += 1;
    }
    say(&format!("all ended after {rounds} rounds"));
    Ok(())
}

fn open(idc: &Idc, peer: DomId, name: &str, count: usize) -> Outcome {
    let start = Instant::now();
    let mut channels = Vec::new();
    while channels.len() < count {
        channels.push(Channel::dial(idc, peer, name, &small(), idc.deadline(PATIENCE))?);
        if channels.len().is_multiple_of(100) || channels.len() == count {
            let (open, time) = (channels.len(), start.elapsed().as_secs_f64());
            say(&format!("{open} channels are open after {time:.1} s"));
        }
    }
    for round in 0..2 {
        let message = |number: usize| format!("channel {number}, round {round}");
        // All of them are under way at once, and each brings back its own.
        for (number, channel) in channels.iter_mut().enumerate() {
            channel.send(message(number).as_bytes())?;
        }
        for (number, channel) in channels.iter_mut().enumerate() {
            if channel.recv()?.as_deref() != Some(message(number).as_bytes()) {
                return Err(format!("channel {number} brought something else in round {round}").into());
            }
        }
    }
    for channel in &mut channels {
        channel.finish()?;
    }
    for channel in &mut channels {
        if channel.recv()?.is_some() {
            return Err("something came after the end".into());
        }
    }
    say(&format!("{count} channels have ended after {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

fn flood(idc: &Idc, peer: DomId, name: &str, bytes: usize) -> Outcome {
    let mut channel = Channel::dial(idc, peer, name, &Config::default(), idc.deadline(PATIENCE))?;
    let (piece, mut sent) = ([7; PIECE], 0);
    while sent < bytes {
        channel.send(&piece)?;
        if sent < FLOWS && sent + PIECE >= FLOWS {
            say("flows");
        }
        sent += PIECE;
    }
    channel.finish()?;
    while channel.recv()?.is_some() {}
    say(&format!("{sent} bytes sent"));
    Ok(())
}

fn sink(idc: &Idc, name: &str) -> Outcome {
    let mut listener = listen(idc, name, Config::default(), 1)?;
    say("ready");
    let mut channel = listener.accept()?;
    let (mut buf, mut came) = (vec![0; PIECE], 0);
    while let Some(len) = channel.recv_into(&mut buf)? {
        if buf[..len].iter().any(|byte| *byte != 7) {
            return Err("something else came than was sent".into());
        }
        if came < FLOWS && came + len >= FLOWS {
            say("flows");
        }
        came += len;
    }
    channel.finish()?;
    say(&format!("{came} bytes came"));
    Ok(())
}

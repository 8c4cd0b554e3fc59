//! Measures how long a side that waits needs to notice that its peer has died.
//!
//! ```text
//! death DOMID NAME COMMAND...         dials, waits in a thread of its own, and runs the command, which is to kill the peer
//! death DOMID NAME --say WORD         the same, with a message that makes the peer die
//! death serve NAME                    a peer that can be killed: echoes; dies of the message `die`
//! ```
//! Prints the times in milliseconds from the beginning and from the end of the command (or from the message) to the
//! notice, and what the notice was. Status 0 if there was one, 3 if there was none within `DEATH_LIMIT` seconds (10).
//! With `IDC_HOSTED=DOMID` (or `any`) in the environment it plays that domain without Xen.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use idc::{Channel, Config, DomId, Error, HostedConfig, Idc, ListenConfig, Listener};

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// How long to wait for the peer to appear.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&args).unwrap_or_else(|error| {
        eprintln!("death: {error}");
        ExitCode::FAILURE
    })
}

fn run(args: &[&str]) -> Outcome {
    let idc = match std::env::var("IDC_HOSTED") {
        Ok(text) => Idc::hosted(match text.parse() {
            Ok(number) => HostedConfig::new(DomId(number)),
            Err(_) => HostedConfig::any(),
        })?,
        Err(_) => Idc::open()?,
    };
    match *args {
        ["serve", name] => serve(&idc, name),
        [domid, name, ref command @ ..] if !command.is_empty() => {
            watch(&idc, DomId(domid.parse()?), name, command)
        }
        _ => Err("see the head of examples/death.rs for the commands".into()),
    }
}

fn serve(idc: &Idc, name: &str) -> Outcome {
    let mut listener = Listener::bind(idc, name, ListenConfig::default())?;
    loop {
        let mut client = listener.accept()?;
        while let Ok(Some(message)) = client.recv() {
            if message == b"die" {
                std::process::abort();
            }
            client.send(&message)?;
        }
    }
}

fn watch(idc: &Idc, peer: DomId, name: &str, command: &[&str]) -> Outcome {
    let limit = std::env::var("DEATH_LIMIT").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let channel = Channel::dial(idc, peer, name, &Config::default(), idc.deadline(PATIENCE))?;
    let (mut writer, mut reader) = channel.split();
    // It is there, and so are we.
    writer.send(b"hello")?;
    reader.recv_by(idc.deadline(PATIENCE))?.ok_or("the peer has nothing to say")?;
    let deadline = idc.deadline(Duration::from_secs(limit));
    let waiting = std::thread::spawn(move || {
        let end = reader.recv_by(deadline);
        (Instant::now(), end)
    });
    let begin = Instant::now();
    match *command {
        ["--say", word] => writer.send(word.as_bytes())?,
        [program, ref rest @ ..] => {
            let status = Command::new(program).args(rest).status()?;
            if !status.success() {
                return Err(format!("{program} ended with {status}").into());
            }
        }
        [] => {}
    }
    let after = Instant::now();
    let (noticed, end) = waiting.join().map_err(|_| "the waiting thread panicked")?;
    if end == Err(Error::TimedOut) {
        println!("not noticed within {limit} s");
        return Ok(ExitCode::from(3));
    }
    let Err(error) = end else { return Err(format!("the peer did not die: {end:?}").into()) };
    let millis = |since: Instant| {
        noticed
            .checked_duration_since(since)
            .map_or_else(|| "before".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
    };
    println!("{} ms after the command began, {} after it ended: {error}", millis(begin), millis(after));
    Ok(ExitCode::SUCCESS)
}

//! Streams a file to the digest service of another domain and prints the SHA-256 that comes back, in the
//! format of `sha256sum`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use idc::{Channel, Config, DomId, Error, HostedConfig, Idc, Stats};

/// Bytes of a SHA-256.
const DIGEST_LEN: usize = 32;

/// Stream a file to the digest service of another Xen domain and print its SHA-256.
///
/// Run it in dom0 or in a Linux domU, as root. It prints the same line as sha256sum. The exit status is 0 if a
/// digest was printed, 1 if not, and 2 if the arguments are wrong.
#[derive(Debug, Parser)]
#[command(name = "digest-client", version)]
struct Args {
    /// Domain that runs the service (see `xl list`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..0x7ff0))]
    domid: u16,

    /// Name of the service
    #[arg(long, default_value = "digest")]
    service: String,

    /// How long to wait for the service to appear and to accept
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    wait: f64,

    /// Print the digest and measurements as one JSON object
    #[arg(long)]
    json: bool,

    /// Talk to a hosted process through this directory instead of Xen
    #[arg(long, value_name = "DIRECTORY")]
    hosted: Option<PathBuf>,

    /// File to stream; `-` is the standard input
    file: PathBuf,
}

/// A time that is a number, not below zero, and not for ever.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("give a number of seconds, 0 or more".to_owned()),
    }
}

/// What came out.
struct Outcome {
    digest: [u8; DIGEST_LEN],
    bytes: u64,
    /// Until the channel was there.
    connected: Duration,
    /// From then on until the answer was there.
    streaming: Duration,
    sent: Stats,
    received: Stats,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digest-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    // A file that cannot be read is no reason to bother the service.
    let mut input = open(&args.file)?;
    let idc = match &args.hosted {
        Some(directory) => Idc::hosted(HostedConfig::any().directory(directory)),
        None => Idc::open(),
    }?;
    let outcome = digest(&idc, args, &mut *input)?;
    print(args, &outcome);
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.metadata().is_ok_and(|data| data.is_dir()) {
        bail!("{} is a directory", path.display());
    }
    Ok(Box::new(file))
}

fn digest(idc: &Idc, args: &Args, input: &mut dyn Read) -> Result<Outcome> {
    let start = Instant::now();
    let peer = DomId(args.domid);
    let deadline = idc.deadline(Duration::from_secs_f64(args.wait));
    let mut channel = Channel::dial(idc, peer, &args.service, &Config::default(), deadline)?;
    let connected = start.elapsed();
    let bytes = stream(&mut channel, args, input)?;
    let mut digest = [0; DIGEST_LEN];
    match channel.recv_into(&mut digest) {
        Ok(Some(DIGEST_LEN)) => {}
        Ok(None) => bail!("domain {peer} ended the channel without an answer"),
        Ok(Some(_)) | Err(Error::BufferTooSmall { .. }) => {
            bail!("the answer of domain {peer} is no SHA-256: is `{}` the digest service?", args.service)
        }
        Err(error) => return Err(error).context("no answer"),
    }
    let streaming = start.elapsed() - connected;
    let (sent, received) = channel.stats();
    Ok(Outcome { digest, bytes, connected, streaming, sent, received })
}

fn stream(channel: &mut Channel, args: &Args, input: &mut dyn Read) -> Result<u64> {
    // What fits into one record is copied straight into the ring.
    let mut buf = vec![0; channel.max_inline()];
    let mut bytes = 0;
    loop {
        let len = match input.read(&mut buf) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", args.file.display())),
        };
        channel.send(&buf[..len]).with_context(|| format!("after {bytes} bytes"))?;
        bytes += len as u64;
    }
    channel.finish()?;
    Ok(bytes)
}

fn print(args: &Args, outcome: &Outcome) {
    let hex: String = outcome.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = args.file.display().to_string();
    if !args.json {
        println!("{hex}  {file}");
        return;
    }
    let Outcome { bytes, connected, streaming, sent, received, .. } = outcome;
    let seconds = streaming.as_secs_f64();
    let rate = if seconds > 0.0 { *bytes as f64 / seconds } else { 0.0 };
    let object = serde_json::json!({
        "digest": hex,
        "file": file,
        "bytes": bytes,
        "seconds": seconds,
        "bytes_per_second": rate,
        "connect_seconds": connected.as_secs_f64(),
        "first_answer_seconds": (*connected + *streaming).as_secs_f64(),
        "messages_sent": sent.messages,
        "events_sent": sent.events_sent + received.events_sent,
        "events_received": sent.wakes + received.wakes,
        "sleeps": sent.parks + received.parks,
    });
    println!("{object}");
}

//! Tries inter-domain communication between two Linux programs: in dom0, in a domU, or hosted.
//!
//! ```text
//! probe serve NAME                    echo service; prints what happens to each client
//! probe check DOMID NAME              runs all checks against it; exit status 0 if they pass
//! probe speed DOMID NAME              round trips
//! probe bulk DOMID NAME               throughput, to a service that does not answer (`probe serve`, digest)
//! probe die DOMID NAME                connects, sends a little and kills itself
//! probe churn DOMID NAME N            connects N times, every third time without an end mark
//! probe write DOMID N                 one-way channel: prints its grant reference, sends N messages
//! probe read DOMID GREF               the other end of it
//! probe wait DOMID NAME               connects and waits for the peer's end; prints how long the notice took
//! ```
//! With `IDC_HOSTED=DOMID` in the environment it plays that domain without Xen.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use idc::{
    Channel, Config, Deadline, DomId, Error, GrantRef, HostedConfig, Idc, ListenConfig, Listener, Spin, Stats,
};

/// First byte of a message: whether the service sends it back.
const ECHO: u8 = 1;
const SINK: u8 = 0;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open() -> Result<Idc, Error> {
    match std::env::var("IDC_HOSTED") {
        Ok(text) => Idc::hosted(match text.parse() {
            Ok(number) => HostedConfig::new(DomId(number)),
            Err(_) => HostedConfig::any(),
        }),
        Err(_) => Idc::open(),
    }
}

fn run(args: &[&str]) -> Outcome {
    let idc = open()?;
    match *args {
        ["serve", name] => serve(&idc, name),
        ["check", domid, name] => check(&idc, DomId(domid.parse()?), name),
        ["speed", domid, name] => speed(&idc, DomId(domid.parse()?), name),
        ["bulk", domid, name] => bulk(&idc, DomId(domid.parse()?), name),
        ["die", domid, name] => die(&idc, DomId(domid.parse()?), name),
        ["churn", domid, name, count] => churn(&idc, DomId(domid.parse()?), name, count.parse()?),
        ["wait", domid, name] => wait(&idc, DomId(domid.parse()?), name),
        ["write", domid, count] => write(&idc, DomId(domid.parse()?), count.parse()?),
        ["read", domid, gref] => read(&idc, DomId(domid.parse()?), GrantRef(gref.parse()?)),
        _ => Err("see the head of examples/probe.rs for the commands".into()),
    }
}

/// `IDC_SPIN=never` in the environment: sleep at once.
fn config() -> Config {
    let never = std::env::var("IDC_SPIN").is_ok_and(|text| text == "never");
    Config { spin: if never { Spin::Never } else { Spin::Adaptive }, ..Config::default() }
}

fn dial(idc: &Idc, peer: DomId, name: &str) -> Result<Channel, Error> {
    let start = Instant::now();
    let deadline = idc.deadline(Duration::from_secs(60));
    let channel = Channel::dial(idc, peer, name, &config(), deadline)?;
    println!("connected to domain {peer} in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(channel)
}

fn serve(idc: &Idc, name: &str) -> Outcome {
    let config = ListenConfig { channel: config().with_max_message(4 << 20), ..ListenConfig::default() };
    let mut listener = Listener::bind(idc, name, config)?;
    println!("domain {} serves {name}", idc.domid()?);
    loop {
        let mut client = listener.accept()?;
        std::thread::spawn(move || {
            let start = Instant::now();
            let result = echo(&mut client);
            let (sent, received) = client.stats();
            println!(
                "client {}: {result:?} after {:.3} s; sent {sent:?}; received {received:?}",
                client.peer(),
                start.elapsed().as_secs_f64()
            );
        });
    }
}

fn echo(client: &mut Channel) -> Result<(), Error> {
    let mut buf = vec![0; 4 << 20];
    while let Some(len) = client.recv_into(&mut buf)? {
        if buf[..len].first() == Some(&ECHO) {
            client.send(&buf[..len])?;
        }
    }
    client.finish()
}

/// A message of this length that depends on `seed`.
fn message(kind: u8, len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect();
    if let Some(first) = bytes.first_mut() {
        *first = kind;
    }
    bytes
}

fn check(idc: &Idc, peer: DomId, name: &str) -> Outcome {
    let mut channel = dial(idc, peer, name)?;
    let too_long = message(ECHO, (4 << 20) + 1, 1);
    let max = match channel.send(&too_long) {
        Err(Error::MessageTooLarge { max, .. }) => max as usize,
        other => return Err(format!("too long a message: {other:?}").into()),
    };
    println!("ok: more than {max} bytes are refused here");
    let lengths = (1..2000).chain([4096, 16375, 16376, 16377, 65536, max]);
    for (seed, len) in lengths.enumerate() {
        let sent = message(ECHO, len, seed as u64);
        channel.send(&sent)?;
        if channel.recv()?.as_deref() != Some(&sent[..]) {
            return Err(format!("a message of {len} bytes came back changed").into());
        }
    }
    println!("ok: echo of every length");
    let before = Instant::now();
    let deadline = channel.deadline(Duration::from_millis(200));
    match channel.recv_by(deadline) {
        Err(Error::TimedOut) => println!("ok: deadline after {:.1} ms", before.elapsed().as_secs_f64() * 1e3),
        other => return Err(format!("deadline: {other:?}").into()),
    }
    channel.finish()?;
    if channel.recv()?.is_some() {
        return Err("something after the end".into());
    }
    drop(channel);
    println!("ok: half-close and end of stream");
    for _ in 0..20 {
        let mut channel = dial(idc, peer, name)?;
        channel.send(&[ECHO, 7])?;
        channel.recv()?;
        channel.finish()?;
        channel.recv()?;
    }
    println!("ok: 20 connections one after the other");
    let mut many = (0..4).map(|_| dial(idc, peer, name)).collect::<Result<Vec<_>, _>>()?;
    for (seed, channel) in many.iter_mut().enumerate() {
        let sent = message(ECHO, 10_000, seed as u64);
        channel.send(&sent)?;
        if channel.recv()? != Some(sent) {
            return Err("connections are mixed up".into());
        }
    }
    println!("ok: 4 connections at once");
    match Channel::dial(idc, peer, "nobody", &Config::default(), idc.deadline(Duration::from_millis(700))) {
        Err(error @ Error::NoSuchService { .. }) => println!("ok: {error}"),
        other => return Err(format!("a service that is not there: {other:?}").into()),
    }
    match Channel::dial(idc, DomId(4321), name, &Config::default(), idc.deadline(Duration::from_secs(2))) {
        Err(error) => println!("ok: {error}"),
        other => return Err(format!("a domain that is not there: {other:?}").into()),
    }
    println!("all checks passed");
    Ok(())
}

fn show(what: &str, stats: Stats) {
    println!("  {what}: {stats:?}");
}

fn bulk(idc: &Idc, peer: DomId, name: &str) -> Outcome {
    for (len, count) in [(16, 20_000), (4096, 5_000), (65_536, 500)] {
        let mut channel = dial(idc, peer, name)?;
        let bulk = message(SINK, len, 3);
        let start = Instant::now();
        for _ in 0..count {
            channel.send(&bulk)?;
        }
        channel.wait_drained_by(Deadline::NEVER)?;
        let time = start.elapsed().as_secs_f64();
        println!(
            "{len} B one way: {:.0} ns, {:.1} MB/s",
            time / count as f64 * 1e9,
            (len * count) as f64 / time / 1e6
        );
        show("sent", channel.stats().0);
        channel.finish()?;
        channel.recv()?;
    }
    Ok(())
}

fn speed(idc: &Idc, peer: DomId, name: &str) -> Outcome {
    let mut channel = dial(idc, peer, name)?;
    let small = message(ECHO, 16, 3);
    let mut times: Vec<u128> = Vec::new();
    for _ in 0..2_000 {
        let start = Instant::now();
        channel.send(&small)?;
        channel.recv()?;
        times.push(start.elapsed().as_nanos());
    }
    times.sort_unstable();
    println!("16 B round trip: p50 {} ns, p99 {} ns", times[times.len() / 2], times[times.len() * 99 / 100]);
    let (sent, received) = channel.stats();
    show("sent", sent);
    show("received", received);
    channel.finish()?;
    channel.recv()?;
    Ok(())
}

fn die(idc: &Idc, peer: DomId, name: &str) -> Outcome {
    let mut channel = dial(idc, peer, name)?;
    channel.send(&[ECHO, 1])?;
    channel.recv()?;
    println!("dying");
    let me = rustix::process::getpid();
    rustix::process::kill_process(me, rustix::process::Signal::KILL)?;
    Err("still alive".into())
}

fn churn(idc: &Idc, peer: DomId, name: &str, count: u32) -> Outcome {
    let start = Instant::now();
    for number in 0..count {
        let deadline = idc.deadline(Duration::from_secs(60));
        let mut channel = Channel::dial(idc, peer, name, &config(), deadline)?;
        channel.send(&[ECHO, 9])?;
        channel.recv()?;
        if number % 3 != 0 {
            channel.finish()?;
            channel.recv()?;
        }
    }
    println!("{count} channels, {:.1} ms each", start.elapsed().as_secs_f64() * 1e3 / f64::from(count));
    Ok(())
}

fn wait(idc: &Idc, peer: DomId, name: &str) -> Outcome {
    let mut channel = dial(idc, peer, name)?;
    let mut last = Instant::now();
    loop {
        // The service answers each second until it dies.
        channel.send(&[ECHO, 1])?;
        match channel.recv() {
            Ok(Some(_)) => last = Instant::now(),
            other => {
                println!("{other:?} {:.1} ms after the last answer", last.elapsed().as_secs_f64() * 1e3);
                let (_, received) = channel.stats();
                show("received", received);
                return Ok(());
            }
        }
        let deadline = channel.deadline(Duration::from_millis(300));
        match channel.recv_by(deadline) {
            Err(Error::TimedOut) => {}
            other => {
                println!("{other:?} {:.1} ms after the last answer", last.elapsed().as_secs_f64() * 1e3);
                return Ok(());
            }
        }
    }
}

fn write(idc: &Idc, peer: DomId, count: u64) -> Outcome {
    let (mut writer, gref) = idc.create(peer, &Config::default())?;
    println!("{gref}");
    for number in 0..count {
        writer.send(&number.to_le_bytes())?;
    }
    writer.finish()?;
    writer.wait_drained_by(idc.deadline(Duration::from_secs(60)))?;
    println!("written: {:?}", writer.stats());
    Ok(())
}

fn read(idc: &Idc, peer: DomId, gref: GrantRef) -> Outcome {
    let mut reader = idc.connect(peer, gref)?;
    let mut next = 0u64;
    while let Some(message) = reader.recv()? {
        if message != next.to_le_bytes() {
            return Err(format!("message {next} is {message:?}").into());
        }
        next += 1;
    }
    println!("read {next} messages: {:?}", reader.stats());
    Ok(())
}

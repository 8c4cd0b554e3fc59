//! The first process: starts the second one for each transport, and measures in windows that take turns.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    Test,
    spec::{Kind, Spec},
    transport::{self, Transport},
};

/// What is to be measured.
#[derive(Debug)]
pub struct Plan {
    pub specs: Vec<Spec>,
    pub sizes: Vec<usize>,
    pub tests: Vec<Test>,
    pub windows: usize,
    pub window: Duration,
    pub pinned: bool,
    pub least: bool,
}

/// One transport in one test with one size.
#[derive(Clone, Debug)]
pub struct Cell {
    pub test: Test,
    pub size: usize,
    pub transport: usize,
    /// Nanoseconds for each message or round trip: one number for each window, in order of size.
    pub nanos: Vec<f64>,
    /// Events of both sides for each message, if the transport counts them.
    pub events: Option<f64>,
}

impl Cell {
    /// The median of the windows, or the least of them.
    pub fn value(&self, plan: &Plan) -> f64 {
        let index = if plan.least { 0 } else { self.nanos.len() / 2 };
        self.nanos.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Both ends of a transport.
struct Pair {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    end: Box<dyn Transport>,
}

impl Pair {
    fn start(plan: &Plan, spec: &Spec, directory: &std::path::Path) -> anyhow::Result<Pair> {
        let longest = plan.sizes.iter().copied().max().unwrap_or(0).max(8);
        let waiting = transport::offer(spec, directory, longest)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["peer", &spec.to_string(), &waiting.address()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if plan.pinned {
            pin(rustix::thread::Pid::from_raw(child.id() as i32), 1)?;
        }
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the child's output")?);
        let end = waiting.complete()?;
        let mut pair = Pair { child, commands, answers, end };
        anyhow::ensure!(pair.answer()? == "joined", "the second process did not join");
        Ok(pair)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        anyhow::ensure!(line.ends_with('\n'), "the second process ended");
        Ok(line.trim_end().to_owned())
    }

    fn command(&mut self, what: &str, size: usize, count: usize) -> anyhow::Result<()> {
        let commands = self.commands.as_mut().context("the child's input")?;
        writeln!(commands, "{what} {size} {count}")?;
        anyhow::ensure!(self.answer()? == "go", "the second process is out of step");
        Ok(())
    }

    /// Time for so many messages, and events.
    fn window(&mut self, test: Test, message: &mut [u8], count: usize) -> anyhow::Result<(Duration, u64)> {
        let events = self.end.events();
        let what = if test == Test::Stream { "sink" } else { "echo" };
        self.command(what, message.len(), count)?;
        let mut time = Duration::ZERO;
        if test == Test::Stream {
            let start = Instant::now();
            self.end.send_many(message, count)?;
            self.end.recv(&mut [0; 8])?;
            time = start.elapsed();
        } else if test == Test::Roundtrip {
            let start = Instant::now();
            for _ in 0..count {
                self.end.send(message)?;
                self.end.recv(message)?;
            }
            time = start.elapsed();
        } else {
            for _ in 0..count {
                std::thread::sleep(Duration::from_millis(2));
                let start = Instant::now();
                self.end.send(message)?;
                self.end.recv(message)?;
                time += start.elapsed();
            }
        }
        let theirs: u64 = self.answer()?.parse()?;
        Ok((time, theirs + self.end.events().unwrap_or(0) - events.unwrap_or(0)))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The end of its input is the end of the second process; if it hangs, it is our own child.
        self.commands = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(pid: Option<rustix::thread::Pid>, cpu: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(pid, &set)
        .context("binding to a processor failed: this needs two of them; or use --unpinned")
}

/// Measures everything.
pub fn run(plan: &Plan, mut say: impl FnMut(String)) -> anyhow::Result<Vec<Cell>> {
    let directory = tempfile::tempdir()?;
    if plan.pinned {
        pin(None, 0)?;
    }
    let mut pairs = Vec::new();
    for (index, spec) in plan.specs.iter().enumerate() {
        let directory = directory.path().join(index.to_string());
        std::fs::create_dir(&directory)?;
        pairs.push(Pair::start(plan, spec, &directory).with_context(|| format!("transport {spec}"))?);
    }
    let mut cells = Vec::new();
    for &test in &plan.tests {
        for &size in &plan.sizes {
            say(format!("{test:?}, {size} bytes"));
            cells.extend(turns(plan, &mut pairs, test, size)?);
        }
    }
    Ok(cells)
}

/// Round trips in a window when both sides sleep before each.
const PARKED_TRIPS: usize = 20;

/// How many messages or round trips fill a window?
fn fill(plan: &Plan, pair: &mut Pair, test: Test, message: &mut [u8]) -> anyhow::Result<usize> {
    let mut count = 1;
    loop {
        let (time, _) = pair.window(test, message, count)?;
        if time >= plan.window / 4 {
            return Ok((count as f64 * plan.window.as_secs_f64() / time.as_secs_f64()).ceil() as usize);
        }
        count *= 4;
    }
}

/// All transports in turn, for one size.
fn turns(plan: &Plan, pairs: &mut [Pair], test: Test, size: usize) -> anyhow::Result<Vec<Cell>> {
    let mut message = vec![0x5a; size];
    let mut counts = Vec::new();
    let mut cells = Vec::new();
    for (transport, pair) in pairs.iter_mut().enumerate() {
        // Events carry no data, so there is nothing to stream.
        if plan.specs[transport].kind == Kind::Eventfd && test == Test::Stream {
            counts.push(0);
            continue;
        }
        counts.push(match test {
            Test::Parked => PARKED_TRIPS,
            _ => fill(plan, pair, test, &mut message)?,
        });
        cells.push(Cell { test, size, transport, nanos: Vec::new(), events: None });
    }
    let mut events = vec![0; pairs.len()];
    for _ in 0..plan.windows {
        for cell in &mut cells {
            let count = counts[cell.transport];
            let (time, seen) = pairs[cell.transport].window(test, &mut message, count)?;
            cell.nanos.push(time.as_nanos() as f64 / count as f64);
            events[cell.transport] += seen;
        }
    }
    for cell in &mut cells {
        cell.nanos.sort_by(f64::total_cmp);
        let messages = counts[cell.transport] * plan.windows;
        let counted = pairs[cell.transport].end.events().is_some();
        cell.events = counted.then(|| events[cell.transport] as f64 / messages as f64);
    }
    Ok(cells)
}

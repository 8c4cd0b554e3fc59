//! The first half: measures in windows that take turns.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bench_peer::{Counts, Job, Order};
use clap::ValueEnum;
use idcperf::record::{Record, load};

use crate::{
    site::{Lead, Site},
    spec::{Kind, Spec},
    transport::{self, Transport},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Test {
    /// Messages one way, as many as go.
    Stream,
    /// The same the other way.
    Back,
    /// One message there and one back.
    Roundtrip,
    /// The same with a pause before each, long enough for both sides to be asleep.
    Parked,
    /// Round trips, each with its own time: how they are distributed.
    Latency,
    /// Messages one way, as many as `--count` says: whether the time grows with their number alone.
    Count,
    /// A message on each of `--connections` connections, then an answer on each.
    Fan,
}

impl Test {
    /// As in the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn job(self) -> Job {
        match self {
            Test::Stream | Test::Count => Job::Sink,
            Test::Back => Job::Source,
            Test::Roundtrip | Test::Parked | Test::Latency | Test::Fan => Job::Echo,
        }
    }
}

/// What is to be measured.
#[derive(Debug)]
pub struct Plan {
    pub specs: Vec<Spec>,
    pub sizes: Vec<usize>,
    pub tests: Vec<Test>,
    pub counts: Vec<usize>,
    pub connections: Vec<usize>,
    pub windows: usize,
    pub window: Duration,
    /// For a number of messages that takes longer than a window.
    pub longest: Duration,
    pub pinned: bool,
    pub command: String,
}

/// Round trips in a window when both sides sleep before each.
const PARKED_TRIPS: usize = 20;

/// Least bytes in a window of a stream, within reason.
const STRIDE: usize = 1 << 20;

/// Attempts at one number of messages before it is believed that they fill a window.
const ATTEMPTS: usize = 4;

/// Quantiles that are kept of the times of single round trips.
const QUANTILES: usize = 1000;

/// Longest message of a fan: all are sent before the first answer is taken, so each has to fit into every transport
/// whole, or both halves would wait for each other for ever.
const FAN_LONGEST: usize = 1024;

/// The control connection and the first ends of all connections.
struct Halves {
    lead: Lead,
    ends: Vec<Box<dyn Transport>>,
}

/// What happened in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    time: Duration,
    counts: Counts,
}

fn pin(pid: Option<rustix::thread::Pid>, cpu: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(pid, &set)
        .context("binding to a processor failed: this needs two of them; or use --unpinned")
}

impl Halves {
    /// Opens all connections: `copies` of each transport, next to each other.
    fn open(plan: &Plan, site: &Site, copies: usize) -> anyhow::Result<Halves> {
        let mut lead = match site {
            Site::Hosted(folder) => Lead::start(folder)?,
            Site::Xen { idc, peer, .. } => Lead::dial(idc, *peer)?,
        };
        if plan.pinned
            && let Some(pid) = lead.pid()
        {
            pin(None, 0)?;
            pin(rustix::thread::Pid::from_raw(pid as i32), 1)?;
        }
        let longest = plan.sizes.iter().copied().max().unwrap_or(0).max(8);
        let mut ends = Vec::new();
        for spec in &plan.specs {
            for _ in 0..copies {
                let name = format!("bench-{}", ends.len());
                let mut open = || -> anyhow::Result<_> {
                    let waiting = transport::offer(spec, site, &name, longest)?;
                    lead.order(&Order::Open { spec: spec.to_string(), address: waiting.address() })?;
                    lead.expect("joined")?;
                    waiting.complete()
                };
                ends.push(open().with_context(|| format!("transport {spec}"))?);
            }
        }
        Ok(Halves { lead, ends })
    }

    fn counts(&self, range: std::ops::Range<usize>) -> Counts {
        self.ends[range].iter().fold(Counts::default(), |sum, end| {
            let counts = end.counts().unwrap_or_default();
            Counts { events: sum.events + counts.events, sleeps: sum.sleeps + counts.sleeps }
        })
    }

    /// Sends so many messages in one test, on so many connections in turn.
    fn window(
        &mut self,
        test: Test,
        first: usize,
        connections: usize,
        message: &mut [u8],
        count: usize,
        laps: &mut Vec<u64>,
    ) -> anyhow::Result<Window> {
        let range = first..first + connections;
        let before = self.counts(range.clone());
        self.lead.order(&Order::Run { job: test.job(), first, connections, size: message.len(), count })?;
        self.lead.expect("go")?;
        let time = match &mut self.ends[range.clone()] {
            [end] => end.drive(test, message, count, laps)?,
            ends => {
                let start = Instant::now();
                for _ in 0..count {
                    ends.iter_mut().try_for_each(|end| end.send(message))?;
                    ends.iter_mut().try_for_each(|end| end.recv(message))?;
                }
                start.elapsed()
            }
        };
        let done = self.lead.expect("done")?;
        let mut theirs = done.split(' ').map(str::parse::<u64>);
        let mut next = || theirs.next().context("the second half does not count")?.context("a number");
        let (events, sleeps) = (next()?, next()?);
        let after = self.counts(range);
        let counts = Counts {
            events: events + after.events - before.events,
            sleeps: sleeps + after.sleeps - before.sleeps,
        };
        Ok(Window { time, counts })
    }
}

/// One transport in one test under one condition.
struct Cell {
    condition: Condition,
    test: Test,
    spec: usize,
    first: usize,
    count: usize,
    nanos: Vec<f64>,
    counts: Counts,
    laps: Vec<u64>,
}

/// Measures everything; `each` gets a result as soon as it is there.
pub fn run(
    plan: &Plan,
    site: &Site,
    mut say: impl FnMut(String),
    mut each: impl FnMut(Record),
) -> anyhow::Result<()> {
    let fans = plan.tests.contains(&Test::Fan);
    if fans && let Some(size) = plan.sizes.iter().find(|size| **size > FAN_LONGEST) {
        bail!("the test `fan` is for messages of at most {FAN_LONGEST} bytes, not {size}");
    }
    let copies = if fans { plan.connections.iter().copied().max().unwrap_or(1).max(1) } else { 1 };
    let mut halves = Halves::open(plan, site, copies)?;
    for tests in together(&plan.tests) {
        for conditions in conditions(plan, tests[0], copies) {
            turns(plan, &mut halves, tests, &conditions, &mut say)?.into_iter().for_each(&mut each);
        }
    }
    Ok(())
}

/// Conditions of a test, those together that take turns: all sizes, since what a window takes changes by a factor of two or
/// three when the host moves a processor, and the results of one figure are to have that in common. Numbers of messages
/// take too long for that.
fn conditions(plan: &Plan, test: Test, copies: usize) -> Vec<Vec<Condition>> {
    let sizes = || plan.sizes.iter().copied();
    let of = |size, connections, count| Condition { size, copies, connections, count };
    match test {
        Test::Count => {
            sizes().flat_map(|size| plan.counts.iter().map(move |count| vec![of(size, 1, *count)])).collect()
        }
        Test::Fan => {
            let all = |size| plan.connections.iter().map(move |connections| of(size, *connections, 0));
            vec![sizes().flat_map(all).collect()]
        }
        _ => vec![sizes().map(|size| of(size, 1, 0)).collect()],
    }
}

/// Tests that take turns: the two directions of a stream, which are compared with each other, if one follows the other.
/// All others are by themselves.
fn together(tests: &[Test]) -> impl Iterator<Item = &[Test]> {
    tests.chunk_by(|a, b| (*a, *b) == (Test::Stream, Test::Back))
}

#[derive(Clone, Copy)]
struct Condition {
    size: usize,
    /// Connections of each transport that are there.
    copies: usize,
    /// Those in use.
    connections: usize,
    /// Messages, if that is the question.
    count: usize,
}

impl Condition {
    /// For people.
    fn text(self, test: Test) -> String {
        let Condition { size, connections, count, .. } = self;
        match test {
            Test::Count => format!("{count} messages of {size} bytes"),
            Test::Fan => format!("{connections} connections, {size} bytes"),
            _ => format!("{}, {size} bytes", test.name()),
        }
    }
}

/// How many messages or round trips fill a window? Whatever else the machine does makes some attempts take longer, so
/// the shortest of a few counts.
fn fill(
    plan: &Plan,
    halves: &mut Halves,
    (test, first): (Test, usize),
    condition: Condition,
    message: &mut [u8],
) -> anyhow::Result<usize> {
    let Condition { size, connections, .. } = condition;
    // A stream has to come into its stride: the first message may have to wake the other side, which can take as long as
    // thousands of further ones.
    let mut count = match test {
        Test::Stream | Test::Back => (STRIDE / size.max(1)).clamp(16, 4096),
        _ => 4,
    };
    loop {
        let mut shortest = Duration::MAX;
        for _ in 0..ATTEMPTS {
            let window = halves.window(test, first, connections, message, count, &mut Vec::new())?;
            shortest = shortest.min(window.time);
            if shortest < plan.window / 4 {
                break;
            }
        }
        let growth = plan.window.as_secs_f64() / shortest.as_secs_f64().max(1e-9);
        if growth <= 4.0 {
            return Ok((count as f64 * growth.max(1.0)).ceil() as usize);
        }
        // A few messages take longer for each than many.
        count = (count as f64 * growth.min(16.0) / 2.0).ceil() as usize;
    }
}

/// All transports in turn, in these tests, under these conditions.
fn turns(
    plan: &Plan,
    halves: &mut Halves,
    tests: &[Test],
    conditions: &[Condition],
    say: &mut dyn FnMut(String),
) -> anyhow::Result<Vec<Record>> {
    let longest = conditions.iter().map(|condition| condition.size).max().unwrap_or(0);
    let mut message = vec![0x5a; longest];
    let mut cells = Vec::new();
    for &condition in conditions {
        say(condition.text(tests[0]));
        let message = &mut message[..condition.size];
        let specs = plan.specs.iter().enumerate();
        for ((spec, Spec { kind, .. }), &test) in
            specs.flat_map(|spec| tests.iter().map(move |test| (spec, test)))
        {
            let first = spec * condition.copies;
            // Events carry no data, so there is nothing to stream; and a program of its own has one connection.
            let streams = matches!(test, Test::Stream | Test::Back | Test::Count);
            if (*kind == Kind::Eventfd && streams) || (*kind == Kind::Vchan && test == Test::Fan) {
                continue;
            }
            let count = match test {
                Test::Parked => PARKED_TRIPS,
                Test::Count => condition.count,
                _ => fill(plan, halves, (test, first), condition, message)?,
            };
            let (nanos, counts, laps) = (vec![], Counts::default(), vec![]);
            cells.push(Cell { condition, test, spec, first, count, nanos, counts, laps });
        }
    }
    let begun = Instant::now();
    for window in 1..=plan.windows {
        say(format!("{}, window {window} of {}", tests[0].name(), plan.windows));
        for cell in &mut cells {
            let (count, first) = (cell.count, cell.first);
            let Condition { size, connections, .. } = cell.condition;
            let message = &mut message[..size];
            let window = halves.window(cell.test, first, connections, message, count, &mut cell.laps)?;
            cell.nanos.push(window.time.as_nanos() as f64 / (count * connections) as f64);
            cell.counts.events += window.counts.events;
            cell.counts.sleeps += window.counts.sleeps;
        }
        if tests == [Test::Count] && begun.elapsed() >= plan.longest {
            break;
        }
    }
    Ok(cells.into_iter().map(|cell| record(plan, halves, cell)).collect())
}

fn record(plan: &Plan, halves: &Halves, cell: Cell) -> Record {
    let Condition { size, connections, .. } = cell.condition;
    let test = cell.test;
    let spec = &plan.specs[cell.spec];
    let messages = (cell.count * connections * cell.nanos.len()) as f64;
    let counted = halves.ends[cell.first].counts().is_some();
    let each = |count: u64| counted.then(|| count as f64 / messages);
    let mut samples = if test == Test::Latency { quantiles(cell.laps) } else { cell.nanos };
    samples.sort_by(f64::total_cmp);
    Record {
        place: "hosted".to_owned(),
        size: Some(size as u64),
        messages: Some((cell.count * connections) as u64),
        connections: (test == Test::Fan).then_some(connections as u64),
        samples,
        events: each(cell.counts.events),
        sleeps: if spec.kind == Kind::Vchan { None } else { each(cell.counts.sleeps) },
        load: load(),
        command: plan.command.clone(),
        ..Record::new(&test.name(), &spec.to_string(), "ns")
    }
}

/// Evenly spaced quantiles, the least and the greatest among them.
fn quantiles(mut laps: Vec<u64>) -> Vec<f64> {
    laps.sort_unstable();
    let last = laps.len().saturating_sub(1);
    let steps = last.clamp(1, QUANTILES);
    (0..=steps).filter_map(|step| laps.get(step * last / steps)).map(|lap| *lap as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_directions_take_turns() {
        use Test::*;
        let groups = |tests: &[Test]| together(tests).map(<[Test]>::to_vec).collect::<Vec<_>>();
        assert_eq!(groups(&[Stream, Back, Roundtrip]), [vec![Stream, Back], vec![Roundtrip]]);
        assert_eq!(groups(&[Stream, Roundtrip, Back]), [vec![Stream], vec![Roundtrip], vec![Back]]);
        assert_eq!(groups(&[Back, Stream]), [vec![Back], vec![Stream]]);
    }

    #[test]
    fn sizes_take_turns_and_numbers_of_messages_do_not() {
        let plan = Plan {
            specs: vec![],
            sizes: vec![16, 64],
            tests: vec![],
            counts: vec![10, 20],
            connections: vec![1, 5],
            windows: 1,
            window: Duration::ZERO,
            longest: Duration::ZERO,
            pinned: false,
            command: String::new(),
        };
        let of = |test| {
            let each = |condition: &Condition| (condition.size, condition.connections, condition.count);
            conditions(&plan, test, 5)
                .iter()
                .map(|group| group.iter().map(each).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Test::Stream), [[(16, 1, 0), (64, 1, 0)]]);
        assert_eq!(of(Test::Fan), [[(16, 1, 0), (16, 5, 0), (64, 1, 0), (64, 5, 0)]]);
        assert_eq!(of(Test::Count), [[(16, 1, 10)], [(16, 1, 20)], [(64, 1, 10)], [(64, 1, 20)]]);
    }

    #[test]
    fn quantiles_keep_both_ends() {
        let of = |count: u64| quantiles((0..count).rev().collect());
        assert_eq!(of(3), [0.0, 1.0, 2.0]);
        assert_eq!(of(1), [0.0, 0.0]);
        let many = of(1_000_001);
        assert_eq!((many.len(), many[0], many[500], many[1000]), (1001, 0.0, 500_000.0, 1_000_000.0));
        assert!(quantiles(Vec::new()).is_empty());
    }
}

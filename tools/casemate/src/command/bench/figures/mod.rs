//! Which figures there are, and what of the results goes into each.

mod chart;
pub mod style;

use std::{collections::BTreeMap, path::Path};

use idcperf::record::Record;

use self::{
    chart::{Axis, Chart, Line, Scale},
    style::{Unit, of_series},
};

/// A figure that was drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Name of its files, without extension.
    pub name: String,
    /// What it shows.
    pub title: String,
}

/// Mini-OS on the same test bed, from a study before this project: cycles from entry to main by MiB of memory (of the
/// ranges that were seen, the middle), and bytes of its stripped hello.
pub const MINI_OS_CYCLES: [(f64, f64); 3] = [(4.0, 17e6), (32.0, 150e6), (64.0, 180e6)];
/// See [`MINI_OS_CYCLES`].
pub const MINI_OS_BYTES: [f64; 2] = [88e3, 138e3];

/// Draws whatever the results are enough for.
///
/// # Errors
/// When a file cannot be written.
pub fn draw_all(records: &[Record], dir: &Path) -> anyhow::Result<Vec<Drawn>> {
    let mut charts = Vec::new();
    for place in Place::all(records) {
        charts.extend(of_place(records, &place));
    }
    charts.extend(boot(records));
    charts.extend(images(records));
    charts.extend(vtpm(records));
    charts.iter().try_for_each(|chart| chart.write(dir))?;
    Ok(charts.into_iter().map(|chart| Drawn { name: chart.name, title: chart.title }).collect())
}

/// Where the two halves are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    place: String,
    mode: String,
}

impl Place {
    /// All that occur.
    pub fn all(records: &[Record]) -> Vec<Self> {
        let mut places = Vec::new();
        for record in records.iter().filter(|r| !r.place.is_empty()) {
            let place = Self { place: record.place.clone(), mode: record.mode.clone() };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Is this record from there?
    pub fn holds(&self, record: &Record) -> bool {
        record.place == self.place && record.mode == self.mode
    }

    /// Part of the name of a file.
    pub fn slug(&self) -> String {
        let place = self.place.strip_prefix("dom0-").unwrap_or(&self.place);
        if self.mode.is_empty() { place.to_owned() } else { format!("{place}-{}", self.mode) }
    }

    /// For people.
    pub fn words(&self) -> String {
        let mode = self.mode.to_uppercase();
        match self.place.as_str() {
            "hosted" => "two Linux processes".to_owned(),
            "dom0-linux" => format!("dom0 and a Linux domU ({mode})"),
            "dom0-libos" => format!("dom0 and a library-OS domain ({mode})"),
            "vtpm" => format!("a Linux guest and its vTPM ({mode})"),
            other => format!("{other} {mode}").trim_end().to_owned(),
        }
    }

    /// Is everything there emulated?
    pub fn is_emulated(&self) -> bool {
        self.place != "hosted"
    }
}

/// Of repeated measurements the last one.
pub fn latest(records: &[Record]) -> impl Iterator<Item = &Record> {
    records
        .iter()
        .enumerate()
        .filter(|(index, r)| !records[index + 1..].iter().any(|later| later.is_alike(r)))
        .map(|(_, r)| r)
}

/// Results of one test in one place.
fn of_test<'a>(records: &'a [Record], place: &Place, test: &str) -> Vec<&'a Record> {
    latest(records).filter(|r| r.test == test && place.holds(r)).collect()
}

/// Small print: where, how noisy, what the marks are.
fn caption(place: &Place, records: &[&Record], what: &str) -> String {
    let loads = records.iter().filter_map(|r| r.load);
    let (least, most) = loads.fold((f64::MAX, 0f64), |(a, b), l| (a.min(l), b.max(l)));
    let load =
        if least <= most { format!("; load of the machine {least:.1} to {most:.1}") } else { String::new() };
    let emulated = if place.is_emulated() { ", all emulated (QEMU TCG)" } else { "" };
    format!("{}{emulated}; {what}{load}", place.words())
}

const LEAST: &str = "least of the windows, bars up to the median";

/// One line for each series in the order of their first appearance; `point` gives x, y and how y comes from a sample.
fn lines(
    records: &[&Record],
    point: impl Fn(&Record) -> Option<f64>,
    value: impl Fn(&Record, f64) -> f64,
) -> Vec<Line> {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        if !names.contains(&record.series.as_str()) {
            names.push(&record.series);
        }
    }
    names
        .into_iter()
        .map(|name| {
            let mut own: Vec<_> =
                records.iter().filter(|r| r.series == name).filter_map(|r| Some((point(r)?, *r))).collect();
            own.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (color, label) = of_series(name);
            let points = own.iter().map(|(x, r)| (*x, value(r, r.least()))).collect();
            let spread = |(x, r): &(f64, &Record)| (*x, value(r, r.least()), value(r, r.median()));
            let spreads = own.iter().map(spread).collect();
            Line { label, color, dashed: false, marked: true, points, spreads }
        })
        .collect()
}

fn size(record: &Record) -> Option<f64> {
    record.size.map(|size| size as f64)
}

fn nanos(_: &Record, sample: f64) -> f64 {
    sample
}

/// Bytes in a second.
fn rate(record: &Record, sample: f64) -> f64 {
    record.size.unwrap_or(0) as f64 / sample * 1e9
}

fn log(label: &str, unit: Unit) -> Axis {
    Axis { label: label.to_owned(), unit, scale: Scale::Log }
}

fn plain(label: &str, unit: Unit) -> Axis {
    Axis { label: label.to_owned(), unit, scale: Scale::Plain }
}

fn of_place(records: &[Record], place: &Place) -> Vec<Chart> {
    let slug = place.slug();
    let chart = |name: &str, title: &str, caption: String, x: Axis, y: Axis, lines: Vec<Line>| {
        let name = format!("{name}-{slug}");
        Chart { name, title: title.to_owned(), caption, x, y, lines, columns: false }
    };
    let mut charts = Vec::new();

    let counted = of_test(records, place, "count");
    if counted.len() > 1 {
        let messages = |r: &Record| r.messages.map(|m| m as f64);
        let total = |r: &Record, sample: f64| sample * r.messages.unwrap_or(0) as f64;
        charts.push(chart(
            "fig3-transactions",
            "Time against the number of transactions of 4 KiB (the paper's figure 3)",
            caption(place, &counted, LEAST),
            log("transactions", Unit::Number),
            log("time", Unit::Time),
            lines(&counted, messages, total),
        ));
    }

    let (streamed, back) = (of_test(records, place, "stream"), of_test(records, place, "back"));
    if streamed.len() > 1 {
        charts.push(chart(
            "throughput",
            "Throughput against the size of a message, one way",
            caption(place, &streamed, LEAST),
            log("bytes in a message", Unit::Bytes),
            log("bytes per second", Unit::Rate),
            lines(&streamed, size, rate),
        ));
    }
    if back.len() > 1 {
        let same = |r: &&Record| back.iter().any(|b| b.series == r.series && b.size == r.size);
        let there: Vec<_> = streamed.iter().copied().filter(same).collect();
        let mut both = lines(&there, size, rate);
        for line in lines(&back, size, rate) {
            // The colour tells which it is, and the small print what a broken line means.
            let label = String::new();
            both.push(Line { label, dashed: true, marked: false, spreads: Vec::new(), ..line });
        }
        charts.push(chart(
            "fig4-direction",
            "Throughput in both directions (the paper's figure 4)",
            caption(place, &there, "solid from dom0, broken to dom0; least of the windows"),
            log("bytes in a message", Unit::Bytes),
            log("bytes per second", Unit::Rate),
            both,
        ));
    }

    let rings = of_test(records, place, "ring");
    for (name, title, sizes) in [
        ("fig5-ring-small", "Ring and size of a small write (the paper's figure 5)", 1..=1024),
        ("fig6-ring-large", "Ring and size of a large write (the paper's figure 6)", 1024..=131_072),
    ] {
        let some: Vec<_> =
            rings.iter().copied().filter(|r| r.size.is_some_and(|size| sizes.contains(&size))).collect();
        if some.len() > 1 {
            charts.push(chart(
                name,
                title,
                caption(place, &some, LEAST),
                log("bytes in a write", Unit::Bytes),
                log("time for each write", Unit::Time),
                lines(&some, size, nanos),
            ));
        }
    }

    let trips = of_test(records, place, "roundtrip");
    if trips.len() > 1 {
        charts.push(chart(
            "fig7-roundtrip",
            "Round trip against size (the paper's figure 7)",
            caption(place, &trips, LEAST),
            log("bytes each way", Unit::Bytes),
            log("time for a round trip", Unit::Time),
            lines(&trips, size, nanos),
        ));
    }

    let single = of_test(records, place, "latency");
    let distributions: Vec<_> =
        single.iter().filter(|r| r.size == Some(16)).map(|r| distribution(r)).collect();
    if !distributions.is_empty() {
        charts.push(chart(
            "latency",
            "Distribution of single round trips of 16 bytes",
            caption(place, &single, "all round trips of all windows"),
            plain("share of the round trips that are not slower", Unit::Percent),
            log("time for a round trip", Unit::Time),
            distributions,
        ));
    }

    let fans = of_test(records, place, "fan");
    if fans.len() > 1 {
        charts.push(chart(
            "channels",
            "Many channels in use at once, 64 bytes there and back on each in turn",
            caption(place, &fans, LEAST),
            log("channels", Unit::Number),
            log("time for a message there and back", Unit::Time),
            lines(&fans, |r| r.connections.map(|c| c as f64), nanos),
        ));
    }
    charts
}

/// Quantiles as a line.
fn distribution(record: &Record) -> Line {
    let (color, label) = of_series(&record.series);
    let parts = (0..=198).map(|half| f64::from(half) / 200.0).chain([0.995, 0.999, 1.0]);
    let points = parts.map(|part| (part * 100.0, record.quantile(part))).collect();
    Line { label, color, dashed: false, marked: false, points, spreads: Vec::new() }
}

fn boot(records: &[Record]) -> Option<Chart> {
    let found: Vec<Record> = latest(records)
        .filter(|r| r.test == "boot")
        .map(|r| Record { series: format!("casemate {}", r.mode), ..r.clone() })
        .collect();
    let found: Vec<&Record> = found.iter().collect();
    if found.len() < 2 {
        return None;
    }
    let place = Place { place: "domains of the library OS".to_owned(), mode: String::new() };
    let mut all = lines(&found, |r| r.memory_mib.map(|m| m as f64), nanos);
    let (color, label) = of_series("mini-os");
    let points = MINI_OS_CYCLES.to_vec();
    all.push(Line { label, color, dashed: true, marked: true, points, spreads: Vec::new() });
    Some(Chart {
        name: "boot".to_owned(),
        title: "Cycles from entry to main against the domain's memory".to_owned(),
        caption: caption(&place, &found, "Mini-OS from the design study on the same test bed"),
        x: log("memory of the domain", Unit::Mebibytes),
        y: log("cycles", Unit::Number),
        lines: all,
        columns: false,
    })
}

fn images(records: &[Record]) -> Option<Chart> {
    let sizes: BTreeMap<&str, f64> =
        latest(records).filter(|r| r.test == "size").map(|r| (r.series.as_str(), r.median())).collect();
    let order = [("hello", "hello"), ("echo", "echo over IDC"), ("digest", "digest service")];
    let ours = order.iter().filter_map(|(name, label)| Some(((*label).to_owned(), *sizes.get(name)?)));
    let mini = [("Mini-OS hello, least", MINI_OS_BYTES[0]), ("Mini-OS hello, most", MINI_OS_BYTES[1])];
    let all: Vec<_> = ours.chain(mini.map(|(label, size)| (label.to_owned(), size))).collect();
    if all.len() <= mini.len() {
        return None;
    }
    let colors = ["idc", "idc:pages=16", "vchan:ring=65536", "unix", "mini-os"];
    let lines = all
        .into_iter()
        .enumerate()
        .map(|(index, (name, bytes))| {
            let color = of_series(colors[index % colors.len()]).0;
            let points = vec![((index + 1) as f64, bytes)];
            let label = format!("{name}: {}", Unit::Bytes.text(bytes));
            Line { label, color, dashed: false, marked: false, points, spreads: Vec::new() }
        })
        .collect();
    Some(Chart {
        name: "image-size".to_owned(),
        title: "Size of stripped images".to_owned(),
        caption: "Mini-OS from the design study: the least and the most of its configurations".to_owned(),
        x: plain("", Unit::Number),
        y: plain("bytes of the file", Unit::Bytes),
        lines,
        columns: true,
    })
}

/// Latency of TPM commands, if somebody has measured it: `test` is `vtpm`, `note` the command.
fn vtpm(records: &[Record]) -> Option<Chart> {
    let found: Vec<&Record> = latest(records).filter(|r| r.test == "vtpm").collect();
    let first = found.first()?;
    let place = Place { place: first.place.clone(), mode: first.mode.clone() };
    let found: Vec<&Record> = found.into_iter().filter(|r| place.holds(r)).collect();
    let mut commands: Vec<&str> = Vec::new();
    for record in &found {
        if !commands.contains(&record.note.as_str()) {
            commands.push(&record.note);
        }
    }
    let number = |r: &Record| commands.iter().position(|c| *c == r.note).map(|i| (i + 1) as f64);
    let names: Vec<_> = commands.iter().zip(1..).map(|(name, number)| format!("{number} {name}")).collect();
    Some(Chart {
        name: "vtpm".to_owned(),
        title: "Latency of TPM commands".to_owned(),
        caption: caption(&place, &found, &names.join(", ")),
        x: plain("command", Unit::Number),
        y: log("time", Unit::Time),
        lines: lines(&found, number, nanos),
        columns: false,
    })
}

//! The report as Markdown: goals, figures, tables.

use std::fmt::Write;

use idcperf::record::Record;

use super::{
    figures::{Drawn, Place, latest, style::Unit, style::of_series},
    goals, reasons,
};

const HEAD: &str = "\
# Evaluation

Section 4 of the paper measured again, against the peers that a user would pick instead. This page and its figures are
made by `casemate bench report` from results that `casemate bench` has measured; how to do that again is in
[guide/bench.md](guide/bench.md). Where a page that is made by a program says why a goal was missed, a person wrote it
(`tools/casemate/src/command/bench/reasons.rs`).

**How to read it.** Transports take turns in short windows of one run, and so do sizes of messages, so that whatever else the
machine does hits all alike; every number is the least of these windows with the median beside it, since load only ever adds time. Xen runs in QEMU without virtualisation
hardware: every instruction of the domains is emulated, so *only ratios within one run mean anything there*. A system
call of a PV guest costs about 13 us and a hypercall 6 us (PV) or 50 to 100 us (PVH) under this emulation, so part of
what a library-OS domain gains is the switch into a kernel that it does not make. dom0 has one processor
(`dom0_max_vcpus=1 dom0_vcpus_pin`) and the guest the other one (`cpus=\"1\"`). The *load* beside a figure is the average
over a minute on the machine under it all, which has two processors: above 2, something else was running.

TCP comes twice: with `TCP_NODELAY`, each write a packet, as for request and reply; and gathering writes (Nagle), the
better one for streams of small messages.

libxenvchan in a figure with a library-OS domain is Xen's library in dom0 and `idc::vchan` in the domain.

A *hypercall for a message* is counted by IDC itself: an event is one, a sleep at least one.
";

/// The whole page.
pub fn markdown(records: &[Record], drawn: &[Drawn]) -> String {
    let mut out = String::from(HEAD);
    out.push_str("\n## Goals\n| goal | measured | | command |\n|---|---|---|---|\n");
    let outcomes = goals::outcomes(records);
    for outcome in &outcomes {
        let verdict = match outcome.hit {
            Some(true) => "hit",
            Some(false) => "**missed**",
            None => "open",
        };
        let (goal, measured, command) = (&outcome.goal, &outcome.measured, &outcome.command);
        let _ = writeln!(out, "| {goal} | {measured} | {verdict} | `{command}` |");
    }
    let missed: Vec<_> = outcomes.iter().filter(|o| o.hit == Some(false)).collect();
    if !missed.is_empty() {
        out.push_str("\n### Why goals were missed\n");
        let mut said = Vec::new();
        for outcome in missed {
            let reason = reasons::of(&outcome.goal);
            if !said.contains(&reason) {
                said.push(reason);
                let _ = writeln!(out, "- {reason}");
            }
        }
    }
    out.push('\n');
    out.push_str(reasons::NOT_HERE);
    out.push_str("\n## Figures\n");
    for Drawn { name, title } in drawn {
        let _ = writeln!(out, "![{title}: {name}](figures/{name}.png)\n");
    }
    out.push_str("## Numbers\n");
    for place in Place::all(records) {
        for (test, title) in [
            ("stream", "one way"),
            ("ring", "one way, rings of different make"),
            ("back", "one way, to dom0"),
            ("roundtrip", "round trip, both active"),
            ("parked", "round trip, both asleep before it"),
            ("count", "many messages of 4 KiB, for each"),
            ("fan", "many channels, for a message there and back"),
            ("vtpm", "commands of the TPM"),
        ] {
            out.push_str(&table(records, &place, test, title));
        }
        out.push_str(&latencies(records, &place));
    }
    out.push_str(&single(records));
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

/// Conditions down, transports across.
fn table(records: &[Record], place: &Place, test: &str, title: &str) -> String {
    let found: Vec<&Record> = latest(records).filter(|r| r.test == test && place.holds(r)).collect();
    let (Some(first), mut series, mut rows) = (found.first(), Vec::new(), Vec::new()) else {
        return String::new();
    };
    let condition = |r: &Record| match test {
        "count" => r.messages.map(|m| Unit::Number.text(m as f64)),
        "fan" => r.connections.map(|c| c.to_string()),
        "vtpm" => Some(r.note.clone()),
        _ => r.size.map(|s| Unit::Bytes.text(s as f64)),
    };
    for record in &found {
        if !series.contains(&record.series) {
            series.push(record.series.clone());
        }
        let row = condition(record).unwrap_or_default();
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut out = format!(
        "\n### {}: {title}\n`{}`; least (median) of the windows; for IDC and vchan events and hypercalls for a message.\n\n|",
        place.words(),
        first.command
    );
    out.push_str(" |");
    for name in &series {
        let _ = write!(out, " {} |", of_series(name).1);
    }
    let _ = writeln!(out, "\n|---:|{}", "---:|".repeat(series.len()));
    for row in rows {
        let _ = write!(out, "| {row} |");
        for name in &series {
            let cell = found.iter().find(|r| r.series == *name && condition(r).as_ref() == Some(&row));
            let text = cell.map(|r| {
                let counts = match (r.events, r.hypercalls()) {
                    (Some(events), _) if r.sleeps.is_none() => format!(", {events:.3} events"),
                    (Some(events), Some(all)) => format!(", {events:.3} / {all:.3}"),
                    _ => String::new(),
                };
                format!("{} ({}){counts}", Unit::Time.text(r.least()), Unit::Time.text(r.median()))
            });
            let _ = write!(out, " {} |", text.unwrap_or_default());
        }
        out.push('\n');
    }
    out
}

fn latencies(records: &[Record], place: &Place) -> String {
    let found: Vec<&Record> = latest(records).filter(|r| r.test == "latency" && place.holds(r)).collect();
    let Some(first) = found.first() else { return String::new() };
    let mut out = format!(
        "\n### {}: single round trips of 16 B\n`{}`\n\n| | least | median | p99 | most | load |\n|---|---:|---:|---:|---:|---:|\n",
        place.words(),
        first.command
    );
    for r in found.iter().filter(|r| r.size == Some(16)) {
        let [least, median, p99, most] = [0.0, 0.5, 0.99, 1.0].map(|part| Unit::Time.text(r.quantile(part)));
        let load = r.load.map(|l| format!("{l:.1}")).unwrap_or_default();
        let _ =
            writeln!(out, "| {} | {least} | {median} | {p99} | {most} | {load} |", of_series(&r.series).1);
    }
    out
}

/// Boot, sizes and lines.
fn single(records: &[Record]) -> String {
    let mut out = String::new();
    let boots: Vec<&Record> = latest(records).filter(|r| r.test == "boot").collect();
    if let Some(first) = boots.first() {
        let _ = writeln!(
            out,
            "\n### Entry to main\n`{}`\n\n| | memory | median | least | load |\n|---|---:|---:|---:|---:|",
            first.command
        );
        for r in boots {
            let million = |cycles: f64| format!("{:.1} M cycles", cycles / 1e6);
            let load = r.load.map(|l| format!("{l:.1}")).unwrap_or_default();
            let memory = r.memory_mib.unwrap_or(0);
            let _ = writeln!(
                out,
                "| {} | {memory} MiB | {} | {} | {load} |",
                r.mode,
                million(r.median()),
                million(r.least())
            );
        }
    }
    let sizes: Vec<&Record> = latest(records).filter(|r| r.test == "size").collect();
    if let Some(first) = sizes.first() {
        let _ = writeln!(out, "\n### Images\n`{}`\n\n| stripped image | bytes |\n|---|---:|", first.command);
        for r in sizes {
            let _ = writeln!(out, "| {} | {} |", r.series, r.median());
        }
    }
    out
}

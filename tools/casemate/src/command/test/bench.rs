//! `casemate bench` runs, and what it counts is as it should be. Times are not judged: the machine may be busy.

use anyhow::{Context, ensure};
use idcperf::record::Record;

use super::report::{Report, Verdict};
use crate::{
    cli::BedArgs,
    command::bench,
    ui::{self, Ui},
    workspace::Workspace,
};

const NAME: &str = "bench-quick";

/// Runs it, in a test bed of its own, since that gives dom0 one processor and the guest the other.
pub fn run(workspace: &Workspace, bed: &BedArgs, report: &mut Report, ui: &Ui) {
    if report.wants(NAME) {
        let result = check(workspace, bed, ui).map_err(|error| ui::text_of(&error));
        report.add(NAME, Verdict::from(result));
    }
}

fn check(workspace: &Workspace, bed: &BedArgs, ui: &Ui) -> anyhow::Result<()> {
    let records = bench::quick(workspace, bed, workspace.target.join("bench/test.jsonl"), ui)?;
    for place in ["hosted", "dom0-libos"] {
        let here: Vec<&Record> = records.iter().filter(|r| r.place == place).collect();
        for test in bench::QUICK_TESTS {
            let found: Vec<_> =
                here.iter().filter(|r| r.test == test && r.series.starts_with("idc")).collect();
            ensure!(!found.is_empty(), "{place}: there is no result of `{test}` for IDC");
            for record in found {
                counts(record).with_context(|| format!("{place}, {test}, {} B", record.size.unwrap_or(0)))?;
            }
        }
        ensure!(here.iter().all(|r| r.samples.iter().all(|s| *s > 0.0)), "{place}: a time of nothing");
        ensure!(
            here.iter().any(|r| !r.series.starts_with("idc")),
            "{place}: there is no peer to compare with"
        );
    }
    Ok(())
}

/// Never more than one event to wake a sleeper for each message, and one for each quarter of the ring that becomes free;
/// a round trip is two messages.
fn counts(record: &Record) -> anyhow::Result<()> {
    let (events, sleeps) = (record.events.context("no events")?, record.sleeps.context("no sleeps")?);
    let messages = record.messages.unwrap_or(1) as f64;
    // What begins and ends a window counts for all of its messages.
    let edges = 6.0 / messages;
    let most = if matches!(record.test.as_str(), "stream" | "back" | "count") { 1.25 } else { 2.0 };
    ensure!(events <= most + edges, "{events} events for a message, with {messages} in a window");
    ensure!(sleeps.is_finite() && sleeps >= 0.0, "{sleeps} sleeps");
    Ok(())
}

//! Two runs next to each other.

use std::fmt::Write;

use idcperf::record::Record;

/// The same measurement in two runs.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// In the first one.
    pub before: &'a Record,
    /// In the second one.
    pub after: &'a Record,
}

impl Change<'_> {
    /// Median of the second over that of the first.
    pub fn ratio(&self) -> f64 {
        self.after.median() / self.before.median()
    }

    /// The samples of the two runs do not overlap, but for a quarter at each end: more than noise.
    pub fn is_clear(&self) -> bool {
        let (a, b) = (self.before, self.after);
        a.quantile(0.75) < b.quantile(0.25) || b.quantile(0.75) < a.quantile(0.25)
    }
}

/// What both runs measured, in the order of the first; of repeated measurements the last.
pub fn changes<'a>(before: &'a [Record], after: &'a [Record]) -> Vec<Change<'a>> {
    let pair = |a: &'a Record| {
        let after = after.iter().rev().find(|b| b.is_alike(a))?;
        Some(Change { before: a, after })
    };
    let last = |(index, a): (usize, &'a Record)| {
        (!before[index + 1..].iter().any(|later| later.is_alike(a))).then_some(a)
    };
    before.iter().enumerate().filter_map(last).filter_map(pair).collect()
}

/// What a record measures, in words.
pub fn label(record: &Record) -> String {
    let mut label = format!("{} {} {} {}", record.place, record.mode, record.test, record.series);
    for (number, unit) in
        [(record.size, "B"), (record.connections, "connections"), (record.memory_mib, "MiB")]
    {
        if let Some(number) = number {
            let _ = write!(label, " {number} {unit}");
        }
    }
    if record.test == "count" {
        let _ = write!(label, " x {}", record.messages.unwrap_or(0));
    }
    label.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One line for each change; those that are more than noise are marked.
pub fn table(changes: &[Change<'_>], only: Option<&str>) -> String {
    let mut out =
        String::from("| measurement | unit | before | after | ratio | |\n|---|---|---:|---:|---:|---|\n");
    for change in changes {
        let label = label(change.before);
        if only.is_some_and(|only| !label.contains(only)) {
            continue;
        }
        let verdict = match (change.is_clear(), change.ratio()) {
            (false, _) => "",
            (true, ratio) if ratio < 1.0 => "less",
            (true, _) => "more",
        };
        let _ = writeln!(
            out,
            "| {label} | {} | {:.1} | {:.1} | {:.2} | {verdict} |",
            change.before.unit,
            change.before.median(),
            change.after.median(),
            change.ratio()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(series: &str, samples: &[f64]) -> Record {
        Record { size: Some(16), samples: samples.to_vec(), ..Record::new("stream", series, "ns") }
    }

    #[test]
    fn what_both_have_is_compared() {
        let before = [record("idc", &[10.0, 11.0, 12.0]), record("tcp", &[50.0, 60.0, 900.0])];
        let after = [record("idc", &[20.0, 21.0, 22.0]), record("tcp", &[65.0]), record("unix", &[7.0])];
        let changes = changes(&before, &after);
        assert_eq!(changes.len(), 2);
        assert!((changes[0].ratio() - 21.0 / 11.0).abs() < 1e-9);
        assert_eq!(changes.iter().map(Change::is_clear).collect::<Vec<_>>(), [true, false]);
        let table = table(&changes, Some("idc"));
        assert!(
            table.contains("stream idc 16 B | ns | 11.0 | 21.0 | 1.91 | more") && !table.contains("tcp"),
            "{table}"
        );
    }

    #[test]
    fn of_repeated_measurements_the_last_counts() {
        let before = [record("idc", &[1.0]), record("idc", &[2.0])];
        let after = [record("idc", &[8.0]), record("idc", &[4.0])];
        let changes = changes(&before, &after);
        assert_eq!(changes.len(), 1);
        assert!((changes[0].ratio() - 2.0).abs() < 1e-9);
    }
}

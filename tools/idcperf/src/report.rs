//! Tables for people.

use std::fmt::Write;

use idcperf::record::Record;

fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} us", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

/// A line for each condition, a column for each transport; the median of the windows, or the least.
pub fn tables(series: &[String], records: &[Record], least: bool) -> String {
    let mut out = String::new();
    let value = |record: &Record| if least { record.least() } else { record.median() };
    let mut test = "";
    for (index, row) in records.iter().enumerate() {
        // The first of each row stands for it.
        let same = |r: &&Record| Record { series: row.series.clone(), ..(*r).clone() }.is_alike(row);
        if records[..index].iter().any(|r| same(&r)) {
            continue;
        }
        if row.test != test {
            test = &row.test;
            let what = if least { "least" } else { "median" };
            let _ = write!(out, "\n{test}: {what} time, and (ratio to {})\n{:>18}", series[0], "bytes");
            for name in series {
                let _ = write!(out, "  {name:>26}");
            }
            out.push('\n');
        }
        let condition = match (row.connections, row.test.as_str()) {
            (Some(connections), _) => format!("{} on {connections}", row.size.unwrap_or(0)),
            (None, "count") => format!("{} x {}", row.messages.unwrap_or(0), row.size.unwrap_or(0)),
            _ => row.size.unwrap_or(0).to_string(),
        };
        let _ = write!(out, "{condition:>18}");
        let cells: Vec<_> = records.iter().filter(same).collect();
        for name in series {
            let text = cells.iter().find(|cell| cell.series == *name).map_or("-".to_owned(), |cell| {
                let base = cells.iter().find(|cell| cell.series == series[0]);
                let ratio = base.map_or(1.0, |base| value(cell) / value(base));
                format!("{} ({ratio:.2}x)", time(value(cell)))
            });
            let _ = write!(out, "  {text:>26}");
        }
        out.push('\n');
    }
    out
}

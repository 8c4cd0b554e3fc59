//! Tables and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::measure::{Cell, Plan};

fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} us", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

/// Same test and size, first transport.
fn base<'a>(cells: &'a [Cell], cell: &Cell) -> Option<&'a Cell> {
    cells.iter().find(|c| c.test == cell.test && c.size == cell.size)
}

/// For people: a line for each size, a column for each transport.
pub fn tables(plan: &Plan, cells: &[Cell]) -> String {
    let mut out = String::new();
    for &test in &plan.tests {
        let _ = write!(
            out,
            "\n{test:?}: {} time, and (ratio to {})\n{:>9}",
            if plan.least { "least" } else { "median" },
            plan.specs[0],
            "bytes"
        );
        for spec in &plan.specs {
            let _ = write!(out, "  {:>26}", spec.to_string());
        }
        out.push('\n');
        for &size in &plan.sizes {
            let _ = write!(out, "{size:>9}");
            for transport in 0..plan.specs.len() {
                let found = cells.iter().find(|c| (c.test, c.size, c.transport) == (test, size, transport));
                let text = found.map_or("-".to_owned(), |cell| {
                    let ratio = base(cells, cell).map_or(1.0, |base| cell.value(plan) / base.value(plan));
                    format!("{} ({ratio:.2}x)", time(cell.value(plan)))
                });
                let _ = write!(out, "  {text:>26}");
            }
            out.push('\n');
        }
    }
    out
}

/// For programs.
pub fn json(plan: &Plan, cells: &[Cell]) -> Value {
    let results: Vec<_> = cells
        .iter()
        .map(|cell| {
            let value = cell.value(plan);
            json!({
                "test": format!("{:?}", cell.test).to_lowercase(),
                "size": cell.size,
                "transport": plan.specs[cell.transport].to_string(),
                "nanoseconds": {
                    "median": cell.nanos.get(cell.nanos.len() / 2),
                    "least": cell.nanos.first(),
                    "most": cell.nanos.last(),
                },
                "bytes_per_second": cell.size as f64 / value * 1e9,
                "ratio": base(cells, cell).map(|base| value / base.value(plan)),
                "events_per_message": cell.events,
            })
        })
        .collect();
    json!({
        "windows": plan.windows,
        "window_ms": plan.window.as_millis() as u64,
        "pinned": plan.pinned,
        "results": results,
    })
}

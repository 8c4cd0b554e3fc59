//! `casemate bench` without measuring: comparing, drawing and refusing, from results that are made here.

use std::{fs, path::Path};

use assert_cmd::{Command, assert::Assert};
use idcperf::record::Record;

fn casemate(args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("casemate").unwrap();
    command.env("CASEMATE_ROOT", concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(args).assert()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// A run in all places with made-up numbers, `factor` times slower than another.
fn results(factor: f64) -> Vec<Record> {
    let mut records = Vec::new();
    for (place, mode) in [("hosted", ""), ("dom0-linux", "pv")] {
        for (series, cost) in [("idc", 10.0), ("idc:pages=16", 12.0), ("idc:paper=32", 40.0), ("tcp", 900.0)]
        {
            let mut add = |test: &str, nanos: f64, change: &dyn Fn(&mut Record)| {
                let nanos = nanos * factor;
                let samples = vec![nanos, nanos * 1.05, nanos * 1.2];
                let (place, mode) = (place.to_owned(), mode.to_owned());
                let mut record =
                    Record { place, mode, samples, load: Some(1.5), ..Record::new(test, series, "ns") };
                if series.starts_with("idc") {
                    (record.events, record.sleeps) = (Some(0.01), Some(0.02));
                }
                record.command = "casemate bench".to_owned();
                change(&mut record);
                records.push(record);
            };
            for size in [16u64, 64, 512, 1024, 4096, 65_536] {
                for test in ["stream", "back", "ring", "roundtrip", "latency"] {
                    add(test, cost + size as f64 / 10.0, &|r| r.size = Some(size));
                }
            }
            for power in 3..7 {
                add("count", cost, &|r| (r.size, r.messages) = (Some(4096), Some(10u64.pow(power))));
            }
            for connections in [1, 30, 1000] {
                add("fan", cost, &|r| (r.size, r.connections) = (Some(64), Some(connections)));
            }
        }
    }
    for (memory, mode) in [(4, "pv"), (64, "pv"), (4, "pvh"), (64, "pvh")] {
        let (mode, memory_mib, samples) = (mode.to_owned(), Some(memory), vec![4e6 * factor]);
        records.push(Record { mode, memory_mib, samples, ..Record::new("boot", "casemate", "cycles") });
    }
    for name in ["hello", "echo"] {
        records.push(Record { samples: vec![40_000.0], ..Record::new("size", name, "bytes") });
    }
    records
}

fn write(path: &Path, records: &[Record]) {
    let lines: Vec<String> = records.iter().map(Record::to_line).collect();
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn a_file_of_results_becomes_figures_and_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("results.jsonl");
    write(&file, &results(1.0));
    let out = dir.path().join("docs");
    casemate(&["bench", "report", file.to_str().unwrap(), "--out", out.to_str().unwrap()]).success();
    let report = fs::read_to_string(out.join("evaluation.md")).unwrap();
    for part in ["| hit |", "**missed**", "### Why goals were missed", "dom0 and a Linux domU (PV)", "1.5"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let figures = [
        "fig3-transactions-hosted",
        "fig4-direction-linux-pv",
        "fig5-ring-small-hosted",
        "fig6-ring-large-linux-pv",
        "fig7-roundtrip-linux-pv",
        "throughput-hosted",
        "latency-hosted",
        "channels-linux-pv",
        "boot",
        "image-size",
    ];
    for name in figures {
        assert!(report.contains(&format!("figures/{name}.png")), "{name} is not in the report");
        let svg = fs::read_to_string(out.join(format!("figures/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        let png = fs::read(out.join(format!("figures/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 2000, "{name}");
    }
    // Axes, units and legends are text in the SVG.
    let svg = fs::read_to_string(out.join("figures/fig7-roundtrip-linux-pv.svg")).unwrap();
    for part in
        ["bytes each way", "time for a round trip", "IDC, 256 KiB ring", "64 KiB", "load of the machine 1.5"]
    {
        assert!(svg.contains(part), "{part}");
    }
}

#[test]
fn two_runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    write(&a, &results(1.0));
    write(&b, &results(2.0));
    let args = ["bench", "compare", a.to_str().unwrap(), b.to_str().unwrap(), "--only", "hosted roundtrip"];
    let table = text(&casemate(&args).success().get_output().stdout);
    let lines: Vec<_> = table.lines().skip(2).collect();
    assert_eq!(lines.len(), 24, "{table}");
    assert!(lines.iter().all(|l| l.contains("| 2.00 | more |")), "{table}");
}

#[test]
fn what_is_no_result_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = results(1.0)[0].to_line();
    for (content, part) in [
        (format!("{good}\n{}", &good[..good.len() / 2]), "line 2"),
        (good.replace("bench/1", "bench/9"), "casemate-bench/9"),
        ("[]\n".to_owned(), "line 1"),
        (String::new(), "no results"),
        (results(1.0)[0].to_line() + "\n\n", "line 2"),
    ] {
        let file = dir.path().join("results.jsonl");
        fs::write(&file, content).unwrap();
        let args = ["bench", "report", file.to_str().unwrap(), "--out", dir.path().to_str().unwrap()];
        let error = text(&casemate(&args).code(1).get_output().stderr);
        assert!(
            error.contains(part) && error.contains("results.jsonl") && !error.contains("panicked"),
            "{error}"
        );
    }
    let error = text(&casemate(&["bench", "compare", "/nowhere", "/nowhere"]).code(1).get_output().stderr);
    assert!(error.contains("cannot open /nowhere"), "{error}");
    casemate(&["bench", "--only", "moon"]).code(2);
    casemate(&["bench", "report"]).code(2);
    assert!(!dir.path().join("evaluation.md").exists());
}

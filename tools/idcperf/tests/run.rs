//! The program as a whole, between two processes of this machine. What it measures is not judged.

use std::process::{Command, Output};

use idcperf::record::{self, Record};

fn idcperf(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idcperf")).args(args).arg("--unpinned").output().unwrap()
}

fn results(args: &[&str]) -> Vec<Record> {
    let output = idcperf(&[args, &["--json", "--windows", "2", "--window-ms", "2"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    record::read(output.stdout.as_slice()).unwrap()
}

#[test]
fn every_test_gives_a_result_for_every_transport() {
    let transports =
        ["idc", "idc:pages=1:nospin:batch=4", "idc:paper=32", "tcp", "tcp:nagle", "unix", "pipe"];
    let tests = ["stream", "back", "roundtrip", "parked", "latency", "count", "fan"];
    let common = ["--transport", &transports.join(","), "--connections=3", "--count=50"];
    let of =
        |sizes: &str, tests: &[&str]| results(&[&common[..], &[sizes, "--test", &tests.join(",")]].concat());
    // Messages of a fan have to fit.
    let all = [of("--size=24", &tests), of("--size=5000", &tests[..6])].concat();
    for test in tests {
        for transport in transports {
            for size in if test == "fan" { &[24][..] } else { &[24, 5000] } {
                let fits = |r: &&Record| {
                    (r.test.as_str(), r.series.as_str(), r.size) == (test, transport, Some(*size))
                };
                let found: Vec<_> = all.iter().filter(fits).collect();
                let [one] = found[..] else {
                    panic!("{} results for {transport}, {test}, {size}", found.len())
                };
                assert!(one.samples.iter().all(|s| *s > 0.0) && one.unit == "ns" && one.place == "hosted");
                assert_eq!(one.events.is_some(), transport.starts_with("idc"));
                assert_eq!(one.connections, (test == "fan").then_some(3));
                assert!(test != "count" || one.messages == Some(50));
            }
        }
    }
}

#[test]
fn sleeping_sides_wake_each_other() {
    // Who does not spin has to sleep for each answer, and to be woken.
    let all = results(&["--transport=idc:nospin", "--test=parked", "--size=16"]);
    assert!(all[0].sleeps.unwrap() > 0.5 && all[0].events.unwrap() > 0.5, "{:?}", all[0]);
}

#[test]
fn tables_have_a_column_for_each_transport() {
    let output = idcperf(&["--transport=idc,pipe", "--size=16", "--windows=1", "--window-ms=1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("stream: median") && text.contains("roundtrip"),
        "{text}"
    );
    assert_eq!(text.lines().filter(|l| l.contains("(1.00x)")).count(), 2, "{text}");
}

#[test]
fn errors_say_what_to_do() {
    for (args, hint) in [
        (["--transport=vchan"], "--peer"),
        (["--transport=carrier-pigeon"], "unknown transport"),
        (["--transport=tcp:pages=3"], "no option"),
        (["--transport=idc:paper=7"], "8, 32 or 128"),
        (["--test=fan"], "at most 1024 bytes"),
        (["--peer=3"], "hosted"),
    ] {
        let output = idcperf(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(hint) && !text.contains("panicked"), "{text}");
    }
}

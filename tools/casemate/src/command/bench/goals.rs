//! What has to come true, and whether it has: each goal with its numbers, out of the results.

use idcperf::record::Record;

use super::figures::{MINI_OS_CYCLES, Place, latest, style::of_series};

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What has to come true.
    pub goal: String,
    /// What was measured.
    pub measured: String,
    /// Whether it has; nothing if that cannot be told from these results.
    pub hit: Option<bool>,
    /// The command behind the number.
    pub command: String,
}

/// Sizes that count as small.
const SMALL: [u64; 4] = [16, 64, 256, 512];

/// Results in one place.
struct Here<'a> {
    records: Vec<&'a Record>,
    words: String,
}

impl<'a> Here<'a> {
    fn find(&self, test: &str, series: &str, size: u64) -> Option<&'a Record> {
        self.records.iter().copied().find(|r| r.test == test && r.series == series && r.size == Some(size))
    }

    /// How many times the time of `own` the time of `other` is: of the least, and of the medians.
    fn ratio(&self, test: &str, own: &str, other: &str, size: u64) -> Option<(f64, f64)> {
        let (own, other) = (self.find(test, own, size)?, self.find(test, other, size)?);
        Some((other.least() / own.least(), other.median() / own.median()))
    }

    /// The smallest ratio over some sizes.
    fn worst(&self, test: &str, own: &str, other: &str, sizes: &[u64]) -> Option<(f64, f64)> {
        let all = sizes.iter().filter_map(|size| self.ratio(test, own, other, *size));
        all.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn command(&self) -> String {
        self.records.first().map(|r| r.command.clone()).unwrap_or_default()
    }

    /// So many times as fast as another transport.
    fn faster(
        &self,
        own: &str,
        other: &str,
        (test, sizes, what): (&str, &[u64], &str),
        least: f64,
    ) -> Option<Outcome> {
        let (least_ratio, median) = self.worst(test, own, other, sizes)?;
        Some(Outcome {
            goal: format!(
                "{}, {what}: {} at least {}x as fast as {}",
                self.words,
                name(own),
                // At most two digits behind the point, and none that says nothing.
                (least * 100.0).round() / 100.0,
                name(other)
            ),
            measured: format!("{least_ratio:.2}x (of medians: {median:.2}x)"),
            hit: Some(least_ratio >= least),
            command: self.command(),
        })
    }
}

fn name(series: &str) -> String {
    of_series(series).1
}

/// All goals that these results say something about.
pub fn outcomes(records: &[Record]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for place in Place::all(records) {
        let here =
            Here { records: latest(records).filter(|r| place.holds(r)).collect(), words: place.words() };
        if place.is_emulated() { domains(&here, &mut outcomes) } else { hosted(&here, &mut outcomes) }
    }
    library_os(records, &mut outcomes);
    outcomes
}

fn hosted(here: &Here<'_>, outcomes: &mut Vec<Outcome>) {
    let small = ("stream", &[16, 64][..], "16 to 64 B one way");
    let one = |size: &'static [u64], what| ("stream", size, what);
    outcomes.extend(here.faster("idc", "tcp", small, 25.0));
    outcomes.extend(here.faster("idc", "tcp:nagle", small, 25.0));
    outcomes.extend(here.faster("idc", "unix", small, 20.0));
    outcomes.extend(here.faster("idc", "iceoryx2:poll", small, 10.0));
    outcomes.extend(here.faster("idc", "tcp", one(&[4096], "4 KiB one way"), 6.0));
    outcomes.extend(here.faster("idc", "unix", one(&[4096], "4 KiB one way"), 4.0));
    outcomes.extend(here.faster("idc", "unix", one(&[65_536], "64 KiB one way"), 2.0));
    outcomes.extend(here.faster("idc", "copy", one(&[65_536], "64 KiB one way"), 0.9));
    outcomes.extend(here.faster(
        "idc",
        "tcp",
        ("roundtrip", &[16], "round trip of 16 B, both active"),
        100.0,
    ));
    outcomes.extend(here.faster(
        "idc",
        "eventfd",
        ("parked", &[16], "round trip of 16 B, both asleep"),
        1.0 / 1.05,
    ));
}

fn domains(here: &Here<'_>, outcomes: &mut Vec<Outcome>) {
    const VCHAN: &str = "vchan:ring=65536";
    // With a ring of the same size.
    const SAME: &str = "idc:pages=16";
    let one = |size: &'static [u64], what| ("stream", size, what);
    outcomes.extend(here.faster("idc", "tcp", one(&SMALL, "16 to 512 B one way"), 10.0));
    outcomes.extend(here.faster("idc", "tcp:nagle", one(&SMALL, "16 to 512 B one way"), 10.0));
    outcomes.extend(here.faster("idc", "tcp", one(&[65_536], "64 KiB one way"), 4.0));
    outcomes.extend(here.faster("idc", "tcp:nagle", one(&[65_536], "64 KiB one way"), 4.0));
    outcomes.extend(here.faster("idc", "tcp", ("roundtrip", &[16], "round trip of 16 B"), 3.0));
    outcomes.extend(here.faster(SAME, VCHAN, one(&SMALL, "16 to 512 B one way"), 3.0));
    outcomes.extend(here.faster(SAME, VCHAN, one(&[4096], "4 KiB one way"), 1.3));
    outcomes.extend(here.faster(SAME, VCHAN, one(&[65_536], "64 KiB one way"), 1.5));

    let sizes = [16, 64, 256, 512, 1024, 4096, 16_384, 65_536];
    let apart = |size: &u64| {
        let (there, back) = (here.find("stream", "idc", *size)?, here.find("back", "idc", *size)?);
        Some((back.least() / there.least(), *size))
    };
    let far = |ratio: f64| ratio.max(1.0 / ratio);
    if let Some((ratio, size)) = sizes.iter().filter_map(apart).max_by(|a, b| far(a.0).total_cmp(&far(b.0))) {
        outcomes.push(Outcome {
            goal: format!("{}: both directions within 5 %", here.words),
            measured: format!(
                "to dom0 takes {ratio:.2}x the time of from dom0 where they differ most ({size} B)"
            ),
            hit: Some(far(ratio) <= 1.05),
            command: here.command(),
        });
    }
    if let Some(record) = here.find("stream", "idc", 16)
        && let (Some(events), Some(all)) = (record.events, record.hypercalls())
    {
        outcomes.push(Outcome {
            goal: format!("{}: no hypercall for a message while both sides are active", here.words),
            measured: format!(
                "16 B one way: {all:.4} for each message ({events:.4} events, the rest sleeps)"
            ),
            hit: Some(all < 0.005),
            command: here.command(),
        });
        outcomes.push(Outcome {
            goal: format!("{}: at most 0.05 events for a message under load", here.words),
            measured: format!("16 B one way: {events:.4}"),
            hit: Some(events <= 0.05),
            command: here.command(),
        });
    }
    if let Some(most) = here.records.iter().filter_map(|r| r.connections).max() {
        outcomes.push(Outcome {
            goal: format!("{}: 1,000 channels open at once", here.words),
            measured: format!("{most} in use in turn"),
            hit: Some(most >= 1000),
            command: here.command(),
        });
    }
}

fn library_os(records: &[Record], outcomes: &mut Vec<Outcome>) {
    let find = |test: &str, series: &str| latest(records).find(|r| r.test == test && r.series == series);
    if let Some(hello) = find("size", "hello") {
        outcomes.push(Outcome {
            goal: "image of hello without std at most 48 KB".to_owned(),
            measured: format!("{:.1} KB", hello.median() / 1000.0),
            hit: Some(hello.median() <= 48_000.0),
            command: hello.command.clone(),
        });
    }
    for mode in ["pv", "pvh"] {
        let boots: Vec<_> = latest(records).filter(|r| r.test == "boot" && r.mode == mode).collect();
        let leasts: Vec<f64> = boots.iter().map(|r| r.least()).collect();
        let (Some(least), Some(most), [_, _, ..]) = (
            leasts.iter().copied().min_by(f64::total_cmp),
            leasts.iter().copied().max_by(f64::total_cmp),
            boots.as_slice(),
        ) else {
            continue;
        };
        outcomes.push(Outcome {
            goal: format!("entry to main ({mode}) flat from 4 to 256 MiB"),
            measured: format!("{:.1} to {:.1} million cycles", least / 1e6, most / 1e6),
            // No number is set; a growth with memory would be 64-fold.
            hit: Some(most / least <= 1.5),
            command: boots[0].command.clone(),
        });
        if let Some(at_32) = boots.iter().find(|r| r.memory_mib == Some(32)) {
            let mini = MINI_OS_CYCLES[1].1;
            outcomes.push(Outcome {
                goal: format!("entry to main ({mode}) at most a quarter of Mini-OS at 32 MiB"),
                measured: format!(
                    "{:.1} million cycles, {:.2} of Mini-OS's 150 million",
                    at_32.least() / 1e6,
                    at_32.least() / mini
                ),
                hit: Some(at_32.least() <= mini / 4.0),
                command: at_32.command.clone(),
            });
        }
    }
    for (test, image, goal, most) in [
        ("linked", "hello", "trusted lines of hello at most 4,000", 4000.0),
        ("linked", "echo", "trusted lines with IDC, threads and entropy (echo) at most 7,000", 7000.0),
        ("linked-unsafe", "hello", "lines with `unsafe` in hello at most 150", 150.0),
        ("linked-unsafe", "echo", "lines with `unsafe` in echo at most 150", 150.0),
        ("linked-unsafe-files", "hello", "files with `unsafe` in hello at most 8", 8.0),
    ] {
        if let Some(lines) = find(test, image).map(Record::median) {
            outcomes.push(Outcome {
                goal: goal.to_owned(),
                measured: format!("{lines}, of functions with code in the image and what stands around them"),
                hit: Some(lines <= most),
                command: "casemate bench --only size".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(place: &str, test: &str, series: &str, size: u64, sample: f64) -> Record {
        let place = place.to_owned();
        Record { place, size: Some(size), samples: vec![sample], ..Record::new(test, series, "ns") }
    }

    #[test]
    fn hit_and_missed_are_told_apart() {
        let tcp = |sample| record("hosted", "roundtrip", "tcp", 16, sample);
        let idc = record("hosted", "roundtrip", "idc", 16, 500.0);
        let hit = &outcomes(&[idc.clone(), tcp(60_000.0)])[0];
        assert!(hit.hit == Some(true) && hit.goal.contains("at least 100x"), "{}", hit.goal);
        let missed = &outcomes(&[idc.clone(), tcp(40_000.0)])[0];
        assert_eq!(missed.hit, Some(false));
        assert!(missed.measured.starts_with("80.00x"), "{}", missed.measured);
        assert!(outcomes(&[idc]).is_empty(), "there is nothing to compare it with");
    }

    #[test]
    fn hypercalls_are_events_and_sleeps() {
        let mut idc = record("dom0-linux", "stream", "idc", 16, 100.0);
        (idc.events, idc.sleeps) = (Some(0.0), Some(0.0));
        assert!(outcomes(&[idc.clone()]).iter().all(|o| o.hit == Some(true)));
        idc.sleeps = Some(0.2);
        let hits: Vec<_> = outcomes(&[idc]).iter().map(|o| o.hit).collect();
        assert_eq!(hits, [Some(false), Some(true)]);
    }

    #[test]
    fn the_worse_direction_counts() {
        let there = record("dom0-linux", "stream", "idc", 64, 100.0);
        let back = |sample| record("dom0-linux", "back", "idc", 64, sample);
        assert_eq!(outcomes(&[there.clone(), back(104.0)])[0].hit, Some(true));
        assert_eq!(outcomes(&[there.clone(), back(90.0)])[0].hit, Some(false));
        assert_eq!(outcomes(&[there, back(110.0)])[0].hit, Some(false));
    }
}

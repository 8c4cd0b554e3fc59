//! What is measured, as command lines of `idcperf`.

use clap::ValueEnum;

/// A part of the evaluation that can be run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Between two processes of this machine.
    Hosted,
    /// Between dom0 and a Linux guest.
    Linux,
    /// Between dom0 and a domain of the library OS.
    Libos,
    /// Cycles of boot and stages of `xl create`.
    Boot,
    /// Sizes of images and lines of code.
    Size,
}

impl Section {
    /// In the order in which they run.
    pub const ALL: [Self; 5] = [Self::Size, Self::Hosted, Self::Boot, Self::Linux, Self::Libos];

    /// As in the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Name of the place where the two halves are.
    pub fn place(self) -> &'static str {
        match self {
            Self::Hosted => "hosted",
            Self::Linux => "dom0-linux",
            Self::Libos => "dom0-libos",
            Self::Boot | Self::Size => "",
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Whether it runs, and the shapes.
    Quick,
    /// What the report needs.
    Full,
}

/// One run of `idcperf`.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Other name for the results, so that a figure has results of one run only.
    pub name: Option<&'static str>,
    pub transports: Vec<&'static str>,
    pub tests: Vec<&'static str>,
    pub sizes: Vec<usize>,
    pub counts: Vec<usize>,
    pub connections: Vec<usize>,
    pub windows: usize,
    pub window_ms: u64,
}

fn join<T: ToString>(parts: &[T]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Run {
    /// Arguments for `idcperf`.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--json".to_owned(),
            format!("--transport={}", join(&self.transports)),
            format!("--test={}", join(&self.tests)),
            format!("--size={}", join(&self.sizes)),
            format!("--windows={}", self.windows),
            format!("--window-ms={}", self.window_ms),
        ];
        if !self.counts.is_empty() {
            arguments.push(format!("--count={}", join(&self.counts)));
        }
        if !self.connections.is_empty() {
            arguments.push(format!("--connections={}", join(&self.connections)));
        }
        arguments
    }

    /// Without the tests that are not wanted; all are if none is named.
    pub fn restricted(mut self, wanted: &[String]) -> Option<Self> {
        if !wanted.is_empty() {
            let name = self.name;
            self.tests.retain(|test| wanted.iter().any(|w| w == name.unwrap_or(test)));
        }
        (!self.tests.is_empty()).then_some(self)
    }

    /// Most results that it will have.
    pub fn results(&self) -> u64 {
        let conditions: usize = self
            .tests
            .iter()
            .map(|test| match *test {
                "count" => self.counts.len(),
                "fan" => self.connections.len(),
                _ => 1,
            })
            .sum();
        (conditions * self.sizes.len() * self.transports.len()) as u64
    }
}

/// Message sizes around the places where the paper's slots and our records end.
const SMALL: [usize; 15] = [4, 12, 16, 24, 31, 32, 64, 100, 127, 128, 256, 400, 511, 512, 1024];
const LARGE: [usize; 10] = [1024, 2048, 4095, 4096, 8192, 16_384, 16_385, 32_768, 65_536, 131_072];
const SIZES: [usize; 10] = [16, 64, 256, 512, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];

/// What is measured in a section, run by run.
pub fn runs(section: Section, effort: Effort) -> Vec<Run> {
    let quick = effort == Effort::Quick;
    let (transports, geometry, counted, fanned): (&[_], &[_], &[_], &[_]) = match section {
        Section::Hosted => (
            &["idc", "tcp", "tcp:nagle", "unix", "pipe", "iceoryx2:poll", "copy"],
            &["idc", "idc:pages=1", "idc:paper=8", "idc:paper=32", "idc:paper=128", "tcp:nagle"],
            &["idc", "tcp", "tcp:nagle", "unix"],
            &["idc:pages=1", "unix", "tcp"],
        ),
        Section::Linux => (
            &["idc", "idc:pages=16", "vchan:ring=65536", "tcp", "tcp:nagle"],
            &["idc", "idc:pages=1", "idc:paper=8", "idc:paper=32", "idc:paper=128", "tcp:nagle"],
            &["idc", "vchan:ring=65536", "tcp:nagle"],
            &["idc:pages=1", "tcp"],
        ),
        Section::Libos => (
            &["idc", "idc:pages=16", "vchan:ring=65536"],
            &["idc", "idc:pages=1", "idc:paper=8", "idc:paper=32", "idc:paper=128"],
            &["idc", "vchan:ring=65536"],
            &["idc:pages=1"],
        ),
        Section::Boot | Section::Size => return Vec::new(),
    };
    let hosted = section == Section::Hosted;
    let (windows, window_ms) = match (quick, hosted) {
        (true, true) => (15, 8),
        (true, false) => (9, 40),
        (false, true) => (25, 8),
        (false, false) => (9, 80),
    };
    let base = Run { transports: transports.to_vec(), windows, window_ms, ..Run::default() };
    let part = |tests: &[&'static str], sizes: &[usize]| Run {
        tests: tests.to_vec(),
        sizes: sizes.to_vec(),
        ..base.clone()
    };
    let sizes = if hosted { &SIZES[..] } else { &SIZES[..SIZES.len() - 2] };
    let large = if hosted { &LARGE[..] } else { &LARGE[..LARGE.len() - 1] };
    if quick {
        let few = |names: &[&'static str]| {
            names.iter().copied().filter(|name| !name.contains("iceoryx2")).collect::<Vec<_>>()
        };
        return vec![
            Run {
                transports: few(transports),
                ..part(&["stream", "back", "roundtrip", "latency"], &[16, 4096])
            },
            Run {
                name: Some("ring"),
                transports: vec!["idc"],
                ..part(&["stream"], &[127, 128, 511, 512, 16_384, 16_385])
            },
            Run {
                transports: vec!["idc"],
                counts: if hosted { vec![20_000, 40_000, 80_000] } else { vec![2000, 4000, 8000] },
                ..part(&["count"], &[4096])
            },
            Run { transports: vec!["idc:pages=1"], connections: vec![1, 8], ..part(&["fan"], &[64]) },
        ];
    }
    let streams: &[_] = if hosted { &["stream"] } else { &["stream", "back"] };
    let mut direct = transports.to_vec();
    direct.retain(|name| *name != "tcp:nagle");
    let mut latency = transports.to_vec();
    // Gathering is for streams.
    latency.retain(|name| !matches!(*name, "copy" | "idc:pages=16" | "tcp:nagle"));
    let mut parked = latency.clone();
    parked.retain(|name| *name != "iceoryx2:poll");
    if hosted {
        parked.extend(["iceoryx2", "eventfd"]);
    }
    let ring = |sizes: &[usize]| Run {
        name: Some("ring"),
        transports: geometry.to_vec(),
        ..part(&["stream"], sizes)
    };
    let mut runs = vec![
        part(streams, sizes),
        Run { transports: direct, ..part(&["roundtrip"], sizes) },
        Run { transports: latency, ..part(&["latency"], &[16]) },
        Run { transports: parked, windows: windows.min(7), ..part(&["parked"], &[16]) },
        ring(&SMALL),
        ring(large),
        Run {
            transports: fanned.to_vec(),
            connections: if hosted {
                vec![1, 3, 10, 30, 100, 300]
            } else {
                vec![1, 3, 10, 30, 100, 300, 1000]
            },
            ..part(&["fan"], &[64])
        },
        Run {
            transports: counted.to_vec(),
            windows: 5,
            counts: powers_of_ten(3, 6),
            ..part(&["count"], &[4096])
        },
        // The paper's number, which only this transport reaches in some minutes.
        Run {
            transports: if hosted { vec!["idc"] } else { Vec::new() },
            windows: 3,
            counts: powers_of_ten(7, 8),
            ..part(&["count"], &[4096])
        },
    ];
    runs.retain(|run| !run.transports.is_empty());
    runs
}

fn powers_of_ten(first: u32, last: u32) -> Vec<usize> {
    (first..=last).map(|power| 10usize.pow(power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_chosen_by_the_name_of_their_results() {
        let all = runs(Section::Linux, Effort::Full);
        let of = |names: &[&str]| -> Vec<Run> {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            all.iter().cloned().filter_map(|run| run.restricted(&names)).collect()
        };
        assert_eq!(of(&[]).len(), all.len());
        assert!(of(&["ring"]).iter().all(|run| run.name == Some("ring")));
        assert!(of(&["stream"]).iter().all(|run| run.tests == ["stream"] && run.name.is_none()));
        assert!(of(&["dance"]).is_empty());
    }

    #[test]
    fn every_section_with_two_halves_measures_idc_both_ways() {
        for section in Section::ALL {
            for effort in [Effort::Quick, Effort::Full] {
                let runs = runs(section, effort);
                assert_eq!(runs.is_empty(), section.place().is_empty(), "{section:?}");
                for run in &runs {
                    assert!(run.results() > 0 && run.transports[0].starts_with("idc"), "{run:?}");
                    assert_eq!(run.tests.contains(&"count"), !run.counts.is_empty());
                    assert_eq!(run.tests.contains(&"fan"), !run.connections.is_empty());
                }
            }
        }
        let linux = runs(Section::Linux, Effort::Full);
        assert!(linux.iter().any(|run| run.tests.contains(&"back")), "the paper's figure 4");
    }
}

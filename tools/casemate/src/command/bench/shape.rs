//! Shapes that have to hold on any machine, busy or not: the least of several windows is compared, since load only
//! ever adds.

use std::fmt;

use idcperf::record::Record;

/// How much longer a message may take among many than among few.
const LINEAR: f64 = 1.10;

/// How much more a message may cost that is one byte longer.
const JUMP: f64 = 1.5;

/// Sizes on both sides of a place where something ends: the paper's slots, and our inline records.
const STEPS: [(u64, u64); 4] = [(31, 32), (127, 128), (511, 512), (16_384, 16_385)];

/// Whether a shape holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// It does.
    pub holds: bool,
    /// Where.
    pub place: String,
    /// What it is, with the number.
    pub what: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds { "holds" } else { "does not hold" };
        write!(f, "{}: {} ... {word}", self.place, self.what)
    }
}

/// All verdicts that these results are enough for.
pub fn judge(records: &[Record]) -> Vec<Verdict> {
    let mut places: Vec<(String, String)> = Vec::new();
    for record in records.iter().filter(|r| !r.place.is_empty()) {
        let place = (record.place.clone(), record.mode.clone());
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut verdicts = Vec::new();
    for (place, mode) in places {
        let here: Vec<_> =
            records.iter().filter(|r| r.place == place && r.mode == mode && r.series == "idc").collect();
        let place = format!("{place} {mode}").trim_end().to_owned();
        let mut add = |holds, what| verdicts.push(Verdict { holds, place: place.clone(), what });
        let counted: Vec<f64> = here.iter().filter(|r| r.test == "count").map(|r| r.least()).collect();
        if let (Some(least), Some(most)) =
            (counted.iter().copied().min_by(f64::total_cmp), counted.iter().copied().max_by(f64::total_cmp))
            && counted.len() > 1
        {
            let ratio = most / least;
            add(ratio <= LINEAR, format!("time for each message, whatever their number, within {ratio:.2}x"));
        }
        for (short, long) in STEPS {
            let of = |size| here.iter().rev().find(|r| r.test == "ring" && r.size == Some(size));
            if let (Some(short_one), Some(long_one)) = (of(short), of(long)) {
                let ratio = long_one.least() / short_one.least();
                add(ratio <= JUMP, format!("time from {short} to {long} bytes changes {ratio:.2}x"));
            }
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(test: &str, size: u64, samples: &[f64]) -> Record {
        let place = "hosted".to_owned();
        Record { place, size: Some(size), samples: samples.to_vec(), ..Record::new(test, "idc", "ns") }
    }

    fn holds(records: &[Record]) -> Vec<bool> {
        judge(records).iter().map(|v| v.holds).collect()
    }

    #[test]
    fn time_that_grows_faster_than_the_number_is_seen() {
        let (few, many) = (record("count", 4096, &[300.0, 900.0]), record("count", 4096, &[325.0, 330.0]));
        assert_eq!(holds(&[few.clone(), many]), [true]);
        assert_eq!(holds(&[few.clone(), record("count", 4096, &[340.0])]), [false]);
        assert!(holds(&[few]).is_empty(), "one number says nothing");
    }

    #[test]
    fn a_jump_where_inline_ends_is_seen() {
        let short = record("ring", 127, &[20.0, 90.0]);
        assert_eq!(holds(&[short.clone(), record("ring", 128, &[29.0])]), [true]);
        assert_eq!(holds(&[short.clone(), record("ring", 128, &[31.0])]), [false]);
        let other = Record { series: "idc:paper=32".to_owned(), ..record("ring", 128, &[900.0]) };
        assert!(holds(&[short, other]).is_empty(), "the paper's own geometry may jump");
    }
}

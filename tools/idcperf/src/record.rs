//! One measured number with all that it depends on, as one line of JSON.
//!
//! A file of results has one [`Record`] in each line and nothing else, so files can be cut, joined and filtered by
//! line. Every line names the schema; a line of another one is refused, not guessed at.

use std::{fmt, io::BufRead};

use serde::{Deserialize, Serialize};

/// The schema of every line. A change of meaning changes it; a new optional field does not.
pub const SCHEMA: &str = "casemate-bench/1";

/// Result of one measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which figure it is for: `stream`, `back`, `roundtrip`, `parked`, `latency`, `count`, `fan`, `boot`, `size`, `vtpm`, ...
    pub test: String,
    /// Where the two halves are: `hosted`, `dom0-linux`, `dom0-libos`; empty where there are no two.
    pub place: String,
    /// Kind of virtual machine of the guest, if there is one: `pv`, `pvh`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// What was measured: a transport with its options, an image, ...
    pub series: String,
    /// Bytes in a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Messages in each sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Connections in use at once, if not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Memory of the domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Unit of the samples: `ns` (for each message or round trip), `cycles`, `bytes`, ...
    pub unit: String,
    /// What was measured, in ascending order. For `latency` they are evenly spaced quantiles of single round trips.
    pub samples: Vec<f64>,
    /// Events of both sides for each message; each is a hypercall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<f64>,
    /// Sleeps of both sides for each message; each is at least one hypercall of the kernel below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleeps: Option<f64>,
    /// Load of the machine that everything ran on, as an average over a minute, when it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The command that measures it again, or the source of a number that was not measured.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Anything else that has to stand next to the number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The machine's load, as an average over a minute.
pub fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// What is wrong with a file of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the line, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Damage {}

impl Record {
    /// With the schema, the name of the test and the unit filled in.
    pub fn new(test: &str, series: &str, unit: &str) -> Record {
        let own = str::to_owned;
        Record {
            schema: own(SCHEMA),
            test: own(test),
            series: own(series),
            unit: own(unit),
            ..Record::default()
        }
    }

    /// One line, without its end.
    pub fn to_line(&self) -> String {
        // Maps with other keys than strings are all that JSON cannot express, and there is no map in here.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_line(text: &str) -> Result<Record, String> {
        #[derive(Deserialize)]
        struct Schema {
            schema: Option<String>,
        }
        let Schema { schema } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match schema.as_deref() {
            Some(SCHEMA) => {}
            Some(other) => return Err(format!("its schema is `{other}`, and this program reads `{SCHEMA}`")),
            None => return Err("it names no schema, so it is no result of `casemate bench`".to_owned()),
        }
        let record: Record = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.test.is_empty() || record.unit.is_empty() || record.samples.is_empty() {
            return Err("a test, a unit and at least one sample are needed".to_owned());
        }
        if !record.samples.is_sorted() {
            return Err("the samples are not in ascending order".to_owned());
        }
        Ok(record)
    }

    /// The sample below which this part of them lies, from 0 to 1.
    pub fn quantile(&self, part: f64) -> f64 {
        let last = self.samples.len().saturating_sub(1);
        let index = (part.clamp(0.0, 1.0) * last as f64).round() as usize;
        self.samples.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The least of them.
    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    /// Of so many samples this is the greatest, or close to it.
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// Hypercalls for each message, as far as IDC's own counters tell: an event is one, a sleep at least one.
    pub fn hypercalls(&self) -> Option<f64> {
        Some(self.events? + self.sleeps.unwrap_or(0.0))
    }

    /// Same test under the same conditions, possibly in another run.
    pub fn is_alike(&self, other: &Record) -> bool {
        let key = |r: &Record| {
            let Record { test, place, mode, series, size, messages, connections, memory_mib, unit, .. } =
                r.clone();
            // Windows are filled by time, so the number of messages is a condition only where it is the question.
            let messages = if test == "count" { messages } else { None };
            // The command of a TPM.
            let note = if test == "vtpm" { r.note.clone() } else { String::new() };
            (test, place, mode, series, size, messages, connections, memory_mib, unit, note)
        };
        key(self) == key(other)
    }
}

/// Reads a file of results.
///
/// # Errors
/// The first line that is no result: cut off, damaged or of another schema; or that there is none at all.
pub fn read(file: impl BufRead) -> Result<Vec<Record>, Damage> {
    let mut records = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let damage = |why| Damage { line: index + 1, why };
        let line = line.map_err(|error| damage(error.to_string()))?;
        records.push(Record::from_line(&line).map_err(damage)?);
    }
    if records.is_empty() {
        return Err(Damage { line: 1, why: "there are no results in it".to_owned() });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            size: Some(16),
            samples: vec![1.0, 2.0, 3.0, 4.0, 50.0],
            ..Record::new("stream", "idc", "ns")
        }
    }

    #[test]
    fn a_line_holds_everything() {
        let record = Record { events: Some(0.25), sleeps: Some(0.5), load: Some(2.5), ..record() };
        assert_eq!(Record::from_line(&record.to_line()), Ok(record.clone()));
        assert_eq!(record.hypercalls(), Some(0.75));
        assert_eq!((record.least(), record.median(), record.p99()), (1.0, 3.0, 50.0));
    }

    #[test]
    fn lines_that_are_cut_off_are_refused_wherever_that_is() {
        let line = record().to_line();
        for end in 0..line.len() {
            assert!(Record::from_line(&line[..end]).is_err(), "{}", &line[..end]);
        }
        let file = format!("{line}\n{}", &line[..line.len() / 2]);
        assert_eq!(read(file.as_bytes()).unwrap_err().line, 2);
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_reason() {
        let line = record().to_line();
        for (bad, why) in [
            (line.replace("bench/1", "bench/2"), "casemate-bench/2"),
            (line.replace("\"schema\"", "\"other\""), "no schema"),
            (line.replace("[1.0,", "[9.0,"), "ascending"),
            (line.replace("[1.0,2.0,3.0,4.0,50.0]", "[]"), "sample"),
            (line.replace("[1.0,", "[\"x\","), "invalid type"),
            (line.replace("\"stream\"", "\"\""), "a test"),
        ] {
            let error = read(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1: ") && error.contains(why), "{error}");
        }
        assert!(read(&b""[..]).unwrap_err().to_string().contains("no results"));
        assert!(read(&b"\xff\xfe"[..]).is_err());
    }

    #[test]
    fn alike_is_about_conditions() {
        let one = record();
        assert!(one.is_alike(&Record {
            samples: vec![7.0],
            messages: Some(3),
            load: Some(1.0),
            ..one.clone()
        }));
        assert!(!one.is_alike(&Record { size: Some(17), ..one.clone() }));
        assert!(!one.is_alike(&Record { series: "tcp".to_owned(), ..one.clone() }));
        assert!(one.is_alike(&Record { note: "busy".to_owned(), ..one.clone() }));
        let command = |name: &str| Record { test: "vtpm".to_owned(), note: name.to_owned(), ..one.clone() };
        assert!(!command("GetRandom").is_alike(&command("PCR_Extend")));
    }
}

//! Colours, and numbers as people write them.

use plotters::style::RGBColor;

/// Colours that people with any kind of colour vision can tell apart (Okabe and Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const SKY: RGBColor = RGBColor(86, 180, 233);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const GREY: RGBColor = RGBColor(120, 120, 120);
const BLACK: RGBColor = RGBColor(0, 0, 0);

/// Colour and name of a series, the same in every figure.
pub fn of_series(series: &str) -> (RGBColor, String) {
    let own = |text: &str| text.to_owned();
    match series {
        "idc" => (BLUE, own("IDC, 256 KiB ring")),
        "idc:pages=16" => (SKY, own("IDC, 64 KiB ring")),
        "idc:pages=1" => (SKY, own("IDC, 4 KiB ring")),
        "idc:paper=8" => (ORANGE, own("paper's ring, 8 slots")),
        "idc:paper=32" => (PURPLE, own("paper's ring, 32 slots")),
        "idc:paper=128" => (GREEN, own("paper's ring, 128 slots")),
        "tcp" => (VERMILION, own("TCP")),
        "tcp:nagle" => (BLACK, own("TCP that gathers writes")),
        "unix" => (ORANGE, own("Unix socket")),
        "pipe" => (PURPLE, own("pipe")),
        "vchan:ring=65536" => (GREEN, own("libxenvchan, 64 KiB ring")),
        "iceoryx2" => (GREEN, own("iceoryx2, waits")),
        "iceoryx2:poll" => (GREEN, own("iceoryx2, polls")),
        "copy" => (GREY, own("bare copy (limit)")),
        "eventfd" => (BLACK, own("eventfd (limit)")),
        "casemate pv" => (BLUE, own("Casemate, PV")),
        "casemate pvh" => (SKY, own("Casemate, PVH")),
        "vtpm idc" => (BLUE, own("vTPM over IDC")),
        "swtpm unix" => (ORANGE, own("swtpm over a Unix socket")),
        "vtpm device" => (SKY, own("vTPM, /dev/tpm0")),
        "swtpm device" => (VERMILION, own("swtpm, /dev/tpm1")),
        "mini-os" => (VERMILION, own("Mini-OS, PV")),
        other => (BLACK, own(other)),
    }
}

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Bytes,
    /// Bytes in a second.
    Rate,
    /// MiB of memory.
    Mebibytes,
    /// Things.
    Number,
    /// Of a hundred.
    Percent,
}

/// At most three digits before the point and one behind it.
fn digits(value: f64) -> String {
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut rest = units;
    while let [_, _, ..] = rest
        && value >= step * 0.9999
    {
        value /= step;
        rest = &rest[1..];
    }
    format!("{} {}", digits(value), rest[0]).trim_end().to_owned()
}

impl Unit {
    /// A number in it.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Time if value >= 1e9 => format!("{} s", digits(value / 1e9)),
            Self::Time => scaled(value, 1000.0, &["ns", "us", "ms"]),
            Self::Bytes => scaled(value, 1024.0, &["B", "KiB", "MiB"]),
            Self::Rate => scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
            Self::Mebibytes => format!("{} MiB", digits(value)),
            Self::Number => scaled(value, 1000.0, &["", "k", "M", "G"]),
            Self::Percent => format!("{} %", digits(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(Unit::Time.text(5.5), "5.5 ns");
        assert_eq!(Unit::Time.text(1000.0), "1 us");
        assert_eq!(Unit::Time.text(2.5e10), "25 s");
        assert_eq!(Unit::Bytes.text(65536.0), "64 KiB");
        assert_eq!(Unit::Bytes.text(511.0), "511 B");
        assert_eq!(Unit::Rate.text(1.5e9), "1.5 GB/s");
        assert_eq!(Unit::Number.text(1e8), "100 M");
        assert_eq!(Unit::Number.text(7.0), "7");
        assert_eq!(Unit::Percent.text(99.9), "99.9 %");
    }
}

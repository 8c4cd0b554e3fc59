//! One way to draw: lines over logarithmic or plain axes, the legend beside them, as SVG and as PNG.
//!
//! All scaling is done here, onto plain numbers, so that there is one kind of coordinate system.

use std::{fs, ops::Range, path::Path, sync::Once};

use anyhow::{Context, anyhow};
use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    element::DashedPathElement,
    prelude::{
        BitMapBackend, ChartBuilder, Circle, Cross, DrawingArea, DrawingBackend, FontStyle, IntoDrawingArea,
        PathElement, RGBColor, Rectangle, SVGBackend, Text, TriangleMarker,
    },
    style::{Color, IntoFont, ShapeStyle, TextStyle, register_font},
};

use super::style::Unit;

/// Size of a figure in points; a PNG has as many pixels.
const SIZE: (u32, u32) = (1000, 600);

/// Width of the legend.
const LEGEND: u32 = 210;

/// A PNG is drawn so many times larger in each direction, and then averaged, which smooths its edges.
const OVERSAMPLING: u32 = 2;

/// Where Debian has the letters for it.
const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

/// How the values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    Plain,
    /// By their logarithm.
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// In which unit.
    pub unit: Unit,
    /// How.
    pub scale: Scale,
}

/// A line of points from left to right.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend; nothing for a line that is not in it.
    pub label: String,
    /// Its colour.
    pub color: RGBColor,
    /// Broken, not solid.
    pub dashed: bool,
    /// Whether each point has a mark.
    pub marked: bool,
    /// What there is.
    pub points: Vec<(f64, f64)>,
    /// For some of the points: least and greatest that is usual.
    pub spreads: Vec<(f64, f64, f64)>,
}

/// A figure.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Name of its files, without extension.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Under which circumstances, in small print.
    pub caption: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// Columns from the bottom, in place of lines.
    pub columns: bool,
}

/// Plain numbers, with the places where lines and labels are to be.
struct Ticks {
    range: Range<f64>,
    at: Vec<f64>,
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        first + (f64::from(last - first) * part).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.at.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

impl Axis {
    fn map(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Plain => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// First, last, and where numbers stand.
    fn range(&self, values: impl Iterator<Item = f64>) -> (f64, f64, Vec<f64>) {
        let usable = values.filter(|v| v.is_finite() && (self.scale == Scale::Plain || *v > 0.0));
        let (least, most) = usable.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let (least, most) = if least <= most { (least, most) } else { (1.0, 10.0) };
        match self.scale {
            Scale::Plain => {
                let step = match self.unit {
                    Unit::Bytes => 2f64.powf((most.max(1.0) / 6.0).log2().ceil()),
                    _ => nice_step(most.max(1e-9) / 6.0),
                };
                let end = (most / step).ceil() * step;
                (0.0, end, (0..).map(|i| f64::from(i) * step).take_while(|v| *v <= end).collect())
            }
            Scale::Log if self.unit == Unit::Bytes || self.unit == Unit::Mebibytes => {
                let ticks = (0..16).map(|power| 4f64.powi(power)).filter(|v| (least..=most).contains(v));
                (self.map(least / 1.3), self.map(most * 1.3), ticks.collect())
            }
            Scale::Log => {
                let narrow = most / least < 40.0;
                let parts: &[f64] = if narrow { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let decades = least.log10().floor() as i32 - 1..=most.log10().ceil() as i32;
                let ticks: Vec<f64> = decades
                    .flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)))
                    .collect();
                let first = ticks.iter().copied().filter(|t| *t <= least).fold(f64::NAN, f64::max);
                let last = ticks.iter().copied().filter(|t| *t >= most).fold(f64::NAN, f64::min);
                let (first, last) = (first.min(least), last.max(most));
                let shown = ticks.into_iter().filter(|t| (first..=last).contains(t)).collect();
                (self.map(first), self.map(last), shown)
            }
        }
    }

    fn text(&self, mapped: f64) -> String {
        self.unit.text(match self.scale {
            Scale::Plain => mapped,
            Scale::Log => 10f64.powf(mapped),
        })
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|part| part * power).find(|step| *step >= least).unwrap_or(least)
}

fn load_font() -> anyhow::Result<()> {
    static ONCE: Once = Once::new();
    let bytes = fs::read(FONT).with_context(|| {
        format!(
            "the figures need the font {FONT}: install the package fonts-dejavu-core, or run `casemate setup`"
        )
    })?;
    let mut result = Ok(());
    // Fonts stay for the life of the program, which draws and ends.
    ONCE.call_once(|| result = register_font("sans-serif", FontStyle::Normal, bytes.leak()).map_err(drop));
    result.map_err(|()| anyhow!("{FONT} is no font"))
}

impl Chart {
    /// Writes `NAME.svg` and `NAME.png`.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no font.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        load_font()?;
        let svg = dir.join(format!("{}.svg", self.name));
        self.draw(&SVGBackend::new(&svg, SIZE).into_drawing_area(), 1)
            .with_context(|| format!("cannot draw {}", svg.display()))?;
        let (width, height) = (SIZE.0 * OVERSAMPLING, SIZE.1 * OVERSAMPLING);
        let mut pixels = vec![255; (width * height * 3) as usize];
        {
            let backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
            self.draw(&backend.into_drawing_area(), OVERSAMPLING)
                .with_context(|| format!("cannot draw {}", self.name))?;
        }
        write_png(&dir.join(format!("{}.png", self.name)), &smooth(&pixels))
    }

    fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, plotters::coord::Shift>,
        scale: u32,
    ) -> anyhow::Result<()>
    where
        DB::ErrorType: 'static,
    {
        let s = |points: u32| (points * scale) as i32;
        let font = |points: u32| ("sans-serif", points * scale).into_font();
        let grey = RGBColor(90, 90, 90);
        area.fill(&RGBColor(255, 255, 255))?;
        area.draw(&Text::new(self.title.clone(), (s(20), s(14)), font(21)))?;
        let small = TextStyle::from(font(13)).color(&grey);
        area.draw(&Text::new(self.caption.clone(), (s(20), s(44)), small))?;

        let inner = area.margin(68 * scale, 8 * scale, 10 * scale, LEGEND * scale);
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right, x_ticks) = self.x.range(all().map(|p| p.0));
        let spreads = self.lines.iter().flat_map(|line| &line.spreads).flat_map(|s| [s.1, s.2]);
        let (bottom, top, y_ticks) = self.y.range(all().map(|p| p.1).chain(spreads));
        let x_ticks = if self.columns { Vec::new() } else { x_ticks };
        let right = if self.columns { right + 1.0 } else { right };
        let mapped =
            |axis: &Axis, ticks: Vec<f64>| ticks.into_iter().map(|t| axis.map(t)).collect::<Vec<_>>();
        let mut chart = ChartBuilder::on(&inner)
            .x_label_area_size(54 * scale)
            .y_label_area_size(88 * scale)
            .build_cartesian_2d(
                Ticks { range: left..right, at: mapped(&self.x, x_ticks) },
                Ticks { range: bottom..top, at: mapped(&self.y, y_ticks) },
            )?;
        chart
            .configure_mesh()
            .bold_line_style(RGBColor(222, 222, 222))
            .light_line_style(RGBColor(255, 255, 255).mix(0.0))
            .axis_style(ShapeStyle::from(grey).stroke_width(scale))
            .x_labels(30)
            .y_labels(30)
            .x_desc(self.x.label.clone())
            .y_desc(self.y.label.clone())
            .x_label_formatter(&|v| self.x.text(*v))
            .y_label_formatter(&|v| self.y.text(*v))
            .label_style(font(14))
            .axis_desc_style(font(15))
            .draw()?;

        let (legend_x, mut legend_y) = (s(SIZE.0 - LEGEND + 14), s(84));
        for (index, line) in self.lines.iter().enumerate() {
            let stroke = ShapeStyle::from(line.color).stroke_width(2 * scale);
            let thin = ShapeStyle::from(line.color.mix(0.45)).stroke_width(2 * scale);
            let at = |p: &(f64, f64)| (self.x.map(p.0), self.y.map(p.1));
            let points: Vec<_> = line.points.iter().map(at).collect();
            for (x, low, high) in &line.spreads {
                let ends = [at(&(*x, *low)), at(&(*x, *high))];
                chart.draw_series([PathElement::new(ends.to_vec(), thin)])?;
            }
            if self.columns {
                let half = (right - left) / (4.0 * self.lines.len().max(1) as f64);
                let columns = points
                    .iter()
                    .map(|(x, y)| Rectangle::new([(x - half, bottom), (x + half, *y)], line.color.filled()));
                chart.draw_series(columns)?;
            } else if line.dashed {
                let dashes = DashedPathElement::new(points.clone(), 7 * scale, 5 * scale, stroke);
                chart.draw_series([dashes])?;
            } else {
                chart.draw_series([PathElement::new(points.clone(), stroke)])?;
            }
            let size = s(4);
            if line.marked {
                let fill = line.color.filled();
                match index % 3 {
                    0 => drop(chart.draw_series(points.iter().map(|p| Circle::new(*p, size, fill)))?),
                    1 => drop(
                        chart
                            .draw_series(points.iter().map(|p| TriangleMarker::new(*p, size + s(2), fill)))?,
                    ),
                    _ => drop(chart.draw_series(points.iter().map(|p| Cross::new(*p, size, stroke)))?),
                }
            }
            if line.label.is_empty() {
                continue;
            }
            let key = vec![(legend_x, legend_y + s(8)), (legend_x + s(26), legend_y + s(8))];
            if line.dashed {
                area.draw(&DashedPathElement::new(key.clone(), 7 * scale, 5 * scale, stroke))?;
            } else {
                area.draw(&PathElement::new(key.clone(), stroke))?;
            }
            if line.marked {
                let (center, fill) = ((legend_x + s(13), legend_y + s(8)), line.color.filled());
                match index % 3 {
                    0 => area.draw(&Circle::new(center, size, fill))?,
                    1 => area.draw(&TriangleMarker::new(center, size + s(2), fill))?,
                    _ => area.draw(&Cross::new(center, size, stroke))?,
                }
            }
            area.draw(&Text::new(line.label.clone(), (legend_x + s(32), legend_y), font(13)))?;
            legend_y += s(24);
        }
        area.present()?;
        Ok(())
    }
}

/// The average of each square of pixels.
fn smooth(pixels: &[u8]) -> Vec<u8> {
    let n = OVERSAMPLING as usize;
    let (width, row) = (SIZE.0 as usize, (SIZE.0 * OVERSAMPLING * 3) as usize);
    let mut out = Vec::with_capacity(width * SIZE.1 as usize * 3);
    let mut sums = vec![0u16; width * 3];
    for rows in pixels.chunks_exact(row * n) {
        sums.fill(0);
        for row in rows.chunks_exact(row) {
            for (sum, square) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * n)) {
                for pixel in square.chunks_exact(3) {
                    for (sum, channel) in sum.iter_mut().zip(pixel) {
                        *sum += u16::from(*channel);
                    }
                }
            }
        }
        out.extend(sums.iter().map(|sum| (usize::from(*sum) / (n * n)) as u8));
    }
    out
}

fn write_png(path: &Path, pixels: &[u8]) -> anyhow::Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let file = fs::File::create(path).with_context(doing)?;
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().with_context(doing)?;
    writer.write_image_data(pixels).with_context(doing)?;
    writer.finish().with_context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(unit: Unit, scale: Scale) -> Axis {
        Axis { label: String::new(), unit, scale }
    }

    #[test]
    fn ranges_hold_all_values_and_some_numbers() {
        for (unit, scale) in
            [(Unit::Time, Scale::Log), (Unit::Bytes, Scale::Log), (Unit::Number, Scale::Plain)]
        {
            for values in [[4.0, 70_000.0], [3.0, 3.5], [250.0, 250.0], [1.0, 1e9]] {
                let axis = axis(unit, scale);
                let (first, last, ticks) = axis.range(values.into_iter());
                assert!(first <= axis.map(values[0]) && axis.map(values[1]) <= last, "{unit:?} {values:?}");
                assert!(first < last && ticks.len() < 25, "{unit:?} {values:?} {ticks:?}");
            }
        }
        let (first, last, _) = axis(Unit::Time, Scale::Log).range([f64::NAN, 0.0].into_iter());
        assert!(first.is_finite() && last.is_finite());
    }

    #[test]
    fn smoothing_keeps_size_and_flat_colours() {
        let pixels: Vec<u8> = [10, 20, 30].repeat((SIZE.0 * SIZE.1 * OVERSAMPLING * OVERSAMPLING) as usize);
        let smoothed = smooth(&pixels);
        assert_eq!(smoothed.len(), (SIZE.0 * SIZE.1 * 3) as usize);
        assert!(smoothed.chunks(3).all(|pixel| pixel == [10, 20, 30]));
    }

    #[test]
    fn steps_are_nice() {
        for (least, step) in [(0.7, 1.0), (1.3, 2.0), (30.0, 50.0), (6.0, 10.0), (10.0, 10.0)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}");
        }
    }
}

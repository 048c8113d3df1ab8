//! Draws plots as SVG: lines over a few labelled positions, in colours that are legible on light
//! and on dark backgrounds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::anyhow;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// The height of a line of the legend.
const ENTRY: f64 = 18.0;
/// Text, axes and grid: a grey that is legible on white and on black.
const INK: &str = "#7d8590";
const COLOURS: &[&str] = &["#2f81f7", "#d9730d", "#2da44e", "#a06be0", "#c4516c"];

/// How values map to the vertical axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear, starting at zero.
    Linear,
    /// Logarithmic, with ticks at powers of ten.
    Logarithmic,
}

/// One line of the plot.
pub(crate) struct Series {
    pub(crate) name: String,
    /// Whether this line is the baseline of the others: drawn in grey, with dashes.
    pub(crate) rival: bool,
    /// One value for each of the plot's positions.
    pub(crate) values: Vec<f64>,
}

/// A plot over a few positions at equal distances.
pub(crate) struct Plot {
    pub(crate) title: String,
    /// The label of the horizontal axis, with its unit.
    pub(crate) across: String,
    /// The labels of the positions.
    pub(crate) places: Vec<String>,
    /// The label of the vertical axis, with its unit.
    pub(crate) up: String,
    pub(crate) scale: Scale,
    pub(crate) series: Vec<Series>,
}

impl Plot {
    /// Writes the plot as `NAME.svg` into a directory.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        let path = folder.join(name).with_extension("svg");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, self.svg()))
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        println!("  drawn: {}", path.display());
        Ok(())
    }

    fn svg(&self) -> String {
        let ticks = self.ticks();
        let top = TOP + ENTRY * self.series.len().div_ceil(2) as f64;
        let frame = Frame {
            places: self.places.len(),
            from: self.along(ticks.first().copied().unwrap_or(0.0)),
            to: self.along(ticks.last().copied().unwrap_or(1.0)),
            top,
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\" \
             fill=\"{INK}\" role=\"img\">\n<title>{title}</title>\n\
             <text x=\"{LEFT}\" y=\"26\" font-size=\"16\">{title}</text>\n",
            title = escaped(&self.title),
        );
        self.axes(&mut svg, &frame, &ticks);
        for (n, series) in self.series.iter().enumerate() {
            self.line(&mut svg, &frame, n, series);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, frame: &Frame, ticks: &[f64]) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for &tick in ticks {
            let y = frame.y(self.along(tick));
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{INK}\" \
                 stroke-opacity=\"0.3\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.5,
                number(tick)
            );
        }
        for (n, place) in self.places.iter().enumerate() {
            let x = frame.x(n);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{:.1}\" \
                 stroke=\"{INK}\"/>\n<text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                bottom + 5.0,
                bottom + 20.0,
                escaped(place)
            );
        }
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"{INK}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 12.0,
            escaped(&self.across),
            (frame.top + bottom) / 2.0,
            escaped(&self.up)
        );
    }

    /// Draws a line with its markers and its entry in the legend.
    fn line(&self, svg: &mut String, frame: &Frame, n: usize, series: &Series) {
        let (colour, dashes) = match series.rival {
            true => (INK, " stroke-dasharray=\"6 4\""),
            false => (COLOURS[n % COLOURS.len()], ""),
        };
        let values = series.values.iter().enumerate();
        let places: Vec<(f64, f64)> = values
            .map(|(n, value)| (frame.x(n), frame.y(self.along(*value))))
            .collect();
        let path: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            );
        }
        let x = LEFT + (WIDTH - LEFT - RIGHT) / 2.0 * (n % 2) as f64;
        let y = TOP + ENTRY * (n / 2) as f64;
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{:.1}\" y2=\"{y}\" stroke=\"{colour}\" \
             stroke-width=\"2\"{dashes}/>\n<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 26.0,
            x + 34.0,
            y + 4.5,
            escaped(&series.name)
        );
    }

    /// Maps a value to the axis's scale.
    fn along(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// Returns the values of the ticks; the first and the last enclose all values.
    fn ticks(&self) -> Vec<f64> {
        let values = self.series.iter().flat_map(|series| &series.values);
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.copied().filter(|value| value.is_finite()) {
            least = least.min(value);
            most = most.max(value);
        }
        match self.scale {
            Scale::Linear => {
                let step = step(most / 5.0);
                let count = (most / step).ceil().max(1.0) as u32;
                (0..=count).map(|n| f64::from(n) * step).collect()
            }
            Scale::Logarithmic => {
                let least = least.clamp(f64::MIN_POSITIVE, most).log10().floor() as i32;
                let most = (most.log10().ceil() as i32).max(least + 1);
                (least..=most).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }
}

/// The area enclosed by the axes.
struct Frame {
    places: usize,
    from: f64,
    to: f64,
    top: f64,
}

impl Frame {
    fn x(&self, place: usize) -> f64 {
        // Half a step of padding on either side.
        let step = (WIDTH - LEFT - RIGHT) / self.places.max(1) as f64;
        LEFT + step * (place as f64 + 0.5)
    }

    fn y(&self, along: f64) -> f64 {
        let part = (along - self.from) / (self.to - self.from);
        let bottom = HEIGHT - BOTTOM;
        bottom - (bottom - self.top) * part.clamp(0.0, 1.0)
    }
}

/// Returns the smallest round number (1, 2 or 5 times a power of ten) that is at least `least`.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power)
}

/// Formats a number; from 1 on, without decimals and with commas between thousands.
fn number(value: f64) -> String {
    if value != 0.0 && value < 1.0 {
        return format!("{value}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a count with commas between thousands.
pub(crate) fn count(count: usize) -> String {
    number(count as f64)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

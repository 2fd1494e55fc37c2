//! Plots as SVG: axes, and lines of points.
//!
//! No fonts, scripts or files from elsewhere. Invariant: every point lies within the frame.

use std::fmt::Write as _;

/// How an axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten.
    Log,
}

/// An axis: its scale, its ticks with their labels, and its ends.
#[derive(Debug, Clone)]
pub struct Axis {
    /// How it runs.
    pub scale: Scale,
    /// What stands beside it.
    pub label: String,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Where marks stand, and what they say.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Even, from 0 to a round number above `high`.
    pub fn linear(label: &str, high: f64, text: fn(f64) -> String) -> Axis {
        let step = round_step(high.max(1e-9) / 5.0);
        let count = (high.max(1e-9) / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|i| (f64::from(i) * step, text(f64::from(i) * step)));
        Axis {
            scale: Scale::Linear,
            label: label.to_owned(),
            low: 0.0,
            high: count * step,
            ticks: ticks.collect(),
        }
    }

    /// Even, from 0 to just `high`: for what ends where it ends, such as time.
    pub fn exact(label: &str, high: f64, text: fn(f64) -> String) -> Axis {
        let mut axis = Axis::linear(label, high, text);
        axis.high = high.max(1e-9);
        axis.ticks.retain(|tick| tick.0 <= axis.high * 1.0001);
        axis
    }

    /// By powers of ten, around `low` and `high`, which are above 0.
    pub fn log(label: &str, low: f64, high: f64, text: fn(f64) -> String) -> Axis {
        let (from, to) = (low.max(1.0).log10().floor() as i32, high.max(2.0).log10().ceil() as i32);
        let to = to.max(from + 1);
        let ticks = (from..=to).map(|power| (10f64.powi(power), text(10f64.powi(power))));
        Axis {
            scale: Scale::Log,
            label: label.to_owned(),
            low: 10f64.powi(from),
            high: 10f64.powi(to),
            ticks: ticks.collect(),
        }
    }

    /// 0 at the lower end, 1 at the upper.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => {
                (value.max(self.low).log10() - self.low.log10())
                    / (self.high.log10() - self.low.log10())
            }
        };
        place.clamp(0.0, 1.0)
    }
}

fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let part = step / power;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|&round| part <= round * 1.0001);
    round.unwrap_or(10.0) * power
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A line.
    Plain,
    /// A broken line.
    Dashed,
    /// A line with a dot at each point, where there are few.
    Dotted,
    /// The area between this line and the next one in the list, which is not drawn itself.
    Band,
}

/// A line of points.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// A CSS colour.
    pub colour: &'static str,
    /// See [`Look`].
    pub look: Look,
    /// The points, by rising x.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 48.0;

/// The frame of a plot.
struct Frame<'a> {
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    const RIGHT_END: f64 = WIDTH - RIGHT;
    const BOTTOM_END: f64 = HEIGHT - BOTTOM;

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (Self::RIGHT_END - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        Self::BOTTOM_END - self.y.place(value) * (Self::BOTTOM_END - TOP)
    }

    fn points<'p>(&self, points: impl Iterator<Item = &'p (f64, f64)>) -> String {
        let text = |&(px, py): &(f64, f64)| format!("{:.1},{:.1}", self.x(px), self.y(py));
        points.map(text).collect::<Vec<_>>().join(" ")
    }
}

/// Draws a plot.
pub fn plot(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let frame = Frame { x, y };
    let mut out = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>");
    axes(&mut out, &frame);
    let mut legend = LEFT;
    let mut lines = lines.iter().filter(|line| !line.points.is_empty());
    while let Some(line) = lines.next() {
        let colour = line.colour;
        if line.look == Look::Band {
            let Some(upper) = lines.next() else { break };
            let points = frame.points(line.points.iter().chain(upper.points.iter().rev()));
            let _ = write!(
                out,
                "<polygon fill='{colour}' fill-opacity='.18' stroke='none' points='{points}'/>"
            );
        } else {
            draw(&mut out, &frame, line);
        }
        // A style, since the page's rule for text would win over an attribute.
        let name = escape(&line.name);
        let _ =
            write!(out, "<text x='{legend:.1}' y='18' style='fill:{colour}'>&#9632; {name}</text>");
        legend += 28.0 + 6.2 * line.name.len() as f64;
    }
    out.push_str("</svg>");
    out
}

fn axes(out: &mut String, frame: &Frame<'_>) {
    let (right, bottom) = (Frame::RIGHT_END, Frame::BOTTOM_END);
    for (value, text) in &frame.x.ticks {
        let at = frame.x(*value);
        let _ = write!(out, "<path class='grid' d='M{at:.1} {TOP}V{bottom}'/>");
        let _ = write!(
            out,
            "<text x='{at:.1}' y='{:.1}' text-anchor='middle'>{}</text>",
            bottom + 16.0,
            escape(text)
        );
    }
    for (value, text) in &frame.y.ticks {
        let at = frame.y(*value);
        let _ = write!(out, "<path class='grid' d='M{LEFT} {at:.1}H{right}'/>");
        let _ = write!(
            out,
            "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
            LEFT - 6.0,
            at + 4.0,
            escape(text)
        );
    }
    let _ = write!(
        out,
        "<text x='{:.1}' y='{:.1}' text-anchor='middle'>{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 10.0,
        escape(&frame.x.label)
    );
    let middle = (TOP + bottom) / 2.0;
    let _ = write!(
        out,
        "<text transform='translate(14 {middle:.1}) rotate(-90)' text-anchor='middle'>{}</text>",
        escape(&frame.y.label)
    );
}

fn draw(out: &mut String, frame: &Frame<'_>, line: &Line) {
    let colour = line.colour;
    let dash = if line.look == Look::Dashed { " stroke-dasharray='6 5'" } else { "" };
    let points = frame.points(line.points.iter());
    let _ = write!(
        out,
        "<polyline fill='none' stroke='{colour}' stroke-width='2'{dash} points='{points}'/>"
    );
    if line.look == Look::Dotted || line.points.len() == 1 {
        for &(px, py) in &line.points {
            let (cx, cy) = (frame.x(px), frame.y(py));
            let _ = write!(out, "<circle cx='{cx:.1}' cy='{cy:.1}' r='3' fill='{colour}'/>");
        }
    }
}

/// Text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_frame() {
        let text = |value: f64| value.to_string();
        let x = Axis::linear("load", 97.0, text);
        let y = Axis::log("ns", 900.0, 2e6, text);
        assert_eq!((x.high, y.low, y.high), (100.0, 100.0, 1e7));
        let line = Line {
            name: "a<b".to_owned(),
            colour: "#000",
            look: Look::Plain,
            points: vec![(0.0, 1.0), (50.0, 1e5), (500.0, 1e12)],
        };
        let svg = plot(&x, &y, &[line]);
        let points = svg.split("points='").nth(1).and_then(|rest| rest.split('\'').next());
        for point in points.expect("a line").split(' ') {
            let (px, py) = point.split_once(',').expect("a pair");
            let (px, py): (f64, f64) = (px.parse().expect("x"), py.parse().expect("y"));
            assert!((LEFT..=WIDTH - RIGHT).contains(&px) && (TOP..=HEIGHT - BOTTOM).contains(&py));
        }
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>"));
    }
}

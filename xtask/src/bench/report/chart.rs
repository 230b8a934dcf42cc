//! A chart of grouped bars, as SVG.

use std::fmt::Write;

use super::style;
use super::tables::number;

/// What is drawn.
pub struct Chart<'a> {
    pub title: &'a str,
    pub note: &'a str,
    /// Names, each with the number of its colour.
    pub series: Vec<(usize, String)>,
    /// A label, and a value for each series; None where nothing was measured.
    pub groups: Vec<(String, Vec<Option<f64>>)>,
    /// What is less is drawn as nothing: the bottom of a logarithmic scale, which has no nought.
    pub least: f64,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 430.0;
/// Of the plot.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 950.0;
const TOP: f64 = 128.0;
const BOTTOM: f64 = 372.0;
/// Of values, from which on the scale is logarithmic.
const SPAN: f64 = 20.0;

/// Where a value is on the way up, from 0 to 1.
enum Scale {
    Linear(f64),
    /// From and to, powers of ten.
    Logarithmic(i32, i32),
}

impl Scale {
    fn of(chart: &Chart<'_>) -> Self {
        let values = || chart.groups.iter().flat_map(|(_, v)| v).flatten().copied().filter(|v| *v >= chart.least);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(chart.least, f64::max));
        if most / least <= SPAN || !least.is_finite() {
            return Self::Linear(nice(most));
        }
        // The smallest one is to be seen as a bar, too.
        Self::Logarithmic((least / 1.6).log10().floor() as i32, most.log10().ceil() as i32)
    }

    fn place(&self, value: f64) -> f64 {
        match *self {
            Self::Linear(top) => value / top,
            Self::Logarithmic(from, to) => (value.log10() - f64::from(from)) / f64::from(to - from),
        }
        .clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match *self {
            Self::Linear(top) => (0..=5).map(|i| top * f64::from(i) / 5.0).collect(),
            Self::Logarithmic(from, to) => (from..=to).map(|power| 10f64.powi(power)).collect(),
        }
    }
}

/// The next number that is 1, 2 or 5 with noughts.
fn nice(most: f64) -> f64 {
    let power = 10f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= most).unwrap_or(most)
}

/// Text for XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A tick's number, without digits that are noughts.
fn tick(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => format!("{}", (v * 1000.0).round() / 1000.0),
    }
}

impl Chart<'_> {
    /// The figure, as a file by itself. Strings are written to, which cannot fail.
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n<style>{}</style>\n\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n<text class=\"title\" x=\"10\" y=\"24\">{}</text>\n",
            escaped(self.title),
            style::figure(),
            escaped(self.title)
        );
        let scale = Scale::of(self);
        let kind = if matches!(scale, Scale::Logarithmic(..)) { "; logarithmic scale" } else { "" };
        let _ = writeln!(out, "<text class=\"note\" x=\"10\" y=\"44\">{}{kind}</text>", escaped(self.note));
        self.key(&mut out);
        let y = |value| BOTTOM - (BOTTOM - TOP) * scale.place(value);
        for value in scale.ticks() {
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text class=\"tick\" x=\"{1}\" y=\"{2:.1}\" \
                 text-anchor=\"end\">{3}</text>",
                y(value),
                LEFT - 8.0,
                y(value) + 4.0,
                tick(value)
            );
        }
        let width = (RIGHT - LEFT) / self.groups.len().max(1) as f64;
        let bar = (width * 0.86 / self.series.len().max(1) as f64).min(28.0);
        for (i, (label, values)) in self.groups.iter().enumerate() {
            let middle = LEFT + width * (i as f64 + 0.5);
            let start = middle - bar * values.len() as f64 / 2.0;
            for (series, value) in values.iter().enumerate() {
                let left = start + bar * series as f64;
                self.bar(&mut out, series, left, bar, *value, &y);
            }
            labels(&mut out, label, middle, width);
        }
        let _ = writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\n</svg>");
        out
    }

    /// One bar, and its value along it.
    fn bar(&self, out: &mut String, series: usize, left: f64, width: f64, value: Option<f64>, y: &dyn Fn(f64) -> f64) {
        let (top, text) = match value {
            None => (BOTTOM, "not measured".to_string()),
            Some(value) if value < self.least => (BOTTOM, "0".to_string()),
            Some(value) => (y(value).min(BOTTOM - 1.0), number(value)),
        };
        if let Some((colour, name)) = self.series.get(series).filter(|_| top < BOTTOM) {
            let _ = write!(
                out,
                "<rect class=\"s{colour}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {text}</title></rect>",
                left + 0.75,
                width - 1.5,
                BOTTOM - top,
                escaped(name)
            );
        }
        let (x, y) = (left + width / 2.0 + 3.8, top - 5.0);
        let _ = writeln!(out, "<text class=\"value\" x=\"{x:.1}\" y=\"{y:.1}\" transform=\"rotate(-90 {x:.1} {y:.1})\">{text}</text>");
    }

    /// Which colour is whose.
    fn key(&self, out: &mut String) {
        let mut x = 10.0;
        for (i, name) in &self.series {
            let _ = writeln!(
                out,
                "<rect class=\"s{i}\" x=\"{x}\" y=\"57\" width=\"12\" height=\"12\" rx=\"2\"/><text class=\"key\" x=\"{}\" y=\"68\">{}</text>",
                x + 18.0,
                escaped(name)
            );
            x += 40.0 + 8.0 * name.chars().count() as f64;
        }
    }
}

/// A group's label, in as many lines as it takes.
fn labels(out: &mut String, label: &str, middle: f64, width: f64) {
    let room = (width / 7.0) as usize;
    let mut lines = vec![String::new()];
    for word in label.split(' ') {
        let full = lines.last().is_some_and(|l| !l.is_empty() && l.len() + 1 + word.len() > room);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    for (i, line) in lines.iter().enumerate() {
        let y = BOTTOM + 18.0 + 15.0 * i as f64;
        let _ = writeln!(out, "<text class=\"label\" x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escaped(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>) -> Chart<'static> {
        let series = values.iter().enumerate().map(|(i, _)| (i, format!("<{i}>"))).collect();
        Chart { title: "a & b", note: "each time", series, groups: vec![("some work".into(), values)], least: 0.5 }
    }

    #[test]
    fn far_apart_counts_have_a_logarithmic_scale() {
        assert!(matches!(Scale::of(&chart(vec![Some(1.0), Some(19.0)])), Scale::Linear(20.0)));
        assert!(matches!(Scale::of(&chart(vec![Some(1.0), Some(250.0), Some(0.0)])), Scale::Logarithmic(-1, 3)));
        assert!(matches!(Scale::of(&chart(vec![None, Some(0.0)])), Scale::Linear(_)));
    }

    #[test]
    fn a_bar_is_as_high_as_its_value() {
        let scale = Scale::Logarithmic(0, 4);
        assert_eq!([1.0, 100.0, 10_000.0, 0.1].map(|v| scale.place(v)), [0.0, 0.5, 1.0, 0.0]);
        assert_eq!(Scale::Linear(50.0).place(25.0), 0.5);
    }

    #[test]
    fn nothing_is_drawn_for_nought_and_for_what_is_not_known() {
        let svg = chart(vec![Some(0.0), None, Some(3.0)]).svg();
        assert_eq!(svg.matches("<title>").count(), 1);
        assert!(svg.contains(">0</text>") && svg.contains(">not measured</text>") && svg.contains(">3.0</text>"));
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;0&gt;") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}

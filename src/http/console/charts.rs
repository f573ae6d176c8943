//! Charts as SVG. Their colours come from the style sheet, so that they follow the light or dark mode.

use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::series::{AreaSeries, LineSeries};
use plotters::style::{BLACK, Color};

use super::page::short_time;
use crate::control::time_text::shown_time;
use crate::domain::value_series::ValueSeries;

type DrawError = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

/// Size of a chart; pages scale it.
const SIZE: (u32, u32) = (360, 90);

/// Least minutes of a chart, for a process that has just been started.
const MIN_MINUTES: u32 = 10;

/// A chart with its numbers in words.
pub(super) struct Chart {
    pub(super) name: &'static str,
    /// The class of its colour.
    pub(super) class: &'static str,
    pub(super) svg: String,
    /// Number in the last hour.
    pub(super) total: String,
    /// Highest number of a minute.
    pub(super) peak: String,
}

impl Chart {
    /// Draws the numbers of the last minutes, the oldest first. The current minute only counts.
    pub(super) fn new(name: &'static str, class: &'static str, minutes: &[u64]) -> Self {
        let peak = minutes.iter().copied().max().unwrap_or_default();
        Self {
            name,
            class,
            // A chart that cannot be drawn leaves the numbers.
            svg: draw(minutes, peak.max(1)).unwrap_or_default(),
            total: grouped(minutes.iter().sum()),
            peak: grouped(peak),
        }
    }
}

/// The values of an attribute over time.
pub(super) struct ValueChart {
    pub(super) name: String,
    pub(super) svg: String,
    /// The last value as it is stored.
    pub(super) last: String,
    pub(super) lowest: String,
    pub(super) highest: String,
    /// The number of values, in words.
    pub(super) values: String,
    /// Times of the first and the last value.
    pub(super) from: String,
    pub(super) until: String,
}

impl ValueChart {
    pub(super) fn new(series: ValueSeries) -> Self {
        let values = || series.points.iter().map(|(_, value)| *value);
        let (low, high) = values()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let time = |point: Option<&(i64, f64)>| {
            point.map(|(at_us, _)| short_time(&shown_time(*at_us))).unwrap_or_default()
        };
        Self {
            svg: draw_line(&series.points, (low, high)).unwrap_or_default(),
            lowest: number_text(low),
            highest: number_text(high),
            values: counted(series.points.len() as u64, "message"),
            from: time(series.points.first()),
            until: time(series.points.last()),
            name: series.name,
            last: series.last,
        }
    }
}

/// A number with few digits. Its exact text is the last value.
fn number_text(number: f64) -> String {
    if number != 0.0 && !(1e-3..1e9).contains(&number.abs()) {
        return format!("{number:.2e}");
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Draws values over time. Both are brought into the range from 0 to 1, which holds all differences of doubles.
fn draw_line(points: &[(i64, f64)], (low, high): (f64, f64)) -> Result<String, DrawError> {
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
        return Ok(String::new());
    };
    #[allow(clippy::cast_precision_loss, reason = "places on a chart")]
    let share_of_time =
        |at: i64| at.saturating_sub(*first) as f64 / last.saturating_sub(*first).max(1) as f64;
    let height = high / 2.0 - low / 2.0;
    let share_of_height = |value: f64| if height > 0.0 { (value / 2.0 - low / 2.0) / height } else { 0.5 };
    let mut line: Vec<(f64, f64)> =
        points.iter().map(|(at, value)| (share_of_time(*at), share_of_height(*value))).collect();
    if let [(_, height)] = line[..] {
        line = vec![(0.0, height), (1.0, height)];
    }
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area).margin(4).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    chart.draw_series(LineSeries::new(line, BLACK))?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(svg)
}

fn draw(minutes: &[u64], peak: u64) -> Result<String, DrawError> {
    let complete = minutes.len().saturating_sub(1).max(1);
    let drawn = u32::try_from(complete).unwrap_or(u32::MAX);
    let width = drawn.max(MIN_MINUTES);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area).margin(2).build_cartesian_2d(0..width - 1, 0..peak)?;
    // A line needs two points. Before the first minute there was nothing.
    let before = u32::from(drawn < width);
    let numbers = (0..before).map(|_| 0).chain(minutes.iter().copied());
    let points = (width - drawn - before..width).zip(numbers);
    chart.draw_series(AreaSeries::new(points, 0, BLACK.mix(0.2)).border_style(BLACK))?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(svg)
}

/// A number of things, such as `1 post` or `1,200 posts`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

/// A number with separators.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn values_of_any_size_are_drawn() {
        for points in [
            vec![(0, 1.0)],
            vec![(0, 0.0), (1, 0.0)],
            vec![(i64::MIN, f64::MIN), (0, 0.0), (i64::MAX, f64::MAX)],
            (0..300).map(|at| (i64::from(at), f64::from(at % 7))).collect(),
        ] {
            let series = ValueSeries { name: "a".to_owned(), points, last: "1".to_owned() };
            let ValueChart { svg, .. } = ValueChart::new(series);
            assert!(svg.contains("<polyline") && !svg.contains("style="), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let texts = [0.0, 21.5, -0.25, 1_000.0, 1e12, 0.000_01].map(number_text);
        assert_eq!(texts, ["0", "21.5", "-0.25", "1000", "1.00e12", "1.00e-5"]);
    }

    #[test]
    fn charts_are_drawn_without_styles_of_their_own() {
        for minutes in [&[][..], &[0], &[1, 2, 3], &[7; 60], &[u64::MAX / 100; 60]] {
            let Chart { svg, .. } = Chart::new("Stored", "stored", minutes);
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(!svg.contains("style=") && !svg.contains("<script"), "{svg}");
        }
        let Chart { total, peak, .. } = Chart::new("Stored", "stored", &[1_000, 20]);
        assert_eq!((total.as_str(), peak.as_str()), ("1,020", "1,000"));
    }
}

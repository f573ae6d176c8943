//! Charts as SVG. Their colours are those of the style sheet, so that they follow the light or dark mode.

use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::prelude::SVGBackend;
use plotters::series::AreaSeries;
use plotters::style::{BLACK, Color};

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

fn draw(
    minutes: &[u64],
    peak: u64,
) -> Result<String, DrawingAreaErrorKind<<SVGBackend<'static> as plotters::prelude::DrawingBackend>::ErrorType>>
{
    let complete = minutes.len().saturating_sub(1).max(1);
    let drawn = u32::try_from(complete).unwrap_or(u32::MAX);
    let width = drawn.max(MIN_MINUTES);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area).margin(2).build_cartesian_2d(0..width - 1, 0..peak)?;
    let points = (width - drawn..width).zip(minutes.iter().copied());
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

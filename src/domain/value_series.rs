//! Numeric attributes of stored messages over time, for charts.

use std::collections::BTreeMap;

/// Most attributes of a flow that are shown.
const MAX_SERIES: usize = 12;

/// Most points of a series, the newest ones.
const MAX_POINTS: usize = 300;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// When the message was received: microseconds since 1970, UTC.
    pub at_us: i64,
    /// Name of the attribute.
    pub name: String,
    /// The value as it is stored.
    pub text: String,
}

/// The numbers of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueSeries {
    /// Name of the attribute.
    pub name: String,
    /// Time and value, the oldest first. At least one.
    pub points: Vec<(i64, f64)>,
    /// The last value as it is stored.
    pub last: String,
}

/// The series of the attributes whose values are all numbers or nothing, by name. `values` begin with the newest.
#[must_use]
pub fn numeric_series(values: &[StoredValue]) -> Vec<ValueSeries> {
    let mut by_name: BTreeMap<&str, Option<ValueSeries>> = BTreeMap::new();
    for StoredValue { at_us, name, text } in values {
        if matches!(text.as_str(), "None" | "null") {
            continue;
        }
        let series = by_name.entry(name).or_insert_with(|| {
            Some(ValueSeries { name: name.clone(), points: Vec::new(), last: text.clone() })
        });
        match (number(text), series) {
            (Some(number), Some(series)) if series.points.len() < MAX_POINTS => {
                series.points.push((*at_us, number));
            }
            (Some(_), _) => {}
            (None, series) => *series = None,
        }
    }
    let mut found: Vec<ValueSeries> = by_name.into_values().flatten().take(MAX_SERIES).collect();
    for series in &mut found {
        series.points.reverse();
    }
    found
}

/// A number as JSON writes it, within the range of a double.
fn number(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(at_us: i64, name: &str, text: &str) -> StoredValue {
        StoredValue { at_us, name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn numbers_become_series() {
        let values = [
            value(3, "t", "21.5"),
            value(3, "room", "attic"),
            value(2, "t", "None"),
            value(2, "room", "7"),
            value(1, "t", "-1e2"),
        ];
        let expected = ValueSeries {
            name: "t".to_owned(),
            points: vec![(1, -100.0), (3, 21.5)],
            last: "21.5".to_owned(),
        };
        assert_eq!(numeric_series(&values), [expected]);
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "inf", "NaN", "1e999", "True", "+1", ".5", "1 2", "0x10"] {
            assert_eq!(numeric_series(&[value(1, "a", text)]), [], "{text}");
        }
    }

    #[test]
    fn series_are_bounded() {
        let values: Vec<StoredValue> = (0..1_000).rev().map(|at| value(at, "a", "1")).collect();
        let [series] = &numeric_series(&values)[..] else { return assert!(values.is_empty()) };
        assert_eq!((series.points.len(), series.points.last()), (MAX_POINTS, Some(&(999, 1.0))));
        let many: Vec<StoredValue> = (0..50).map(|n| value(1, &format!("a{n}"), "1")).collect();
        assert_eq!(numeric_series(&many).len(), MAX_SERIES);
    }
}

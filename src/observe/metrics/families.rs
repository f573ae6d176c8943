//! Encoder for metric families: a name, a help text, and a value for each label set.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::histogram::Histogram;

/// Ordered labels of one value.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Encodes one family after the other.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// Encodes counters. The encoder appends `_total` to the name.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, values)
    }

    /// Encodes a counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Labels::new(), value)])
    }

    /// Encodes gauges.
    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// Encodes a gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    /// Encodes integer gauges, whose values may exceed the exact range of floating point numbers.
    pub(super) fn numbers<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, i64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// Encodes histograms.
    pub(super) fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in values {
            let (sum, count, buckets) = (histogram.sum(), histogram.count(), histogram.buckets());
            if labels.is_empty() {
                family.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
            } else {
                let mut one = family.encode_family(&labels)?;
                one.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn family<'l, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels<'l>, M)>,
    ) -> fmt::Result {
        for_each(self.0.encode_descriptor(name, help, None, kind)?, values)
    }
}

fn for_each<'l, M: EncodeMetric>(
    mut family: prometheus_client::encoding::MetricEncoder<'_>,
    values: impl IntoIterator<Item = (Labels<'l>, M)>,
) -> fmt::Result {
    for (labels, value) in values {
        // A family without labels has exactly one value.
        if labels.is_empty() {
            return value.encode(family);
        }
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Converts a flag to 1 or 0.
pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// Converts a count to a gauge value.
#[allow(clippy::cast_precision_loss, reason = "counts above 2^53 need not be exact")]
pub(super) fn amount(count: u64) -> f64 {
    count as f64
}

/// Converts a duration to seconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

//! Writes families of metrics: a name, what it means, and a value for each set of labels.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::histogram::Histogram;

/// Labels of one value, in order.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Takes families one after the other.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// Counts that only rise. `_total` is added to the name.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, values)
    }

    /// A count without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Labels::new(), value)])
    }

    /// Values that rise and fall.
    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// A value without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    /// Whole numbers, which may be larger than what a floating point number holds.
    pub(super) fn numbers<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, i64)>,
    ) -> fmt::Result {
        let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// Distributions.
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
        // A value without labels is written without braces, and has none beside it.
        if labels.is_empty() {
            return value.encode(family);
        }
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// One for yes, zero for no.
pub(super) fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// As a number of Prometheus.
#[allow(clippy::cast_precision_loss, reason = "more than 2^53 of anything is not told apart")]
pub(super) fn amount(count: u64) -> f64 {
    count as f64
}

/// In seconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

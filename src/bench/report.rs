//! The result of a measurement, and its output as JSON or as a table.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::bounds::Bounds;
use super::latency::Percentiles;
use super::options::BenchOptions;
use super::run::Measurement;
use super::usage::Usage;
use crate::domain::flow::FLOW_ACTION_STORE_DB;

/// Result of a measurement. The field names are the keys of the JSON object and must not change.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct BenchReport {
    // Options of the measurement.
    pub(super) action: &'static str,
    pub(super) messages: u64,
    pub(super) flows: u64,
    pub(super) qos: u8,
    pub(super) attributes: u32,
    /// The inbox was filled first; rate and time refer to the draining.
    pub(super) backlog: bool,
    /// `None` is full speed.
    pub(super) asked_messages_per_second: Option<f64>,
    // Environment.
    pub(super) gateway_version: &'static str,
    pub(super) database: String,
    pub(super) broker: String,
    pub(super) mqtt_version: String,
    pub(super) cores: usize,
    // Results.
    pub(super) messages_through: u64,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    pub(super) latency_samples: u64,
    pub(super) latency_p50_ms: Option<f64>,
    pub(super) latency_p99_ms: Option<f64>,
    pub(super) latency_p999_ms: Option<f64>,
    pub(super) latency_max_ms: Option<f64>,
    pub(super) cpu_us_per_message: f64,
    pub(super) peak_memory_bytes: u64,
    pub(super) transactions: Option<u64>,
    pub(super) messages_per_transaction: Option<f64>,
    /// Number of repeated posts.
    pub(super) posts_repeated: Option<u64>,
    pub(super) idle_cpu_percent: Option<f64>,
    // Limits of the machine.
    pub(super) limit_database_messages_per_second: Option<f64>,
    pub(super) limit_outbox_messages_per_second: Option<f64>,
    pub(super) limit_broker_messages_per_second: Option<f64>,
    pub(super) limit_post_messages_per_second: Option<f64>,
    /// Combined limit of all parts.
    pub(super) bound_messages_per_second: Option<f64>,
    pub(super) share_of_bound: Option<f64>,
    /// Median time of a commit of one row.
    pub(super) commit_p50_ms: Option<f64>,
    /// 99th percentile of the time of a commit of one row.
    pub(super) commit_p99_ms: Option<f64>,
    pub(super) latency_p50_commits: Option<f64>,
    pub(super) latency_p99_commits: Option<f64>,
    /// Violated expectations; empty if there are none.
    pub(super) problems: Vec<String>,
}

impl BenchReport {
    /// Creates a report with the options of the measurement.
    pub(super) fn new(options: &BenchOptions) -> Self {
        Self {
            action: options.action,
            messages: options.messages,
            flows: options.flows,
            qos: options.qos,
            attributes: options.attributes,
            backlog: options.backlog,
            asked_messages_per_second: options.rate,
            gateway_version: env!("CARGO_PKG_VERSION"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            ..Self::default()
        }
    }

    /// Sets the observed throughput and latencies.
    pub(super) fn set_measurement(&mut self, measurement: &Measurement) {
        self.messages_through = measurement.through;
        self.seconds = rounded(measurement.took.as_secs_f64(), 3);
        self.messages_per_second = per(measurement.timed, measurement.took.as_secs_f64());
        // Counters do not show which message was lost. After a loss, the latencies of stored messages are unknown.
        if measurement.through >= self.messages || self.action != FLOW_ACTION_STORE_DB {
            self.set_latencies(measurement.latencies);
        }
    }

    fn set_latencies(&mut self, latencies: Option<Percentiles>) {
        let Some(latencies) = latencies else { return };
        let ms = |latency: Duration| Some(rounded(latency.as_secs_f64() * 1e3, 3));
        self.latency_samples = latencies.samples;
        self.latency_p50_ms = ms(latencies.p50);
        self.latency_p99_ms = ms(latencies.p99);
        self.latency_p999_ms = ms(latencies.p999);
        self.latency_max_ms = ms(latencies.max);
    }

    /// Sets the resource usage from the values before the first message and after the last.
    pub(super) fn set_usage(&mut self, before: Usage, after: Usage) {
        let cpu = after.cpu.saturating_sub(before.cpu);
        #[allow(clippy::cast_precision_loss, reason = "2^53 messages are never published")]
        let messages = self.messages_through as f64;
        self.cpu_us_per_message =
            if messages > 0.0 { rounded(cpu.as_secs_f64() * 1e6 / messages, 1) } else { 0.0 };
        self.peak_memory_bytes = after.peak_memory_bytes;
    }

    /// Sets the number of transactions from the gateway's own counts before and after.
    pub(super) fn set_transactions(&mut self, before: Option<u64>, after: Option<u64>) {
        let Some(transactions) = after.zip(before).map(|(after, before)| after.saturating_sub(before)) else {
            return;
        };
        self.transactions = Some(transactions);
        #[allow(clippy::cast_precision_loss, reason = "2^53 transactions are never committed")]
        let count = transactions as f64;
        self.messages_per_transaction = (transactions > 0).then(|| per(self.messages_through, count));
    }

    /// Sets the CPU usage of the idle gateway.
    pub(super) fn set_idle(&mut self, percent: f64) {
        self.idle_cpu_percent = Some(rounded(percent, 2));
    }

    /// Sets the limits of the machine. Must be called last, because it compares them with the results.
    pub(super) fn set_bounds(&mut self, bounds: &Bounds) {
        let whole = |rate: Option<f64>| rate.map(|rate| rounded(rate, 0));
        self.limit_database_messages_per_second = whole(bounds.database);
        self.limit_outbox_messages_per_second = whole(bounds.outbox);
        self.limit_broker_messages_per_second = whole(bounds.broker);
        self.limit_post_messages_per_second = whole(bounds.post);
        let together = bounds.together();
        self.bound_messages_per_second = whole(together);
        self.share_of_bound = together.map(|bound| rounded(self.messages_per_second / bound, 3));
        let commit_ms = bounds.commit.map(|seconds| seconds * 1e3);
        self.commit_p50_ms = commit_ms.map(|ms| rounded(ms, 3));
        self.commit_p99_ms = bounds.commit_p99.map(|seconds| rounded(seconds * 1e3, 3));
        let in_commits = |latency: Option<f64>| Some(rounded(latency? / commit_ms?, 2));
        self.latency_p50_commits = in_commits(self.latency_p50_ms);
        self.latency_p99_commits = in_commits(self.latency_p99_ms);
    }

    /// Prints the report for machines: one JSON object on one line.
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string(self)?)
    }

    /// Prints the report for people: a line for each figure.
    pub(super) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let lines = self.lines();
        let width = lines.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        for (what, figure) in lines {
            writeln!(out, "{what:<width$}  {figure}")?;
        }
        for problem in &self.problems {
            writeln!(out, "WRONG  {problem}")?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("measured", self.what())];
        lines.push(("with", self.with()));
        lines
            .push(("rate", format!("{} messages/s in {} s", figure(self.messages_per_second), self.seconds)));
        if let Some(((p50, p99), (p999, max))) =
            self.latency_p50_ms.zip(self.latency_p99_ms).zip(self.latency_p999_ms.zip(self.latency_max_ms))
        {
            lines.push(("latency", format!("p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms")));
        }
        lines.push(("gateway's CPU", format!("{} µs a message", self.cpu_us_per_message)));
        lines.push(("gateway's memory", format!("{} MiB at most", mebibytes(self.peak_memory_bytes))));
        if let Some(each) = self.messages_per_transaction {
            lines.push(("a transaction", format!("{each} messages")));
        }
        if let Some(repeated) = self.posts_repeated.filter(|repeated| *repeated > 0) {
            lines.push(("posted twice", format!("{repeated} messages")));
        }
        if let Some(percent) = self.idle_cpu_percent {
            lines.push(("idle", format!("{percent} % of a core")));
        }
        lines.extend(self.bound_lines());
        if self.messages_through < self.messages && self.qos == 0 {
            let lost = self.messages - self.messages_through;
            lines.push(("lost", format!("{lost} messages: at QoS 0 the broker may drop messages")));
        }
        lines
    }

    fn bound_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let limits = [
            ("database", self.limit_database_messages_per_second),
            ("outbox rows", self.limit_outbox_messages_per_second),
            ("broker", self.limit_broker_messages_per_second),
            ("HTTP client", self.limit_post_messages_per_second),
        ];
        for (what, limit) in limits {
            if let Some(limit) = limit {
                lines.push(("limit", format!("{} messages/s by the {what} alone", figure(limit))));
            }
        }
        if let Some((bound, share)) = self.bound_messages_per_second.zip(self.share_of_bound) {
            let percent = rounded(share * 100.0, 1);
            lines.push((
                "bound",
                format!("{} messages/s, of which the gateway reaches {percent} %", figure(bound)),
            ));
        }
        if let Some(commit) = self.commit_p50_ms {
            let each =
                |commits: Option<f64>| commits.map_or_else(|| "?".to_owned(), |commits| commits.to_string());
            let (p50, p99) = (each(self.latency_p50_commits), each(self.latency_p99_commits));
            let slow = self.commit_p99_ms.map_or_else(String::new, |ms| format!(", {ms} ms at p99"));
            let what = format!(
                "{commit} ms for one row at the median{slow}; latency p50 is {p50} medians, p99 {p99}"
            );
            lines.push(("bare commit", what));
        }
        lines
    }

    fn what(&self) -> String {
        let Self { action, messages, flows, qos, attributes, .. } = self;
        let pace = self.asked_messages_per_second;
        let pace = match pace {
            None if self.backlog => "drained from the inbox".to_owned(),
            None => "at full speed".to_owned(),
            Some(rate) => format!("at {rate} messages/s"),
        };
        format!(
            "{action}, {messages} messages of {attributes} attributes over {flows} flows at QoS {qos}, {pace}"
        )
    }

    fn with(&self) -> String {
        let Self { gateway_version, database, broker, mqtt_version, cores, .. } = self;
        format!("mqtt-gateway {gateway_version}, {database}, {broker} (MQTT {mqtt_version}), {cores} cores")
    }
}

/// Returns the ratio, rounded to a tenth.
pub(super) fn per(count: u64, of: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "2^53 is never reached")]
    let count = count as f64;
    if of > 0.0 { rounded(count / of, 1) } else { 0.0 }
}

/// Rounds to this number of decimal places.
pub(super) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

fn mebibytes(bytes: u64) -> f64 {
    per(bytes, 1_048_576.0)
}

/// Formats a number with thousands separators, such as `12,345`.
fn figure(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut figure = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            figure.push(',');
        }
        figure.push(digit);
    }
    figure
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn measurement(through: u64, took: Duration) -> Measurement {
        Measurement { through, timed: through, took, latencies: None }
    }

    #[test]
    fn share_refers_to_the_combined_limit() {
        let mut report = BenchReport {
            messages_per_second: 16_000.0,
            latency_p99_ms: Some(9.0),
            ..BenchReport::default()
        };
        let (database, broker) = (Some(60_000.0), Some(30_000.0));
        report.set_bounds(&Bounds { database, broker, commit: Some(0.003), ..Bounds::default() });
        assert_eq!((report.bound_messages_per_second, report.share_of_bound), (Some(20_000.0), Some(0.8)));
        assert_eq!((report.latency_p50_commits, report.latency_p99_commits), (None, Some(3.0)));
    }

    #[test]
    fn figures_refer_to_completed_messages() {
        let mut report = BenchReport { messages: 1_000, ..BenchReport::default() };
        report.set_measurement(&measurement(800, Duration::from_millis(1_600)));
        let usage = |cpu_ms| Usage { cpu: Duration::from_millis(cpu_ms), peak_memory_bytes: 1 << 20 };
        report.set_usage(usage(500), usage(540));
        report.set_transactions(Some(2), Some(22));
        assert_eq!((report.messages_per_second, report.seconds), (500.0, 1.6));
        assert_eq!((report.cpu_us_per_message, report.peak_memory_bytes), (50.0, 1 << 20));
        assert_eq!((report.transactions, report.messages_per_transaction), (Some(20), Some(40.0)));
    }

    #[test]
    fn zero_messages_cause_no_division() {
        let mut report = BenchReport::default();
        report.set_measurement(&measurement(0, Duration::ZERO));
        let usage = Usage { cpu: Duration::ZERO, peak_memory_bytes: 0 };
        report.set_usage(usage, usage);
        report.set_transactions(Some(0), Some(0));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!((report.messages_per_second, report.messages_per_transaction), (0.0, None), "{text}");
    }

    #[test]
    fn large_figures_have_separators() {
        assert_eq!([0.0, 999.4, 1_000.0, 1_234_567.0].map(figure), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn lost_messages_are_reported() {
        let lossy = BenchReport { messages: 10, messages_through: 9, ..BenchReport::default() };
        let mut out = Vec::new();
        lossy.table(&mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("1 messages: at QoS 0"));
    }
}

//! The result: computed, for people, for machines.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::bounds::Bounds;
use super::latency::Percentiles;
use super::options::BenchOptions;
use super::turn::Seen;
use super::usage::Usage;
use crate::domain::flow::FLOW_ACTION_STORE_DB;

/// What was measured. The names are those of the JSON object, and stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Report {
    // What was asked.
    pub(super) action: &'static str,
    pub(super) messages: u64,
    pub(super) flows: u64,
    pub(super) qos: u8,
    pub(super) attributes: u32,
    /// Taken into the inbox first: rate and time are those of the draining.
    pub(super) backlog: bool,
    /// None is full speed.
    pub(super) asked_messages_per_second: Option<f64>,
    // On what.
    pub(super) gateway_version: &'static str,
    pub(super) database: String,
    pub(super) broker: String,
    pub(super) mqtt_version: String,
    pub(super) cores: usize,
    // What came of it.
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
    /// Posts of messages that had been posted before.
    pub(super) posts_repeated: Option<u64>,
    pub(super) idle_cpu_percent: Option<f64>,
    // What bounds it.
    pub(super) limit_database_messages_per_second: Option<f64>,
    pub(super) limit_broker_messages_per_second: Option<f64>,
    pub(super) limit_post_messages_per_second: Option<f64>,
    /// All of them, one after the other.
    pub(super) bound_messages_per_second: Option<f64>,
    pub(super) share_of_bound: Option<f64>,
    /// Median of the commit of one row.
    pub(super) commit_p50_ms: Option<f64>,
    /// 99th percentile of it: what the machine lets even the smallest transaction wait.
    pub(super) commit_p99_ms: Option<f64>,
    pub(super) latency_p50_commits: Option<f64>,
    pub(super) latency_p99_commits: Option<f64>,
    /// What is not as it must be; empty when all is well.
    pub(super) problems: Vec<String>,
}

impl Report {
    /// The part that was asked for.
    pub(super) fn of(options: &BenchOptions) -> Self {
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

    /// What was seen of the messages.
    pub(super) fn set_seen(&mut self, seen: &Seen) {
        self.messages_through = seen.through;
        self.seconds = rounded(seen.took.as_secs_f64(), 3);
        self.messages_per_second = per(seen.timed, seen.took.as_secs_f64());
        // Which message was lost is not known, and so neither which one came when.
        if seen.through >= self.messages || self.action != FLOW_ACTION_STORE_DB {
            self.set_latencies(seen.latencies);
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

    /// What the gateway had used before the first message, and after the last.
    pub(super) fn set_usage(&mut self, before: Usage, after: Usage) {
        let cpu = after.cpu.saturating_sub(before.cpu);
        #[allow(clippy::cast_precision_loss, reason = "2^53 messages are never published")]
        let messages = self.messages_through as f64;
        self.cpu_us_per_message =
            if messages > 0.0 { rounded(cpu.as_secs_f64() * 1e6 / messages, 1) } else { 0.0 };
        self.peak_memory_bytes = after.peak_memory_bytes;
    }

    /// How many transactions it had committed before and after, by its own count.
    pub(super) fn set_transactions(&mut self, before: Option<u64>, after: Option<u64>) {
        let Some(transactions) = after.zip(before).map(|(after, before)| after.saturating_sub(before)) else {
            return;
        };
        self.transactions = Some(transactions);
        #[allow(clippy::cast_precision_loss, reason = "2^53 transactions are never committed")]
        let count = transactions as f64;
        self.messages_per_transaction = (transactions > 0).then(|| per(self.messages_through, count));
    }

    /// What it uses when there is nothing to do.
    pub(super) fn set_idle(&mut self, percent: f64) {
        self.idle_cpu_percent = Some(rounded(percent, 2));
    }

    /// What bounds it; to be called last.
    pub(super) fn set_bounds(&mut self, bounds: &Bounds) {
        let whole = |rate: Option<f64>| rate.map(|rate| rounded(rate, 0));
        self.limit_database_messages_per_second = whole(bounds.database);
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

    /// For machines: one object, on one line.
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string(self)?)
    }

    /// For people: a line for each figure.
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
            lines.push(("lost", format!("{lost} messages: at QoS 0 the broker may drop what it likes")));
        }
        lines
    }

    fn bound_lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let limits = [
            ("database", self.limit_database_messages_per_second),
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

/// So many in so much, to a tenth.
pub(super) fn per(count: u64, of: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "2^53 is never reached")]
    let count = count as f64;
    if of > 0.0 { rounded(count / of, 1) } else { 0.0 }
}

/// To so many digits behind the point.
pub(super) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

fn mebibytes(bytes: u64) -> f64 {
    per(bytes, 1_048_576.0)
}

/// `12,345`.
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

    fn seen(through: u64, took: Duration) -> Seen {
        Seen { through, timed: through, took, latencies: None }
    }

    #[test]
    fn the_share_of_the_bound_is_of_all_limits_together() {
        let mut report =
            Report { messages_per_second: 16_000.0, latency_p99_ms: Some(9.0), ..Report::default() };
        let (database, broker) = (Some(60_000.0), Some(30_000.0));
        report.set_bounds(&Bounds { database, broker, commit: Some(0.003), ..Bounds::default() });
        assert_eq!((report.bound_messages_per_second, report.share_of_bound), (Some(20_000.0), Some(0.8)));
        assert_eq!((report.latency_p50_commits, report.latency_p99_commits), (None, Some(3.0)));
    }

    #[test]
    fn figures_are_computed_from_what_came_through() {
        let mut report = Report { messages: 1_000, ..Report::default() };
        report.set_seen(&seen(800, Duration::from_millis(1_600)));
        let usage = |cpu_ms| Usage { cpu: Duration::from_millis(cpu_ms), peak_memory_bytes: 1 << 20 };
        report.set_usage(usage(500), usage(540));
        report.set_transactions(Some(2), Some(22));
        assert_eq!((report.messages_per_second, report.seconds), (500.0, 1.6));
        assert_eq!((report.cpu_us_per_message, report.peak_memory_bytes), (50.0, 1 << 20));
        assert_eq!((report.transactions, report.messages_per_transaction), (Some(20), Some(40.0)));
    }

    #[test]
    fn where_nothing_came_through_there_is_no_division_by_it() {
        let mut report = Report::default();
        report.set_seen(&seen(0, Duration::ZERO));
        let usage = Usage { cpu: Duration::ZERO, peak_memory_bytes: 0 };
        report.set_usage(usage, usage);
        report.set_transactions(Some(0), Some(0));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!((report.messages_per_second, report.messages_per_transaction), (0.0, None), "{text}");
    }

    #[test]
    fn large_figures_are_set_off_in_threes() {
        assert_eq!([0.0, 999.4, 1_000.0, 1_234_567.0].map(figure), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_loss_is_said_aloud() {
        let lossy = Report { messages: 10, messages_through: 9, ..Report::default() };
        let mut out = Vec::new();
        lossy.table(&mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("1 messages: at QoS 0"));
    }
}

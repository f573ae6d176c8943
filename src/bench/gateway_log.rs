//! Parses the log of the gateway under test, one JSON object per line.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

/// Maximum number of lines kept for error messages.
const MAX_LINES: usize = 20;

/// A line of the log that is relevant for the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogEvent {
    /// The broker has granted this number of filters.
    Subscribed { filters: u64 },
    /// The gateway has connected with this version of MQTT.
    Connected { version: String },
    /// The worker of a lane has committed this number of transactions.
    Transactions { worker: String, transactions: u64 },
    /// An error, or a line that is not JSON.
    Error(String),
    /// Any other line.
    Other,
}

/// Parses a line.
pub(super) fn event(line: &str) -> LogEvent {
    let Ok(record) = serde_json::from_str::<Value>(line) else { return LogEvent::Error(line.to_owned()) };
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    match (text("level").as_str(), text("message").as_str()) {
        ("ERROR", message) => LogEvent::Error(message.to_owned()),
        (_, "Subscribed") => LogEvent::Subscribed { filters: record["filters"].as_u64().unwrap_or(0) },
        (_, "Connected to the broker") => LogEvent::Connected { version: text("version") },
        (_, "mailbox") => match record["transactions"].as_u64() {
            Some(transactions) => LogEvent::Transactions { worker: text("actor"), transactions },
            None => LogEvent::Other,
        },
        _ => LogEvent::Other,
    }
}

/// State of the gateway, as far as its log has reported it.
#[derive(Debug, Default)]
pub(super) struct LogState {
    /// Filters that the broker has granted.
    pub(super) filters: u64,
    /// MQTT version of the connection.
    pub(super) version: String,
    /// Transactions of each worker, by its last report.
    workers: BTreeMap<String, u64>,
    last_lines: VecDeque<String>,
    /// The log has ended.
    pub(super) is_over: bool,
}

impl LogState {
    /// Applies a line. Returns the message if the line is an error.
    pub(super) fn apply(&mut self, line: &str) -> Option<String> {
        let event = event(line);
        if !matches!(event, LogEvent::Transactions { .. }) && !line.contains("\"mailbox\"") {
            if self.last_lines.len() == MAX_LINES {
                self.last_lines.pop_front();
            }
            self.last_lines.push_back(line.to_owned());
        }
        match event {
            LogEvent::Subscribed { filters } => self.filters = filters,
            LogEvent::Connected { version } => self.version = version,
            LogEvent::Transactions { worker, transactions } => {
                self.workers.insert(worker, transactions);
            }
            LogEvent::Error(error) => return Some(error),
            LogEvent::Other => {}
        }
        None
    }

    /// Returns the last lines, without mailbox reports.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last_lines.iter().cloned().collect()
    }

    /// Returns the transactions of all workers, or `None` if none has reported.
    pub(super) fn transactions(&self) -> Option<u64> {
        (!self.workers.is_empty()).then(|| self.workers.values().sum())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn worker(lane: u64, transactions: u64) -> String {
        format!(
            r#"{{"level":"INFO","target":"mailbox","message":"mailbox","actor":"flow-worker-{lane}","transactions":{transactions}}}"#
        )
    }

    #[test]
    fn relevant_lines_are_recognised() {
        assert_eq!(
            event(r#"{"level":"INFO","message":"Subscribed","filters":16}"#),
            LogEvent::Subscribed { filters: 16 }
        );
        assert_eq!(
            event(r#"{"level":"INFO","message":"Connected to the broker","version":"5"}"#),
            LogEvent::Connected { version: "5".to_owned() }
        );
        assert_eq!(event(r#"{"level":"ERROR","message":"bad"}"#), LogEvent::Error("bad".to_owned()));
        assert_eq!(event(r#"{"level":"INFO","message":"mailbox","actor":"router"}"#), LogEvent::Other);
        assert_eq!(event("not JSON at all"), LogEvent::Error("not JSON at all".to_owned()));
    }

    #[test]
    fn last_reports_of_all_workers_count() {
        let mut state = LogState::default();
        assert_eq!(state.transactions(), None);
        for line in [worker(0, 3), worker(1, 4), worker(0, 5)] {
            state.apply(&line);
        }
        assert_eq!(state.transactions(), Some(9));
    }

    #[test]
    fn last_lines_exclude_mailbox_reports() {
        let mut state = LogState::default();
        for number in 0..100 {
            state.apply(&format!(r#"{{"level":"INFO","message":"line {number}"}}"#));
            state.apply(&worker(0, number));
        }
        let lines = state.last_lines();
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines.last().unwrap().contains("line 99"));
    }
}

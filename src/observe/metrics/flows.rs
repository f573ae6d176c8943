//! Message counters by flow.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use super::activity::{ActivityReading, FlowActivity};
use super::endpoints::{AttemptCounts, AttemptOutcome};
use crate::domain::batch::{ProcessError, ProcessResult, Rejection};
use crate::domain::flow::Action;
use crate::domain::message::FlowId;

/// Maximum flows with counters of their own. It bounds the number of time series in Prometheus.
const MAX_FLOWS: usize = 1_000;

/// Label of all other flows together. A flow with this code is counted here too.
const OTHERS: &str = "_other";

/// Counters of all flows, by code.
///
/// A worker takes the read lock once for each transaction. Only a reload of the flows takes the write lock.
#[derive(Debug, Default)]
pub struct FlowMetrics {
    own: RwLock<BTreeMap<Arc<str>, Arc<FlowCounters>>>,
    /// Codes of the flows with counters of their own.
    codes: RwLock<HashMap<FlowId, Arc<str>>>,
    others: FlowCounters,
    activity: FlowActivity,
}

#[derive(Debug)]
struct FlowCounters {
    received: AtomicU64,
    stored: AtomicU64,
    /// Attempts to post, in the order of [`AttemptOutcome::ALL`].
    attempts: [AtomicU64; AttemptOutcome::ALL.len()],
    invalid: AtomicU64,
    /// Last sequence number assigned by this process, or [`NO_ID`].
    last_message_id: AtomicI64,
}

const NO_ID: i64 = i64::MIN;

impl Default for FlowCounters {
    fn default() -> Self {
        let [received, stored, invalid] = [const { AtomicU64::new(0) }; 3];
        let attempts = [const { AtomicU64::new(0) }; AttemptOutcome::ALL.len()];
        Self { received, stored, attempts, invalid, last_message_id: AtomicI64::new(NO_ID) }
    }
}

/// Results of one transaction for a flow.
#[derive(Debug, Default)]
struct FlowTally {
    received: u64,
    stored: u64,
    invalid: u64,
    last_message_id: Option<i64>,
}

/// Current counters of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowReading {
    /// Code of the flow, or the label for all other flows.
    pub flow: Arc<str>,
    /// Messages read from the inbox, with any outcome.
    pub received: u64,
    /// Messages stored.
    pub stored: u64,
    /// Posts accepted by the endpoint.
    pub posted: u64,
    /// Attempts to post, by outcome.
    pub attempts: AttemptCounts,
    /// Messages that became dead letters instead of being stored or posted.
    pub invalid: u64,
    /// Last sequence number assigned by this process.
    pub last_message_id: Option<i64>,
}

impl FlowMetrics {
    /// Sets the current flows with their codes, in order of precedence for counters of their own. Existing counters are
    /// kept, and removed flows are dropped.
    pub fn set<'a>(&self, flows: impl Iterator<Item = (FlowId, &'a str)> + Clone) {
        let codes = flows.clone().map(|(_, code)| code);
        self.activity.retain(&codes.clone().collect::<HashSet<_>>());
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *own);
        for code in codes.clone() {
            if let Some((code, counters)) = before.get_key_value(code) {
                own.insert(Arc::clone(code), Arc::clone(counters));
            }
        }
        for code in codes.filter(|code| *code != OTHERS) {
            if own.len() >= MAX_FLOWS {
                break;
            }
            if !own.contains_key(code) {
                own.insert(code.into(), Arc::default());
            }
        }
        let known = flows.filter_map(|(id, code)| Some((id, Arc::clone(own.get_key_value(code)?.0))));
        *self.codes.write().unwrap_or_else(PoisonError::into_inner) = known.collect();
    }

    /// Returns the label of a flow.
    #[must_use]
    pub fn label(&self, flow: FlowId) -> Arc<str> {
        let codes = self.codes.read().unwrap_or_else(PoisonError::into_inner);
        codes.get(&flow).map_or_else(|| OTHERS.into(), Arc::clone)
    }

    /// Counts the results of one transaction.
    pub fn count(&self, results: &[Result<ProcessResult, ProcessError>]) {
        let mut tallies: HashMap<&str, FlowTally> = HashMap::new();
        for result in results {
            if let Some(code) = code_of(result) {
                tallies.entry(code).or_default().count(result);
            }
        }
        self.activity.count(tallies.iter().map(|(code, tally)| (*code, tally.received)));
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        for (code, tally) in tallies {
            match own.get(code) {
                Some(counters) => counters.add(&tally),
                None => self.others.add(&FlowTally { last_message_id: None, ..tally }),
            }
        }
    }

    /// Returns the recent messages of all flows that have processed one, by code.
    #[must_use]
    pub fn activity(&self) -> HashMap<Arc<str>, ActivityReading> {
        self.activity.read()
    }

    /// Counts an attempt to post a message of the flow.
    pub fn count_attempt(&self, code: &str, outcome: AttemptOutcome) {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let counters = own.get(code).map_or(&self.others, AsRef::as_ref);
        if let Some((_, count)) =
            AttemptOutcome::ALL.iter().zip(&counters.attempts).find(|(known, _)| **known == outcome)
        {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Returns all counters by code. The label for other flows appears only if its counters are not zero.
    #[must_use]
    pub fn read(&self) -> Vec<FlowReading> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let mut readings: Vec<FlowReading> = own.iter().map(|(code, counters)| counters.read(code)).collect();
        drop(own);
        let others = self.others.read(&OTHERS.into());
        if others.received + others.attempts.iter().sum::<u64>() > 0 {
            readings.push(others);
        }
        readings
    }
}

/// Returns the code of the flow of a result, if the flow exists.
fn code_of(result: &Result<ProcessResult, ProcessError>) -> Option<&str> {
    match result {
        Ok(ProcessResult { flow_code, .. })
        | Err(
            ProcessError::Repeated { flow_code, .. }
            | ProcessError::Rejected(Rejection { flow: Some((_, Some(flow_code))), .. }),
        ) => Some(flow_code),
        Err(ProcessError::Rejected(_)) => None,
    }
}

impl FlowTally {
    fn count(&mut self, result: &Result<ProcessResult, ProcessError>) {
        self.received += 1;
        let message_id = match result {
            Ok(ProcessResult { message_id, action, .. }) => {
                self.stored += u64::from(*action == Action::StoreDb);
                Some(*message_id)
            }
            Err(ProcessError::Rejected(rejection)) => {
                self.invalid += 1;
                rejection.message_id
            }
            Err(_) => None,
        };
        self.last_message_id = message_id.or(self.last_message_id);
    }
}

impl FlowCounters {
    fn add(&self, tally: &FlowTally) {
        self.received.fetch_add(tally.received, Relaxed);
        self.stored.fetch_add(tally.stored, Relaxed);
        self.invalid.fetch_add(tally.invalid, Relaxed);
        if let Some(message_id) = tally.last_message_id {
            self.last_message_id.store(message_id, Relaxed);
        }
    }

    fn read(&self, code: &Arc<str>) -> FlowReading {
        let attempts = self.attempts.each_ref().map(|count| count.load(Relaxed));
        let [posted, ..] = attempts;
        FlowReading {
            flow: Arc::clone(code),
            received: self.received.load(Relaxed),
            stored: self.stored.load(Relaxed),
            posted,
            attempts,
            invalid: self.invalid.load(Relaxed),
            last_message_id: Some(self.last_message_id.load(Relaxed)).filter(|id| *id != NO_ID),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::dead_letter::DeadLetterReason;

    fn stored(code: &str, message_id: i64) -> ProcessResult {
        ProcessResult { flow_code: code.into(), message_id, action: Action::StoreDb, inbox_offset: 0 }
    }

    fn rejected(code: &str, message_id: Option<i64>) -> ProcessError {
        let flow = Some((1, Some(code.into())));
        let rejection = Rejection {
            flow,
            message_id,
            inbox_offset: 0,
            topic: String::new(),
            reason: DeadLetterReason::ValidationFailed,
            detail: String::new(),
        };
        ProcessError::Rejected(rejection)
    }

    fn set(flows: &FlowMetrics, codes: &[impl AsRef<str>]) {
        flows.set((1..).zip(codes).map(|(id, code)| (id, code.as_ref())));
    }

    fn codes(flows: &FlowMetrics) -> Vec<String> {
        flows.read().iter().map(|reading| reading.flow.to_string()).collect()
    }

    #[test]
    fn outcomes_are_counted_by_flow() {
        let flows = FlowMetrics::default();
        set(&flows, &["A", "B"]);
        let repeated = Err(ProcessError::Repeated { flow_code: "A".into(), message_id: 1, inbox_offset: 0 });
        let results = [
            Ok(stored("A", 7)),
            Ok(stored("A", 8)),
            Err(rejected("A", None)),
            repeated,
            Err(rejected("B", Some(3))),
        ];
        flows.count(&results);
        flows.count_attempt("B", AttemptOutcome::Delivered);
        flows.count_attempt("B", AttemptOutcome::EndpointFault);
        let [a, b] = flows.read().try_into().unwrap();
        assert_eq!((a.received, a.stored, a.invalid, a.posted), (4, 2, 1, 0));
        assert_eq!(a.last_message_id, Some(8));
        assert_eq!((b.received, b.stored, b.invalid, b.posted), (1, 0, 1, 1));
        assert_eq!((b.attempts, a.attempts), ([1, 0, 1, 0], [0; 4]));
        assert_eq!(b.last_message_id, Some(3), "a message that found the outbox full has its number");
    }

    #[test]
    fn results_without_flow_are_not_counted() {
        let flows = FlowMetrics::default();
        set(&flows, &["A"]);
        let nobody = Rejection {
            flow: None,
            message_id: None,
            inbox_offset: 0,
            topic: String::new(),
            reason: DeadLetterReason::PayloadNotJson,
            detail: String::new(),
        };
        let deleted =
            Rejection { flow: Some((9, None)), reason: DeadLetterReason::FlowDeleted, ..nobody.clone() };
        flows.count(&[Err(ProcessError::Rejected(nobody)), Err(ProcessError::Rejected(deleted))]);
        assert_eq!(flows.read().iter().map(|reading| reading.received).sum::<u64>(), 0);
    }

    #[test]
    fn removed_flows_lose_their_counters() {
        let flows = FlowMetrics::default();
        set(&flows, &["A", "B"]);
        flows.count(&[Ok(stored("B", 1))]);
        set(&flows, &["B", "C"]);
        let [b, c] = flows.read().try_into().unwrap();
        assert_eq!((&*b.flow, b.stored), ("B", 1));
        assert_eq!((&*c.flow, c.stored), ("C", 0));
    }

    #[test]
    fn flows_beyond_the_maximum_share_counters() {
        let flows = FlowMetrics::default();
        let all: Vec<String> = (0..MAX_FLOWS + 2).map(|n| format!("F{n}")).collect();
        set(&flows, &all);
        flows.count(&[Ok(stored("F0", 1)), Ok(stored("F1000", 2)), Ok(stored("F1001", 3))]);
        let readings = flows.read();
        assert_eq!(readings.len(), MAX_FLOWS + 1);
        let others = readings.last().unwrap();
        assert_eq!((&*others.flow, others.stored, others.last_message_id), (OTHERS, 2, None));
    }

    #[test]
    fn label_follows_the_id() {
        let flows = FlowMetrics::default();
        flows.set([(7, "A"), (8, "B")].into_iter());
        flows.set([(9, "A"), (8, "C")].into_iter());
        assert_eq!([7, 8, 9].map(|id| flows.label(id).to_string()), [OTHERS, "C", "A"]);
    }

    #[test]
    fn new_flow_displaces_no_counters() {
        let flows = FlowMetrics::default();
        let mut all: Vec<String> = (0..MAX_FLOWS).map(|n| format!("F{n}")).collect();
        set(&flows, &all);
        all.insert(0, "new".to_owned());
        set(&flows, &all);
        assert!(!codes(&flows).contains(&"new".to_owned()));
        all.remove(5);
        set(&flows, &all);
        assert!(codes(&flows).contains(&"new".to_owned()));
    }

    #[test]
    fn flow_named_like_others_is_counted_there() {
        let flows = FlowMetrics::default();
        set(&flows, &[OTHERS]);
        flows.count(&[Ok(stored(OTHERS, 1))]);
        assert_eq!(codes(&flows), [OTHERS]);
    }
}

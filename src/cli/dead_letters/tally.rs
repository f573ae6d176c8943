//! Counts the outcomes of a replay.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::output::table;
use crate::domain::dead_letter::{ReplayOutcome, ReplayedLetter};

/// Outcomes by name and reason.
#[derive(Debug, Default)]
pub(super) struct ReplayTally {
    letters: u64,
    counts: BTreeMap<(&'static str, Option<&'static str>), TallyRow>,
}

/// A kind of outcome, with the first letter that had it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TallyRow {
    outcome: &'static str,
    reason: Option<&'static str>,
    count: u64,
    first_id: i64,
    detail: Option<String>,
}

impl ReplayTally {
    pub(super) fn add(&mut self, letters: &[ReplayedLetter]) {
        self.letters += letters.len() as u64;
        for letter in letters {
            for outcome in &letter.outcomes {
                self.add_outcome(letter.id, outcome);
            }
        }
    }

    fn add_outcome(&mut self, id: i64, outcome: &ReplayOutcome) {
        let (name, reason) = (outcome.as_str(), outcome.reason());
        let row = self.counts.entry((name, reason)).or_insert_with(|| TallyRow {
            outcome: name,
            reason,
            count: 0,
            first_id: id,
            detail: outcome.detail(),
        });
        row.count += 1;
    }

    /// Number of dead letters. A letter for several flows has several outcomes.
    pub(super) fn letters(&self) -> u64 {
        self.letters
    }

    pub(super) fn rows(&self) -> Vec<TallyRow> {
        self.counts.values().cloned().collect()
    }

    /// Whether all letters were replayed. A missing letter counts as a failure if it was asked for by its id.
    pub(super) fn is_success(&self, by_ids: bool) -> bool {
        let fails = |row: &TallyRow| match row.outcome {
            "refused" | "not_replayable" => true,
            "gone" => by_ids,
            _ => false,
        };
        !self.counts.values().any(fails)
    }

    pub(super) fn text(&self) -> String {
        if self.counts.is_empty() {
            return "No dead letter is selected.\n".to_owned();
        }
        let row = |row: &TallyRow| {
            let example =
                row.detail.as_ref().map(|detail| format!("{}: {detail}", row.first_id)).unwrap_or_default();
            vec![
                row.outcome.to_owned(),
                row.reason.unwrap_or_default().to_owned(),
                row.count.to_string(),
                example,
            ]
        };
        let rows: Vec<Vec<String>> = self.counts.values().map(row).collect();
        table(&["OUTCOME", "REASON", "COUNT", "FIRST"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dead_letter::DeadLetterReason;

    #[test]
    fn outcomes_are_counted_by_reason() {
        let refused = |detail: &str| ReplayOutcome::Refused {
            reason: DeadLetterReason::ValidationFailed,
            detail: detail.to_owned(),
        };
        let stored = ReplayOutcome::Stored { message_id: 1 };
        let mut tally = ReplayTally::default();
        tally.add(&[
            ReplayedLetter { id: 4, outcomes: vec![stored.clone(), refused("a")] },
            ReplayedLetter { id: 5, outcomes: vec![refused("b")] },
        ]);
        assert_eq!(tally.letters(), 2);
        assert_eq!(
            tally.text(),
            "OUTCOME  REASON             COUNT  FIRST\nrefused  validation_failed  2      4: a\nstored                      1\n"
        );
        assert!(!tally.is_success(false));
    }

    #[test]
    fn missing_letters_fail_if_they_were_named() {
        let mut tally = ReplayTally::default();
        tally.add(&[ReplayedLetter { id: 4, outcomes: vec![ReplayOutcome::Gone] }]);
        assert!(tally.is_success(false) && !tally.is_success(true));
    }
}

//! Shows the outcomes of a replay.

use crate::cli::output::table;
use crate::control::view::{ReplayTally, TallyRow};

pub(super) fn tally_text(tally: &ReplayTally) -> String {
    let rows = tally.rows();
    if rows.is_empty() {
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
    let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
    table(&["OUTCOME", "REASON", "COUNT", "FIRST"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dead_letter::{DeadLetterReason, ReplayOutcome, ReplayedLetter};

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
        assert_eq!((tally.letters(), tally.replayed()), (2, 1));
        assert_eq!(
            tally_text(&tally),
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

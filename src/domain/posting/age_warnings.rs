//! Warns in stages before the oldest waiting message of a flow is given up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::message::FlowId;
use super::super::outbox_work::WaitingFlow;

/// The used part of the maximum age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeStage {
    /// Half of it.
    Half,
    /// Three quarters of it.
    ThreeQuarters,
    /// All of it: the next failure is the last.
    All,
}

impl AgeStage {
    /// The stage of a message; `None` below the first one.
    fn of_age(age: Duration, max_age: Duration) -> Option<Self> {
        if age >= max_age {
            Some(Self::All)
        } else if age.saturating_mul(4) >= max_age.saturating_mul(3) {
            Some(Self::ThreeQuarters)
        } else if age >= max_age / 2 {
            Some(Self::Half)
        } else {
            None
        }
    }

    /// The part, for a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::ThreeQuarters => "three quarters",
            Self::All => "all",
        }
    }
}

/// The stages that were reported, by flow.
#[derive(Debug, Default)]
pub struct AgeWarnings {
    reported: BTreeMap<FlowId, AgeStage>,
}

impl AgeWarnings {
    /// Returns the flows that have reached a further stage. `waiting` are all flows that are being posted. A flow is
    /// reported again after its oldest message was below the first stage.
    pub fn update<'w>(
        &mut self,
        waiting: impl Iterator<Item = &'w WaitingFlow>,
        max_age: Duration,
    ) -> Vec<(AgeStage, WaitingFlow)> {
        let before = std::mem::take(&mut self.reported);
        let mut reached = Vec::new();
        for found in waiting {
            let Some(stage) = AgeStage::of_age(found.oldest_age, max_age) else { continue };
            let reported = before.get(&found.flow).copied();
            self.reported.insert(found.flow, reported.unwrap_or(stage).max(stage));
            if reported < Some(stage) {
                reached.push((stage, *found));
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(100);

    fn waiting(flow: FlowId, age: u64) -> WaitingFlow {
        WaitingFlow { flow, rows: 3, lowest_message_id: 1, oldest_age: Duration::from_secs(age) }
    }

    fn update(warnings: &mut AgeWarnings, ages: &[(FlowId, u64)]) -> Vec<(FlowId, AgeStage)> {
        let waiting: Vec<WaitingFlow> = ages.iter().map(|(flow, age)| waiting(*flow, *age)).collect();
        let reached = warnings.update(waiting.iter(), MAX_AGE);
        reached.into_iter().map(|(stage, found)| (found.flow, stage)).collect()
    }

    #[test]
    fn each_stage_is_reported_once() {
        let mut warnings = AgeWarnings::default();
        let stages = [0, 49, 50, 60, 75, 99, 100, 1000].map(|age| update(&mut warnings, &[(1, age)]).pop());
        let reported = [None, None, Some((1, AgeStage::Half)), None, Some((1, AgeStage::ThreeQuarters))];
        assert_eq!(stages[..5], reported);
        assert_eq!(stages[5..], [None, Some((1, AgeStage::All)), None]);
    }

    #[test]
    fn recovered_flow_is_reported_again() {
        let mut warnings = AgeWarnings::default();
        assert_eq!(update(&mut warnings, &[(1, 80)]), [(1, AgeStage::ThreeQuarters)]);
        assert_eq!(update(&mut warnings, &[(1, 60)]), [], "a lower stage is no recovery");
        assert_eq!(update(&mut warnings, &[(1, 80)]), []);
        assert_eq!(update(&mut warnings, &[(1, 10)]), []);
        assert_eq!(update(&mut warnings, &[(1, 80)]), [(1, AgeStage::ThreeQuarters)]);
        assert_eq!(update(&mut warnings, &[]), []);
        assert_eq!(update(&mut warnings, &[(1, 50)]), [(1, AgeStage::Half)], "nothing waited meanwhile");
    }

    #[test]
    fn flows_are_independent() {
        let mut warnings = AgeWarnings::default();
        assert_eq!(update(&mut warnings, &[(1, 50), (2, 0)]), [(1, AgeStage::Half)]);
        assert_eq!(update(&mut warnings, &[(1, 50), (2, 100)]), [(2, AgeStage::All)]);
    }

    proptest! {
        #[test]
        fn rising_ages_report_rising_stages(mut ages in prop::collection::vec(0_u64..200, 0..40)) {
            ages.sort_unstable();
            let mut warnings = AgeWarnings::default();
            let mut reported = Vec::new();
            for age in &ages {
                reported.extend(update(&mut warnings, &[(1, *age)]).into_iter().map(|(_, stage)| stage));
            }
            prop_assert!(reported.is_sorted_by(|one, next| one < next));
            let last = ages.last().and_then(|age| AgeStage::of_age(Duration::from_secs(*age), MAX_AGE));
            prop_assert_eq!(reported.last().copied(), last);
        }
    }
}

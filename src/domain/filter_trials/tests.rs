use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1_000);
const MINUTE: Duration = Duration::from_mins(1);

fn together(filters: &[&str]) -> Unanswered {
    Unanswered::Together(filters.iter().map(|&filter| filter.to_owned()).collect())
}

fn alone(filter: &str) -> Unanswered {
    Unanswered::Alone(filter.to_owned())
}

fn culprit(filter: &str, retry_in: Duration) -> TrialOutcome {
    TrialOutcome::Culprit { filter: filter.to_owned(), retry_in }
}

#[test]
fn one_loss_only_suspects() {
    let mut trials = FilterTrials::default();
    assert_eq!(trials.connection_ended(together(&["a", "b"]), NOW), TrialOutcome::Suspects(2));
    assert_eq!(
        ["a", "b", "c"].map(|filter| trials.send_mode(filter, NOW)),
        [SendMode::Alone, SendMode::Alone, SendMode::Together]
    );
    trials.answered("a");
    assert_eq!(trials.send_mode("a", NOW), SendMode::Together);
}

#[test]
fn culprits_are_retried_less_often() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(together(&["bad", "good"]), NOW);
    assert_eq!(trials.connection_ended(alone("bad"), NOW), culprit("bad", MINUTE));
    assert_eq!(trials.send_mode("bad", NOW), SendMode::SetAside);
    assert_eq!(trials.send_mode("good", NOW), SendMode::Alone, "it has not been judged");
    let due = NOW + MINUTE;
    assert_eq!(trials.send_mode("bad", due), SendMode::Alone);
    assert_eq!(trials.connection_ended(alone("bad"), due), culprit("bad", 2 * MINUTE));
    let last = (0..20).map(|_| trials.connection_ended(alone("bad"), due)).last();
    assert_eq!(last, Some(culprit("bad", 60 * MINUTE)));
}

#[test]
fn likeliest_culprit_is_tried_last() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(alone("set aside"), NOW);
    trials.connection_ended(together(&["first", "second", "third"]), NOW);
    let mut filters = ["set aside", "first", "second", "third", "unknown"];
    filters.sort_by_key(|filter| trials.suspicion(filter));
    // Equal keys: the filter sent last and the unsuspected one.
    assert_eq!(filters[2..], ["second", "first", "set aside"]);
}

#[test]
fn recovered_filter_makes_others_due() {
    let mut trials = FilterTrials::default();
    for filter in ["a", "b"] {
        trials.connection_ended(alone(filter), NOW);
    }
    trials.answered("unknown");
    assert_eq!(trials.send_mode("b", NOW), SendMode::SetAside);
    trials.answered("a");
    assert_eq!(["a", "b"].map(|filter| trials.send_mode(filter, NOW)), [SendMode::Together, SendMode::Alone]);
}

#[test]
fn unwanted_filters_are_forgotten() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(alone("a"), NOW);
    trials.forget("a");
    assert_eq!(trials.send_mode("a", NOW), SendMode::Together);
}

#[test]
fn known_suspects_are_no_finding() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(together(&["a"]), NOW);
    assert_eq!(trials.connection_ended(together(&["a"]), NOW), TrialOutcome::Nothing);
    assert_eq!(trials.connection_ended(Unanswered::Nothing, NOW), TrialOutcome::Nothing);
}

/// Broker that closes the connection over some filters, and sometimes without a cause.
struct Broker<'a> {
    bad: &'a BTreeSet<u8>,
    /// Number of packets until each connection closed without a cause.
    accidents: Vec<usize>,
}

impl Broker<'_> {
    /// Whether the broker answers the next packet.
    fn answers(&mut self, filter: u8) -> bool {
        let accident = match self.accidents.last_mut() {
            Some(0) => self.accidents.pop().is_some(),
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        !accident && !self.bad.contains(&filter)
    }
}

/// Runs one connection as a client does. Returns answered filters and unanswered ones.
fn connect(
    broker: &mut Broker<'_>,
    trials: &FilterTrials,
    wanted: &BTreeSet<u8>,
    window: usize,
) -> (Vec<u8>, Unanswered) {
    let send_mode = |filter: &&u8| trials.send_mode(&filter.to_string(), NOW);
    let mut answered = Vec::new();
    let mut waiting: Vec<u8> =
        wanted.iter().filter(|filter| send_mode(filter) == SendMode::Together).copied().collect();
    while let Some(&next) = waiting.first() {
        if !broker.answers(next) {
            let under_way = waiting.iter().take(window).map(u8::to_string).collect();
            return (answered, Unanswered::Together(under_way));
        }
        answered.push(waiting.remove(0));
    }
    let mut alone: Vec<u8> =
        wanted.iter().filter(|filter| send_mode(filter) == SendMode::Alone).copied().collect();
    alone.sort_by_key(|filter| trials.suspicion(&filter.to_string()));
    for filter in alone {
        if !broker.answers(filter) {
            return (answered, Unanswered::Alone(filter.to_string()));
        }
        answered.push(filter);
    }
    (answered, Unanswered::Nothing)
}

/// Connects until a connection lasts. Returns its filters and the number of lost connections.
fn settle(
    broker: &mut Broker<'_>,
    trials: &mut FilterTrials,
    wanted: &BTreeSet<u8>,
    window: usize,
) -> (BTreeSet<u8>, usize) {
    for lost in 0..10_000 {
        let (answered, unanswered) = connect(broker, trials, wanted, window);
        for filter in &answered {
            trials.answered(&filter.to_string());
        }
        if unanswered == Unanswered::Nothing {
            return (answered.into_iter().collect(), lost);
        }
        trials.connection_ended(unanswered, NOW);
    }
    (BTreeSet::new(), usize::MAX)
}

proptest! {
    #[test]
    fn each_bad_filter_costs_two_connections(
        wanted in prop::collection::btree_set(0..60_u8, 0..60),
        bad in prop::collection::btree_set(0..60_u8, 0..20),
        window in 1..30_usize,
    ) {
        let mut broker = Broker { bad: &bad, accidents: Vec::new() };
        let (holds, lost) = settle(&mut broker, &mut FilterTrials::default(), &wanted, window);
        prop_assert_eq!(holds, wanted.difference(&bad).copied().collect::<BTreeSet<_>>());
        prop_assert!(lost <= 2 * wanted.intersection(&bad).count());
    }

    #[test]
    fn good_filters_recover_after_accidents(
        wanted in prop::collection::btree_set(0..60_u8, 0..60),
        bad in prop::collection::btree_set(0..60_u8, 0..20),
        window in 1..30_usize,
        accidents in prop::collection::vec(0..40_usize, 0..20),
    ) {
        let mut broker = Broker { bad: &bad, accidents };
        let mut trials = FilterTrials::default();
        settle(&mut broker, &mut trials, &wanted, window);
        broker.accidents.clear();
        // All filters that are set aside become due.
        for trial in trials.trials.values_mut() {
            *trial = match *trial {
                Trial::SetAside { failures, .. } => Trial::SetAside { failures, until: NOW },
                suspected @ Trial::Suspected { .. } => suspected,
            };
        }
        let (holds, _) = settle(&mut broker, &mut trials, &wanted, window);
        prop_assert_eq!(holds, wanted.difference(&bad).copied().collect::<BTreeSet<_>>());
    }
}

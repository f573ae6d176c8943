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
fn one_lost_connection_sets_nothing_aside() {
    let mut trials = FilterTrials::default();
    assert_eq!(trials.connection_ended(together(&["a", "b"]), NOW), TrialOutcome::Suspects(2));
    assert_eq!(
        ["a", "b", "c"].map(|filter| trials.turn(filter, NOW)),
        [Turn::Alone, Turn::Alone, Turn::Together]
    );
    trials.answered("a");
    assert_eq!(trials.turn("a", NOW), Turn::Together);
}

#[test]
fn a_filter_that_ends_the_connection_alone_is_set_aside_and_tried_less_and_less_often() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(together(&["bad", "good"]), NOW);
    assert_eq!(trials.connection_ended(alone("bad"), NOW), culprit("bad", MINUTE));
    assert_eq!(trials.turn("bad", NOW), Turn::SetAside);
    assert_eq!(trials.turn("good", NOW), Turn::Alone, "it has not been judged");
    let due = NOW + MINUTE;
    assert_eq!(trials.turn("bad", due), Turn::Alone);
    assert_eq!(trials.connection_ended(alone("bad"), due), culprit("bad", 2 * MINUTE));
    let last = (0..20).map(|_| trials.connection_ended(alone("bad"), due)).last();
    assert_eq!(last, Some(culprit("bad", 60 * MINUTE)));
}

#[test]
fn the_first_without_an_answer_is_tried_last() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(alone("set aside"), NOW);
    trials.connection_ended(together(&["first", "second", "third"]), NOW);
    let mut filters = ["set aside", "first", "second", "third", "unknown"];
    filters.sort_by_key(|filter| trials.suspicion(filter));
    // Equal: what was sent last and what is not suspected at all.
    assert_eq!(filters[2..], ["second", "first", "set aside"]);
}

#[test]
fn one_that_comes_back_makes_all_others_due() {
    let mut trials = FilterTrials::default();
    for filter in ["a", "b"] {
        trials.connection_ended(alone(filter), NOW);
    }
    trials.answered("unknown");
    assert_eq!(trials.turn("b", NOW), Turn::SetAside);
    trials.answered("a");
    assert_eq!(["a", "b"].map(|filter| trials.turn(filter, NOW)), [Turn::Together, Turn::Alone]);
}

#[test]
fn a_filter_that_was_not_wanted_for_a_while_is_new() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(alone("a"), NOW);
    trials.forget("a");
    assert_eq!(trials.turn("a", NOW), Turn::Together);
}

#[test]
fn what_is_suspected_already_is_no_finding() {
    let mut trials = FilterTrials::default();
    trials.connection_ended(together(&["a"]), NOW);
    assert_eq!(trials.connection_ended(together(&["a"]), NOW), TrialOutcome::Nothing);
    assert_eq!(trials.connection_ended(Unanswered::Nothing, NOW), TrialOutcome::Nothing);
}

/// A broker that closes the connection over some filters, and now and then for no reason.
struct Broker<'a> {
    bad: &'a BTreeSet<u8>,
    /// Packets until it closes the connection for no reason, one after the other.
    accidents: Vec<usize>,
}

impl Broker<'_> {
    /// Whether it answers the next packet.
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

/// One connection, as a client makes use of it: which filters were answered, and what was not.
fn connect(
    broker: &mut Broker<'_>,
    trials: &FilterTrials,
    wanted: &BTreeSet<u8>,
    window: usize,
) -> (Vec<u8>, Unanswered) {
    let turn = |filter: &&u8| trials.turn(&filter.to_string(), NOW);
    let mut answered = Vec::new();
    let mut waiting: Vec<u8> =
        wanted.iter().filter(|filter| turn(filter) == Turn::Together).copied().collect();
    while let Some(&next) = waiting.first() {
        if !broker.answers(next) {
            let under_way = waiting.iter().take(window).map(u8::to_string).collect();
            return (answered, Unanswered::Together(under_way));
        }
        answered.push(waiting.remove(0));
    }
    let mut alone: Vec<u8> = wanted.iter().filter(|filter| turn(filter) == Turn::Alone).copied().collect();
    alone.sort_by_key(|filter| trials.suspicion(&filter.to_string()));
    for filter in alone {
        if !broker.answers(filter) {
            return (answered, Unanswered::Alone(filter.to_string()));
        }
        answered.push(filter);
    }
    (answered, Unanswered::Nothing)
}

/// Connects until a connection stays: what it holds, and how many were lost on the way.
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
    fn the_bad_ones_are_found_at_the_price_of_two_connections_each(
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
    fn whatever_accidents_there_were_every_good_one_comes_back_and_no_bad_one_keeps_it_from_that(
        wanted in prop::collection::btree_set(0..60_u8, 0..60),
        bad in prop::collection::btree_set(0..60_u8, 0..20),
        window in 1..30_usize,
        accidents in prop::collection::vec(0..40_usize, 0..20),
    ) {
        let mut broker = Broker { bad: &bad, accidents };
        let mut trials = FilterTrials::default();
        settle(&mut broker, &mut trials, &wanted, window);
        broker.accidents.clear();
        // Time goes by: all that are set aside are due.
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

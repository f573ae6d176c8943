use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RULE: Rule = Rule { window_ms: 100, burst: 3 };

/// Small maximum of detailed series.
const FEW: usize = 3;

fn key(site: u64, detail: u64) -> RecordKey {
    RecordKey { site, detailed: if detail == 0 { site } else { site * 1_000_000 + detail } }
}

/// Passes a record as the logger does, with its key as the example.
fn say(
    repeats: &mut RepeatLimiter<RecordKey>,
    key: RecordKey,
    now: Millis,
    summaries: &mut Vec<Summary<RecordKey>>,
) -> Decision {
    let known = repeats.record(key, now, summaries);
    let decision = known.unwrap_or_else(|| repeats.admit(key, key, now, summaries));
    if decision == Decision::CountAndKeep {
        repeats.keep(key, key);
    }
    decision
}

#[test]
fn burst_is_written_and_the_rest_summarised() {
    let mut repeats = RepeatLimiter::new(RULE);
    let mut summaries = Vec::new();
    let (a, b) = (key(1, 1), key(1, 2));
    let written = (0..10).filter(|now| say(&mut repeats, a, *now, &mut summaries) == Decision::Write).count();
    assert_eq!(written, 3);
    assert_eq!(say(&mut repeats, b, 10, &mut summaries), Decision::Write, "another topic has its own series");
    assert_eq!(repeats.take_due(99), [], "the window is not over");
    assert_eq!(
        repeats.take_due(100),
        [Summary::Window { example: a, repeated: 7, mixed: false, since: 3, until: 9 }]
    );
    assert_eq!(
        repeats.take_due(109),
        [Summary::End { example: a, total: 10, mixed: false, since: 0, until: 9 }]
    );
    assert_eq!(repeats.take_due(1_000), [], "every record of the other series was written");
    assert_eq!(summaries, []);
}

#[test]
fn next_window_emits_the_last_summary() {
    let mut repeats = RepeatLimiter::new(RULE);
    let mut summaries = Vec::new();
    for now in 0..5 {
        say(&mut repeats, key(1, 0), now, &mut summaries);
    }
    assert_eq!(say(&mut repeats, key(1, 0), 150, &mut summaries), Decision::Write);
    assert_eq!(
        summaries,
        [Summary::Window { example: key(1, 0), repeated: 2, mixed: false, since: 3, until: 4 }]
    );
    assert_eq!(
        repeats.take_due(260),
        [Summary::End { example: key(1, 0), total: 6, mixed: false, since: 0, until: 150 }]
    );
}

#[test]
fn series_per_place_are_bounded() {
    let mut repeats = RepeatLimiter::new(RULE);
    let mut summaries = Vec::new();
    let written = (1..=1_000)
        .filter(|topic| say(&mut repeats, key(1, *topic), 0, &mut summaries) == Decision::Write)
        .count();
    assert_eq!(written, MAX_DETAILED + 3, "one for each detailed series, and a burst for the common one");
    assert_eq!(repeats.series.len(), MAX_DETAILED + 1);
    let told = repeats.take_due(100);
    assert!(matches!(told.first(), Some(Summary::Window { repeated: 869, mixed: true, .. })), "{told:?}");
    assert_eq!(repeats.series.len(), 0);
    assert!(repeats.detailed.is_empty(), "the maximum is free again");
}

#[test]
fn flood_does_not_affect_other_places() {
    let mut repeats = RepeatLimiter::new(RULE);
    let mut summaries = Vec::new();
    for topic in 1..=1_000 {
        say(&mut repeats, key(1, topic), 0, &mut summaries);
    }
    for actor in 1..=2 {
        for _ in 0..5 {
            say(&mut repeats, key(2, actor), 50, &mut summaries);
        }
    }
    let told = repeats.take_due(150);
    for actor in 1..=2 {
        let example = key(2, actor);
        let sum = Summary::Window { example, repeated: 2, mixed: false, since: 50, until: 50 };
        assert!(told.contains(&sum), "{told:?}");
    }
}

#[test]
fn summary_is_mixed_once_keys_share_it() {
    let mut repeats = RepeatLimiter::with_max_detailed(Rule { burst: 0, ..RULE }, 0);
    let mut summaries = Vec::new();
    say(&mut repeats, key(1, 0), 0, &mut summaries);
    say(&mut repeats, key(1, 1), 100, &mut summaries);
    assert!(matches!(summaries[..], [Summary::Window { mixed: false, repeated: 1, .. }]), "{summaries:?}");
    let told = repeats.take_all();
    assert!(matches!(told[0], Summary::Window { mixed: true, repeated: 1, .. }), "{told:?}");
    assert!(matches!(told[1], Summary::End { mixed: true, total: 2, .. }), "{told:?}");
}

#[test]
fn take_all_emits_outstanding_summaries() {
    let mut repeats = RepeatLimiter::new(RULE);
    let mut summaries = Vec::new();
    for now in 0..5 {
        say(&mut repeats, key(1, 0), now, &mut summaries);
    }
    let summary = Summary::Window { example: key(1, 0), repeated: 2, mixed: false, since: 3, until: 4 };
    let over = Summary::End { example: key(1, 0), total: 5, mixed: false, since: 0, until: 4 };
    assert_eq!(repeats.take_all(), [summary, over]);
    assert_eq!(repeats.take_all(), []);
}

proptest! {
    /// Covers times that decrease slightly between threads.
    #[test]
    fn written_and_summarised_equal_logged(
        burst in 0_u64..5,
        steps in prop::collection::vec((0_u64..60, 0_u64..30, 0_u64..3, 0_u64..8, any::<bool>()), 0..400),
    ) {
        let mut repeats = RepeatLimiter::with_max_detailed(Rule { burst, ..RULE }, FEW);
        let (mut now, mut written) = (1_000, 0);
        let (mut summaries, mut said) = (Vec::new(), BTreeMap::new());
        for (step, back, site, detail, look) in &steps {
            // Most records share a time, so that the maximum of detailed series is reached.
            now += step.saturating_sub(50);
            if *look && *step > 50 {
                summaries.extend(repeats.take_due(now));
            } else {
                // The first place stays below its maximum.
                let key = key(*site + 1, if *site == 0 { detail % 4 } else { *detail });
                let decision = say(&mut repeats, key, now - back, &mut summaries);
                written += u64::from(decision == Decision::Write);
                *said.entry((key.site, key.detailed)).or_insert(0) += 1;
            }
            prop_assert!(repeats.detailed.values().all(|count| (1..=FEW).contains(count)));
            let detailed = repeats.series.values().filter(|series| series.detailed_of.is_some()).count();
            prop_assert_eq!(detailed, repeats.detailed.values().sum::<usize>());
        }
        summaries.extend(repeats.take_all());
        let mut told = 0;
        for one in &summaries {
            let (Summary::Window { since, until, example, mixed, .. }
            | Summary::End { since, until, example, mixed, .. }) = one;
            prop_assert!(since <= until);
            prop_assert!(!(*mixed && example.site == 1), "the first place stays below its maximum");
            let of_the_site = said.iter().filter(|((site, _), _)| *site == example.site);
            let most: u64 = if *mixed {
                of_the_site.map(|(_, count)| count).sum()
            } else {
                said[&(example.site, example.detailed)]
            };
            match one {
                Summary::Window { repeated, .. } => {
                    prop_assert!(*repeated > 0 && *repeated <= most);
                    told += repeated;
                }
                Summary::End { total, .. } => prop_assert!(*total <= most, "a series covers one key, or one place"),
            }
        }
        prop_assert_eq!(written + told, said.values().sum::<u64>());
    }

    #[test]
    fn no_window_exceeds_the_burst(steps in prop::collection::vec(0_u64..40, 0..300)) {
        let mut repeats = RepeatLimiter::new(RULE);
        let (mut now, mut written) = (0, Vec::new());
        for step in steps {
            now += step;
            if say(&mut repeats, key(1, 0), now, &mut Vec::new()) == Decision::Write {
                written.push(now);
            }
        }
        // A window begins with a record, so an interval of one window length overlaps two windows at most.
        for (at, first) in written.iter().enumerate() {
            let within = written.iter().skip(at).take_while(|now| **now - first < RULE.window_ms).count();
            prop_assert!(within as u64 <= 2 * RULE.burst);
        }
    }
}

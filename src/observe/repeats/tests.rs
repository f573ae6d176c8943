use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RULE: Rule = Rule { window_ms: 100, burst: 3 };

/// Kinds of a place that are told apart where a few have to do.
const FEW: usize = 3;

fn kind(site: u64, detail: u64) -> Kind {
    Kind { site, detailed: if detail == 0 { site } else { site * 1_000_000 + detail } }
}

/// A record as the logger treats it: the example is the kind that it was of.
fn say(repeats: &mut Repeats<Kind>, kind: Kind, now: Moment, news: &mut Vec<News<Kind>>) -> Verdict {
    let known = repeats.record(kind, now, news);
    let verdict = known.unwrap_or_else(|| repeats.admit(kind, kind, now, news));
    if verdict == Verdict::CountAndKeep {
        repeats.keep(kind, kind);
    }
    verdict
}

#[test]
fn the_first_few_of_a_window_are_written_and_the_rest_is_told_at_its_end() {
    let mut repeats = Repeats::new(RULE);
    let mut news = Vec::new();
    let (a, b) = (kind(1, 1), kind(1, 2));
    let written = (0..10).filter(|now| say(&mut repeats, a, *now, &mut news) == Verdict::Write).count();
    assert_eq!(written, 3);
    assert_eq!(say(&mut repeats, b, 10, &mut news), Verdict::Write, "another topic is another kind");
    assert_eq!(repeats.look(99), [], "the window is not over");
    assert_eq!(
        repeats.look(100),
        [News::Summary { example: a, repeated: 7, of_many: false, since: 3, until: 9 }]
    );
    assert_eq!(repeats.look(109), [News::Over { example: a, total: 10, of_many: false, since: 0, until: 9 }]);
    assert_eq!(repeats.look(1_000), [], "of the other everything was written");
    assert_eq!(news, []);
}

#[test]
fn a_record_of_the_next_window_tells_of_the_last_one_and_is_written() {
    let mut repeats = Repeats::new(RULE);
    let mut news = Vec::new();
    for now in 0..5 {
        say(&mut repeats, kind(1, 0), now, &mut news);
    }
    assert_eq!(say(&mut repeats, kind(1, 0), 150, &mut news), Verdict::Write);
    assert_eq!(
        news,
        [News::Summary { example: kind(1, 0), repeated: 2, of_many: false, since: 3, until: 4 }]
    );
    assert_eq!(
        repeats.look(260),
        [News::Over { example: kind(1, 0), total: 6, of_many: false, since: 0, until: 150 }]
    );
}

#[test]
fn invented_topics_cost_neither_memory_nor_lines_without_bound() {
    let mut repeats = Repeats::new(RULE);
    let mut news = Vec::new();
    let written = (1..=1_000)
        .filter(|topic| say(&mut repeats, kind(1, *topic), 0, &mut news) == Verdict::Write)
        .count();
    assert_eq!(written, MAX_DETAILED + 3, "one for each kind there is room for, and a burst for all others");
    assert_eq!(repeats.kinds.len(), MAX_DETAILED + 1);
    let told = repeats.look(100);
    assert!(matches!(told.first(), Some(News::Summary { repeated: 869, of_many: true, .. })), "{told:?}");
    assert_eq!(repeats.kinds.len(), 0);
    assert!(repeats.detailed.is_empty(), "there is room again");
}

#[test]
fn a_flood_at_one_place_leaves_the_kinds_of_another_apart() {
    let mut repeats = Repeats::new(RULE);
    let mut news = Vec::new();
    for topic in 1..=1_000 {
        say(&mut repeats, kind(1, topic), 0, &mut news);
    }
    for actor in 1..=2 {
        for _ in 0..5 {
            say(&mut repeats, kind(2, actor), 50, &mut news);
        }
    }
    let told = repeats.look(150);
    for actor in 1..=2 {
        let example = kind(2, actor);
        let sum = News::Summary { example, repeated: 2, of_many: false, since: 50, until: 50 };
        assert!(told.contains(&sum), "{told:?}");
    }
}

#[test]
fn a_sum_is_of_many_kinds_only_from_the_first_that_found_no_room() {
    let mut repeats = Repeats::of(Rule { burst: 0, ..RULE }, 0);
    let mut news = Vec::new();
    say(&mut repeats, kind(1, 0), 0, &mut news);
    say(&mut repeats, kind(1, 1), 100, &mut news);
    assert!(matches!(news[..], [News::Summary { of_many: false, repeated: 1, .. }]), "{news:?}");
    let told = repeats.end();
    assert!(matches!(told[0], News::Summary { of_many: true, repeated: 1, .. }), "{told:?}");
    assert!(matches!(told[1], News::Over { of_many: true, total: 2, .. }), "{told:?}");
}

#[test]
fn the_end_tells_what_no_window_has_told_yet() {
    let mut repeats = Repeats::new(RULE);
    let mut news = Vec::new();
    for now in 0..5 {
        say(&mut repeats, kind(1, 0), now, &mut news);
    }
    let summary = News::Summary { example: kind(1, 0), repeated: 2, of_many: false, since: 3, until: 4 };
    let over = News::Over { example: kind(1, 0), total: 5, of_many: false, since: 0, until: 4 };
    assert_eq!(repeats.end(), [summary, over]);
    assert_eq!(repeats.end(), []);
}

proptest! {
    /// Whatever comes when, also by clocks of threads that disagree a little.
    #[test]
    fn what_is_written_and_what_is_told_is_together_what_there_was(
        burst in 0_u64..5,
        steps in prop::collection::vec((0_u64..60, 0_u64..30, 0_u64..3, 0_u64..8, any::<bool>()), 0..400),
    ) {
        let mut repeats = Repeats::of(Rule { burst, ..RULE }, FEW);
        let (mut now, mut written) = (1_000, 0);
        let (mut news, mut said) = (Vec::new(), BTreeMap::new());
        for (step, back, site, detail, look) in &steps {
            // Most come at once, so that there are more kinds at a time than there is room for.
            now += step.saturating_sub(50);
            if *look && *step > 50 {
                news.extend(repeats.look(now));
            } else {
                // The first place has few kinds, whatever the others have.
                let kind = kind(*site + 1, if *site == 0 { detail % 4 } else { *detail });
                let verdict = say(&mut repeats, kind, now - back, &mut news);
                written += u64::from(verdict == Verdict::Write);
                *said.entry((kind.site, kind.detailed)).or_insert(0) += 1;
            }
            prop_assert!(repeats.detailed.values().all(|count| (1..=FEW).contains(count)));
            let detailed = repeats.kinds.values().filter(|episode| episode.detailed_of.is_some()).count();
            prop_assert_eq!(detailed, repeats.detailed.values().sum::<usize>());
        }
        news.extend(repeats.end());
        let mut told = 0;
        for one in &news {
            let (News::Summary { since, until, example, of_many, .. }
            | News::Over { since, until, example, of_many, .. }) = one;
            prop_assert!(since <= until);
            prop_assert!(!(*of_many && example.site == 1), "there is room for all kinds of the first place");
            let of_the_site = said.iter().filter(|((site, _), _)| *site == example.site);
            let most: u64 = if *of_many {
                of_the_site.map(|(_, count)| count).sum()
            } else {
                said[&(example.site, example.detailed)]
            };
            match one {
                News::Summary { repeated, .. } => {
                    prop_assert!(*repeated > 0 && *repeated <= most);
                    told += repeated;
                }
                News::Over { total, .. } => prop_assert!(*total <= most, "an episode is of its kind, or place"),
            }
        }
        prop_assert_eq!(written + told, said.values().sum::<u64>());
    }

    #[test]
    fn no_window_of_a_kind_writes_more_than_the_burst(steps in prop::collection::vec(0_u64..40, 0..300)) {
        let mut repeats = Repeats::new(RULE);
        let (mut now, mut written) = (0, Vec::new());
        for step in steps {
            now += step;
            if say(&mut repeats, kind(1, 0), now, &mut Vec::new()) == Verdict::Write {
                written.push(now);
            }
        }
        // Windows begin with a record, so any stretch of a window's length touches at most two of them.
        for (at, first) in written.iter().enumerate() {
            let within = written.iter().skip(at).take_while(|now| **now - first < RULE.window_ms).count();
            prop_assert!(within as u64 <= 2 * RULE.burst);
        }
    }
}

use super::*;

/// A storing flow in which every message must have rows.
fn flow(counter: i64, stretches: &[(i64, i64)]) -> FlowFacts {
    let mut flow =
        FlowFacts { code: "F".into(), counter, every_number_has_rows: true, ..FlowFacts::default() };
    for (first, last) in stretches {
        flow.stored.numbers.add(*first, *last);
    }
    flow
}

fn of_one(flow: FlowFacts) -> Vec<(Severity, &'static str)> {
    kinds(&Facts { flows: vec![flow], ..Facts::default() })
}

fn of_inbox(inbox: InboxFacts) -> Vec<(Severity, &'static str)> {
    kinds(&Facts { inbox: Some(inbox), ..Facts::default() })
}

fn kinds(facts: &Facts) -> Vec<(Severity, &'static str)> {
    check(facts).into_iter().map(|finding| (finding.severity, finding.kind.as_str())).collect()
}

#[test]
fn flow_without_gaps_has_no_finding() {
    assert_eq!(of_one(flow(9, &[(1, 9)])), []);
    // Older rows were deleted, or the counter was set before the first message.
    assert_eq!(of_one(flow(9, &[(5, 9)])), []);
    assert_eq!(of_one(FlowFacts::default()), []);
}

#[test]
fn gap_is_wrong_if_every_number_has_rows() {
    assert_eq!(of_one(flow(9, &[(1, 3), (5, 9)])), [(Severity::Wrong, "gap")]);
}

#[test]
fn gap_of_empty_objects_needs_a_look() {
    let with_gap = FlowFacts { every_number_has_rows: false, ..flow(9, &[(1, 3), (5, 9)]) };
    assert_eq!(of_one(with_gap), [(Severity::Look, "gap")]);
}

#[test]
fn repeated_numbers_are_wrong() {
    assert_eq!(of_one(flow(9, &[(1, 9), (4, 4)])), [(Severity::Wrong, "repeated")]);
    let mut posting = flow(9, &[]);
    posting.every_number_has_rows = false;
    posting.outbox = OutboxFacts { waiting: 2, repeated: 1, highest: Some(9), ..OutboxFacts::default() };
    assert_eq!(of_one(posting), [(Severity::Wrong, "repeated")]);
}

#[test]
fn counter_below_a_used_number_is_wrong() {
    let wrong = [(Severity::Wrong, "counter_too_low")];
    assert_eq!(of_one(flow(8, &[(1, 9)])), wrong);
    let waiting = OutboxFacts { waiting: 1, highest: Some(9), ..OutboxFacts::default() };
    assert_eq!(of_one(FlowFacts { outbox: waiting, counter: 8, ..FlowFacts::default() }), wrong);
    let dead = FlowFacts { highest_dead_letter: Some(9), counter: 8, ..FlowFacts::default() };
    assert_eq!(of_one(dead), wrong);
}

#[test]
fn counter_ahead_needs_a_look() {
    assert_eq!(of_one(flow(10, &[(1, 9)])), [(Severity::Look, "counter_ahead")]);
    // Delivered posts and empty objects leave no rows.
    assert_eq!(of_one(FlowFacts { counter: 10, ..FlowFacts::default() }), []);
    let free = FlowFacts { every_number_has_rows: false, ..flow(10, &[(1, 9)]) };
    assert_eq!(of_one(free), []);
}

#[test]
fn failing_posts_need_a_look() {
    let waiting = OutboxFacts { waiting: 3, highest: Some(3), ..OutboxFacts::default() };
    let posting = |outbox| FlowFacts { outbox, counter: 3, ..FlowFacts::default() };
    assert_eq!(of_one(posting(waiting.clone())), []);
    let failing = OutboxFacts { attempts: 2, ..waiting };
    assert_eq!(of_one(posting(failing)), [(Severity::Look, "failing_posts")]);
}

#[test]
fn owners_with_rows_need_a_lease() {
    let owner = |waiting, lease_seconds| OwnerFacts { owner: "o".into(), waiting, lease_seconds };
    let kinds_of = |owner| kinds(&Facts { owners: vec![owner], ..Facts::default() });
    assert_eq!(kinds_of(owner(1, None)), [(Severity::Look, "no_lease")]);
    assert_eq!(kinds_of(owner(1, Some(-1))), [(Severity::Look, "no_lease")]);
    assert_eq!(kinds_of(owner(1, Some(30))), []);
    assert_eq!(kinds_of(owner(0, None)), []);
}

#[test]
fn wrong_findings_come_first() {
    let mut facts = Facts { flows: vec![flow(8, &[(1, 9)])], ..Facts::default() };
    facts.flows.insert(0, FlowFacts { dead_letters: [("r".to_owned(), 1)].into(), ..FlowFacts::default() });
    assert_eq!(kinds(&facts), [(Severity::Wrong, "counter_too_low"), (Severity::Look, "dead_letters")]);
}

fn inbox(in_use: bool, next_offset: u64) -> InboxFacts {
    InboxFacts {
        in_use,
        newest_base: Some(100),
        end: 150,
        never_issued: 200,
        lanes: vec![LaneFacts {
            lane: 0,
            next_offset: Some(next_offset),
            lagging_from: None,
            waiting: 0,
            committed: None,
        }],
        ..InboxFacts::default()
    }
}

#[test]
fn lane_within_the_log_has_no_finding() {
    for next_offset in [0, 120, 150] {
        assert_eq!(of_inbox(inbox(true, next_offset)), []);
    }
    // Without new records since the start, an idle lane is at the next offset.
    assert_eq!(of_inbox(InboxFacts { end: 0, ..inbox(true, 100) }), []);
}

#[test]
fn lane_beyond_the_log_skips_messages() {
    assert_eq!(of_inbox(inbox(true, 151)), [(Severity::Wrong, "offset_too_high")]);
    // The next start issues offsets above the lane.
    assert_eq!(of_inbox(inbox(false, 151)), [(Severity::Look, "offset_too_high")]);
    // All segments are released, so the next offset is unknown.
    assert_eq!(of_inbox(InboxFacts { newest_base: None, ..inbox(true, 151) }), []);
}

#[test]
fn lane_beyond_issued_offsets_is_wrong() {
    for newest_base in [Some(100), None] {
        let found = |in_use| of_inbox(InboxFacts { newest_base, ..inbox(in_use, 201) });
        assert_eq!(found(true), [(Severity::Wrong, "offset_too_high")]);
        assert_eq!(found(false), [(Severity::Look, "offset_too_high")], "the next start begins above it");
    }
}

#[test]
fn lane_below_its_committed_offset_is_wrong() {
    let mut facts = inbox(false, 120);
    facts.lanes[0].committed = Some(121);
    assert_eq!(of_inbox(facts), [(Severity::Wrong, "database_went_back")]);
}

#[test]
fn damage_is_wrong_until_lanes_pass_it() {
    let damaged = |next| InboxFacts { damages: 1, damaged_below: 120, ..inbox(true, next) };
    assert_eq!(of_inbox(damaged(119)), [(Severity::Wrong, "damage")]);
    assert_eq!(of_inbox(damaged(120)), [(Severity::Look, "damage")]);
    let mut lagging = damaged(120);
    lagging.lanes[0].lagging_from = Some(119);
    assert_eq!(of_inbox(lagging), [(Severity::Wrong, "damage")]);
}

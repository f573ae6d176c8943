use super::*;

const DATABASE: &str = "db";

const RANGE: Offset = OFFSETS_PER_START;

fn directory(start_id: Option<&str>) -> InboxDirectory {
    InboxDirectory {
        inbox_id: "inbox".to_owned(),
        client_id: "gw".to_owned(),
        location: "host:/inbox".to_owned(),
        place: "boot:1:2".to_owned(),
        database_id: start_id.map(|_| DATABASE.to_owned()),
        start_id: start_id.map(str::to_owned),
        next_base: 4 * RANGE,
        log_end: 400,
        committed: vec![300, 350],
    }
}

fn start(start_id: &str, generation: i64) -> Start {
    Start {
        inbox_id: "inbox".to_owned(),
        start_id: start_id.to_owned(),
        generation,
        location: "host:/inbox".to_owned(),
        place: "boot:1:2".to_owned(),
        parent: None,
        base: RANGE * generation.unsigned_abs(),
        log_end: 0,
        state: StartState::Ended,
        beats: 7,
        resume: None,
    }
}

fn registry(starts: Vec<Start>) -> RegisteredStarts {
    let lanes = BTreeMap::from([(0, 300), (1, 350)]);
    RegisteredStarts { database_id: DATABASE.to_owned(), starts, lanes, others: Vec::new() }
}

fn registered(directory: &InboxDirectory, registry: &RegisteredStarts) -> Registration {
    match decide_start(directory, registry, Consent::default(), &[]) {
        StartDecision::Register(registration) => registration,
        decision => panic!("{decision:?}"),
    }
}

#[test]
fn new_and_known_inboxes_start_without_notice() {
    let nothing_known = RegisteredStarts { database_id: DATABASE.to_owned(), ..RegisteredStarts::default() };
    for (directory, registry) in [
        (directory(None), nothing_known),
        (directory(Some("b")), registry(vec![start("b", 2), start("a", 1)])),
    ] {
        let expected = Registration { base: 4 * RANGE, ..Registration::default() };
        assert_eq!(registered(&directory, &registry), expected);
    }
}

#[test]
fn own_directory_is_not_watched() {
    let killed = Start { state: StartState::Running, ..start("a", 1) };
    registered(&directory(Some("a")), &registry(vec![killed]));
}

#[test]
fn copy_watches_the_running_original() {
    let running = Start { state: StartState::Running, ..start("a", 1) };
    let copy = InboxDirectory { place: "boot:1:3".to_owned(), ..directory(Some("a")) };
    let registry = registry(vec![running.clone()]);
    assert_eq!(
        decide_start(&copy, &registry, Consent::default(), &[]),
        StartDecision::Watch(running.clone())
    );
    let refusal = refuse_for(&copy, &running);
    assert!(refusal.to_string().contains("INBOX_DIR is a copy"), "{refusal}");
    let silent = ["a".to_owned()];
    assert!(matches!(
        decide_start(&copy, &registry, Consent::default(), &silent),
        StartDecision::Register(_)
    ));
}

fn child(start_id: &str, generation: i64, parent: &str, log_end: Offset) -> Start {
    Start { parent: Some(parent.to_owned()), log_end, ..start(start_id, generation) }
}

/// Records below 400, all of which the later starts have too.
#[test]
fn older_copy_issues_new_offsets() {
    let starts = vec![child("c", 70, "b", 500), child("b", 2, "a", 400), start("a", 1)];
    let registration = registered(&directory(Some("a")), &registry(starts));
    assert_eq!(registration.base, 71 * RANGE, "above what c could issue");
    assert!(registration.lanes.is_empty() && registration.lagging.is_none());
    assert!(matches!(registration.notices[..], [Notice::OlderCopy { .. }, Notice::OffsetsSkipped { .. }]));
}

#[test]
fn twice_restored_copy_is_an_older_copy() {
    let starts = vec![child("c", 3, "a", 400), child("b", 2, "a", 400), start("a", 1)];
    assert!(registered(&directory(Some("a")), &registry(starts)).lanes.is_empty());
}

/// The other directory is a copy without the records from 320 on, which only this directory has.
#[test]
fn forked_directory_is_refused_or_replayed() {
    let resume = Resume { lanes: BTreeMap::from([(0, 310), (1, 330)]), lagging: vec![(0, 9, 250)] };
    let first = Start { resume: Some(resume), ..start("a", 1) };
    let lanes = BTreeMap::from([(0, 9_000), (1, 9_000)]);
    let registry = RegisteredStarts { lanes, ..registry(vec![child("b", 2, "a", 320), first]) };
    let directory = directory(Some("a"));
    let StartDecision::Refuse(refusal) = decide_start(&directory, &registry, Consent::default(), &[]) else {
        panic!()
    };
    assert!(refusal.to_string().contains("--replay"), "{refusal}");

    let consent = Consent { database: Some(DatabaseChange::Replay), new_inbox: false };
    let StartDecision::Register(replayed) = decide_start(&directory, &registry, consent, &[]) else {
        panic!()
    };
    assert_eq!(replayed.lanes, BTreeMap::from([(0, 310), (1, 330)]));
    assert_eq!(replayed.lagging, Some(vec![(0, LaggingFlow { flow: 9, next_offset: 250 })]));
    assert!(replayed.used_database_consent());
    assert!(!Registration::default().used_database_consent());
}

#[test]
fn directory_without_descendants_is_refused() {
    let registry = registry(vec![child("c", 3, "a", 900), child("b", 2, "a", 900), start("a", 1)]);
    let decision = decide_start(&directory(Some("b")), &registry, Consent::default(), &[]);
    assert!(matches!(decision, StartDecision::Refuse(StartRefusal::Fork { .. })));
}

#[test]
fn base_lies_above_all_lanes() {
    let registry = RegisteredStarts { lanes: BTreeMap::from([(0, 5 * RANGE + 3)]), ..registry(Vec::new()) };
    let registration = registered(&directory(None), &registry);
    assert_eq!(registration.base, 6 * RANGE);
    assert_eq!(registration.notices, [Notice::OffsetsSkipped { base: 6 * RANGE }]);
}

#[test]
fn unknown_last_start_means_database_went_back() {
    let registration = registered(&directory(Some("c")), &registry(vec![start("a", 1)]));
    assert_eq!(registration.notices, [Notice::DatabaseWentBack]);
    assert!(registration.lanes.is_empty(), "the lanes are where the database has them");
}

#[test]
fn other_database_needs_consent() {
    let other = RegisteredStarts { database_id: "other".to_owned(), ..RegisteredStarts::default() };
    let directory = directory(Some("a"));
    let consent = |database| Consent { database, ..Consent::default() };
    let StartDecision::Refuse(refusal) = decide_start(&directory, &other, consent(None), &[]) else {
        panic!()
    };
    let text = refusal.to_string();
    assert!(text.contains("--adopt-database") && text.contains("--replay"), "{text}");

    let StartDecision::Register(adopted) =
        decide_start(&directory, &other, consent(Some(DatabaseChange::Adopt)), &[])
    else {
        panic!()
    };
    assert_eq!(adopted.lanes, BTreeMap::from([(0, 300), (1, 350)]));
    let StartDecision::Register(replayed) =
        decide_start(&directory, &other, consent(Some(DatabaseChange::Replay)), &[])
    else {
        panic!()
    };
    assert!(replayed.lanes.is_empty());
}

#[test]
fn adopted_database_keeps_further_lanes() {
    let other = RegisteredStarts { database_id: "other".to_owned(), ..registry(Vec::new()) };
    let other = RegisteredStarts { lanes: BTreeMap::from([(0, 320), (1, 340)]), ..other };
    let consent = Consent { database: Some(DatabaseChange::Adopt), new_inbox: false };
    let StartDecision::Register(adopted) = decide_start(&directory(Some("a")), &other, consent, &[]) else {
        panic!()
    };
    assert_eq!(adopted.lanes, BTreeMap::from([(1, 350)]));
}

fn with_other_inbox(state: StartState) -> RegisteredStarts {
    let other = Start { inbox_id: "before".to_owned(), state, ..start("x", 1) };
    RegisteredStarts { others: vec![other], ..registry(Vec::new()) }
}

#[test]
fn other_inbox_is_refused_unless_drained() {
    let directory = directory(None);
    for (state, refused) in
        [(StartState::Running, true), (StartState::Ended, true), (StartState::Drained, false)]
    {
        let decision = decide_start(&directory, &with_other_inbox(state), Consent::default(), &[]);
        assert_eq!(
            matches!(decision, StartDecision::Refuse(StartRefusal::OtherInbox { .. })),
            refused,
            "{state:?}"
        );
    }
}

#[test]
fn lost_inbox_needs_consent() {
    let consent = Consent { new_inbox: true, database: None };
    let registry = with_other_inbox(StartState::Running);
    let directory = directory(None);
    let StartDecision::Watch(other) = decide_start(&directory, &registry, consent, &[]) else { panic!() };
    assert!(matches!(refuse_for(&directory, &other), StartRefusal::ClientIdInUse { .. }));
    let StartDecision::Register(registration) =
        decide_start(&directory, &registry, consent, &[other.start_id])
    else {
        panic!()
    };
    assert!(matches!(registration.notices[..], [Notice::OtherInboxGivenUp { .. }]));
}

#[test]
fn unknown_state_counts_as_running() {
    for state in StartState::ALL {
        assert_eq!(StartState::parse(state.as_str()), state);
    }
    assert_eq!(StartState::parse("new"), StartState::Running);
}

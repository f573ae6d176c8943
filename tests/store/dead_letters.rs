//! The replay of dead letters on real databases: each is processed once, in the transaction that deletes it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::batches::{INBOX, OUTBOX_BOUND, Setup, batch_of, entry};
use crate::database::TestDatabase;
use mqtt_gateway::domain::dead_letter::{
    DeadLetterReason, LetterFilter, NotReplayable, ReplayOutcome, ReplayedLetter,
};
use mqtt_gateway::domain::routing::RoutingTable;
use mqtt_gateway::domain::topic::TopicFilter;
use mqtt_gateway::store::{
    Database, ErrorClass, LetterReplay, ReplayMode, StoreError, count_letters, discard_letters, last_letter,
    letter_before_newest, list_letters, load_flows, read_letters, select_letters,
};

on_every_database! {
    stored_letter_is_gone
    refused_letter_stays_with_its_new_reason
    numbered_post_keeps_number_and_key
    full_outbox_refuses_posts
    requeued_letter_is_due_at_once
    letters_without_flow_reach_all_matching_flows
    incomplete_letters_are_unchanged
    known_key_deletes_the_letter
    letter_that_the_database_refuses_stays_alone
    duplicate_post_is_reported
    rehearsal_changes_nothing
    concurrent_replays_process_each_letter_once
    letters_are_selected_by_their_columns
}

on_every_server! {
    locked_flow_ends_the_replay_unchanged
}

/// Inserts a dead letter with the next id.
async fn insert(setup: &Setup, columns: &[(&str, &str)]) {
    let offset = setup.count("SELECT COUNT(*) FROM dead_letters").await + 100;
    let now = setup.test.seconds_from_now(0);
    let mut row: BTreeMap<&str, String> = BTreeMap::from([
        ("occurred_at", now.clone()),
        ("received_at", now),
        ("inbox_id", format!("'{INBOX}'")),
        ("inbox_offset", offset.to_string()),
        ("topic", "'t'".to_owned()),
        ("payload", "'{\"a\":1}'".to_owned()),
        ("payload_bytes", "7".to_owned()),
        ("flow_id", "1".to_owned()),
        ("flow_code", "'F'".to_owned()),
        ("reason", "'flow_disabled'".to_owned()),
        ("detail", "'before'".to_owned()),
    ]);
    row.extend(columns.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let names: Vec<&str> = row.keys().copied().collect();
    let values: Vec<&str> = row.values().map(String::as_str).collect();
    let sql = format!("INSERT INTO dead_letters ({}) VALUES ({})", names.join(", "), values.join(", "));
    setup.test.execute(&sql).await;
}

async fn replay_of(setup: &Setup, database: Database, mode: ReplayMode) -> LetterReplay {
    let (routes, _) = RoutingTable::new(load_flows(&setup.database).await.unwrap());
    LetterReplay::new(database, (*setup.rules).clone(), routes, mode)
}

async fn try_replay(setup: &Setup, ids: &[i64]) -> Result<Vec<ReplayedLetter>, StoreError> {
    let mut replay = replay_of(setup, setup.database.clone(), ReplayMode::Commit).await;
    let mut replayed = Vec::new();
    replay.replay(ids, &mut |letters| replayed.extend(letters)).await?;
    replayed.sort_by_key(|letter| letter.id);
    Ok(replayed)
}

/// The outcomes of the letters, in order.
async fn replay(setup: &Setup, ids: &[i64]) -> Vec<Vec<ReplayOutcome>> {
    try_replay(setup, ids).await.unwrap().into_iter().map(|letter| letter.outcomes).collect()
}

fn reason(outcome: &ReplayOutcome) -> Option<&'static str> {
    match outcome {
        ReplayOutcome::Refused { reason, .. } => Some(reason.as_str()),
        _ => None,
    }
}

async fn letters(setup: &Setup) -> i64 {
    setup.count("SELECT COUNT(*) FROM dead_letters").await
}

async fn stored_letter_is_gone(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET last_msg_id = 41").await;
    insert(&setup, &[("received_at", "'2026-02-03 04:05:06'")]).await;

    assert_eq!(
        replay(&setup, &[1, 9]).await,
        [vec![ReplayOutcome::Stored { message_id: 42 }], vec![ReplayOutcome::Gone]]
    );

    assert_eq!(letters(&setup).await, 0);
    assert_eq!(setup.count("SELECT last_msg_id FROM flows").await, 42);
    let found =
        "SELECT COUNT(*) FROM data WHERE flow_code = 'F' AND attribute_name = 'a' AND last_msg_id = 42 AND";
    assert_eq!(setup.count(&format!("{found} received_at < '2026-02-04'")).await, 1);
    assert_eq!(replay(&setup, &[1]).await, [[ReplayOutcome::Gone]]);
}

async fn refused_letter_stays_with_its_new_reason(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute(r#"UPDATE flows SET payload_schema = '{"b": "int"}'"#).await;
    insert(&setup, &[("occurred_at", "'2026-02-03 04:05:06'")]).await;
    insert(&setup, &[("payload", r#"'{"b":1}'"#)]).await;
    insert(&setup, &[("flow_id", "7")]).await;

    let outcomes = replay(&setup, &[1, 2, 3]).await;

    assert_eq!(reason(&outcomes[0][0]), Some("validation_failed"));
    assert_eq!(outcomes[1], [ReplayOutcome::Stored { message_id: 1 }]);
    assert_eq!(reason(&outcomes[2][0]), Some("flow_deleted"));
    let left = read_letters(&setup.database, &[1, 2, 3]).await.unwrap();
    let found: Vec<_> =
        left.iter().map(|letter| (letter.id, letter.reason.as_str(), letter.flow_code.as_deref())).collect();
    assert_eq!(found, [(1, "validation_failed", Some("F")), (3, "flow_deleted", Some("F"))]);
    assert!(left[0].detail.as_deref().is_some_and(|detail| detail != "before"));
    assert!(left[0].occurred_at_us > left[0].received_at_us - 60_000_000, "dead again now");
    assert_eq!(left[0].payload, br#"{"a":1}"#);
}

async fn numbered_post_keeps_number_and_key(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    setup.test.execute("UPDATE flows SET last_msg_id = 41").await;
    let columns = [("message_id", "17"), ("reason", "'outbox_expired'"), ("flow_code", "'OLD'")];
    insert(&setup, &columns).await;
    insert(&setup, &[]).await;

    assert_eq!(
        replay(&setup, &[1, 2]).await,
        [[ReplayOutcome::Posted { message_id: 17 }], [ReplayOutcome::Posted { message_id: 42 }]]
    );

    let keys = "SELECT COUNT(*) FROM outbox WHERE flow_id = 1 AND owner = inbox_id AND attempts = 0 AND";
    let old = format!("{keys} inbox_offset = 100 AND message_id = 17 AND flow_code = 'OLD'");
    let new = format!("{keys} inbox_offset = 101 AND message_id = 42 AND flow_code = 'F'");
    assert_eq!((setup.count(&old).await, setup.count(&new).await), (1, 1));
    assert_eq!((letters(&setup).await, setup.count("SELECT last_msg_id FROM flows").await), (0, 42));
    let now = setup.test.seconds_from_now(0);
    let abandoned =
        format!("SELECT COUNT(*) FROM outbox_owners WHERE owner = '{INBOX}' AND lease_until <= {now}");
    assert_eq!(setup.count(&abandoned).await, 1, "its process is gone, so another claims them");
}

async fn full_outbox_refuses_posts(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute(r#"UPDATE flows SET options = '{"also_post": true}', last_msg_id = 500"#).await;
    let now = setup.test.seconds_from_now(60);
    setup
        .test
        .execute(&format!("INSERT INTO outbox_owners (owner, lease_until) VALUES ('{INBOX}', {now})"))
        .await;
    for number in 1..=OUTBOX_BOUND {
        insert(&setup, &[("message_id", &number.to_string()), ("reason", "'outbox_full'")]).await;
    }
    let ids: Vec<i64> = (1..=i64::try_from(OUTBOX_BOUND).unwrap()).collect();
    let posted = replay(&setup, &ids).await;
    assert!(posted.iter().all(|outcomes| matches!(outcomes[..], [ReplayOutcome::Posted { .. }])));
    insert(&setup, &[("message_id", "21"), ("reason", "'outbox_full'"), ("inbox_offset", "900")]).await;
    insert(&setup, &[("inbox_offset", "901")]).await;
    let last = last_letter(&setup.database).await.unwrap();

    let refused = replay(&setup, &[last - 1, last]).await;

    assert_eq!(
        refused.iter().map(|outcomes| reason(&outcomes[0])).collect::<Vec<_>>(),
        [Some("outbox_full"); 2]
    );
    let numbers: Vec<i64> = setup.test.column("SELECT message_id FROM dead_letters ORDER BY id").await;
    assert_eq!(numbers, [21, 501], "the second one is stored and has its number");
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 1);
}

async fn requeued_letter_is_due_at_once(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = (0..OUTBOX_BOUND + 7).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect();
    lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    let number = i64::try_from(OUTBOX_BOUND).unwrap() + 7;
    assert_eq!(replay(&setup, &[7]).await, [[ReplayOutcome::Posted { message_id: number }]]);

    let left: Vec<i64> = setup.test.column("SELECT id FROM dead_letters ORDER BY id").await;
    assert_eq!(left, [1, 2, 3, 4, 5, 6]);
    let now = setup.test.seconds_from_now(0);
    let due = format!("attempts = 0 AND owner = inbox_id AND next_attempt_at <= {now}");
    let back = format!("SELECT inbox_offset FROM outbox WHERE message_id = {number} AND {due}");
    assert_eq!(setup.count(&back).await, number - 1);
}

async fn letters_without_flow_reach_all_matching_flows(test: TestDatabase) {
    let setup = Setup::new(test).await;
    for code in ["F", "G", "H"] {
        setup.flow(code, "STORE_DB").await;
    }
    setup.test.execute(r#"UPDATE flows SET payload_schema = '{"b": "int"}' WHERE code = 'G'"#).await;
    setup.test.execute("UPDATE flows SET topic = 'elsewhere' WHERE code = 'H'").await;
    let no_flow = [("flow_id", "NULL"), ("flow_code", "NULL"), ("reason", "'payload_too_deep'")];
    insert(&setup, &no_flow).await;
    insert(&setup, &[&no_flow[..], &[("topic", "'nowhere'")]].concat()).await;
    insert(&setup, &[&no_flow[..], &[("payload", "'[]'"), ("payload_bytes", "2")]].concat()).await;

    let outcomes = replay(&setup, &[1, 2, 3]).await;

    assert_eq!(outcomes[0][0], ReplayOutcome::Stored { message_id: 1 });
    assert_eq!(reason(&outcomes[0][1]), Some("validation_failed"));
    assert_eq!(outcomes[1], [ReplayOutcome::NotReplayable(NotReplayable::NoFlow)]);
    assert_eq!(reason(&outcomes[2][0]), Some("payload_not_object"));
    let left = read_letters(&setup.database, &[1, 2, 3]).await.unwrap();
    let flows: Vec<_> = left.iter().map(|letter| (letter.id, letter.flow_code.as_deref())).collect();
    assert_eq!(flows, [(1, Some("G")), (2, None), (3, None)]);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 1);
}

async fn incomplete_letters_are_unchanged(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    insert(&setup, &[("payload_bytes", "8")]).await;
    insert(&setup, &[("reason", "'topic_not_utf8'")]).await;

    assert_eq!(
        replay(&setup, &[1, 2]).await,
        [
            [ReplayOutcome::NotReplayable(NotReplayable::PayloadCut { kept: 7, length: 8 })],
            [ReplayOutcome::NotReplayable(NotReplayable::PacketLost)]
        ]
    );
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters WHERE detail = 'before'").await, 2);
}

async fn known_key_deletes_the_letter(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET message_key = '/a'").await;
    insert(&setup, &[]).await;
    insert(&setup, &[]).await;
    insert(&setup, &[]).await;

    assert_eq!(
        replay(&setup, &[1, 2]).await,
        [[ReplayOutcome::Stored { message_id: 1 }], [ReplayOutcome::Repeated { message_id: 1 }]]
    );
    assert_eq!(replay(&setup, &[3]).await, [[ReplayOutcome::Repeated { message_id: 1 }]]);
    assert_eq!((letters(&setup).await, setup.count("SELECT COUNT(*) FROM data").await), (0, 1));
}

async fn letter_that_the_database_refuses_stays_alone(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.refuse_the_value("2").await;
    for value in 1..=3 {
        insert(&setup, &[("payload", &format!("'{{\"a\":{value}}}'"))]).await;
    }

    let outcomes = replay(&setup, &[1, 2, 3]).await;

    assert_eq!(outcomes[0], [ReplayOutcome::Stored { message_id: 1 }]);
    assert_eq!(reason(&outcomes[1][0]), Some("refused_by_database"));
    assert_eq!(outcomes[2], [ReplayOutcome::Stored { message_id: 2 }]);
    assert_eq!(setup.count("SELECT id FROM dead_letters").await, 2);
}

async fn duplicate_post_is_reported(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    for _ in 0..2 {
        insert(&setup, &[("message_id", "5"), ("inbox_offset", "7"), ("reason", "'outbox_expired'")]).await;
    }

    let outcomes = replay(&setup, &[1, 2]).await;

    assert_eq!(outcomes[0], [ReplayOutcome::Posted { message_id: 5 }]);
    assert!(matches!(outcomes[1][..], [ReplayOutcome::NotReplayable(NotReplayable::Database(_))]));
    assert_eq!((letters(&setup).await, setup.count("SELECT COUNT(*) FROM outbox").await), (1, 1));
}

async fn rehearsal_changes_nothing(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    insert(&setup, &[]).await;
    insert(&setup, &[("flow_id", "7")]).await;
    let mut rehearsal = replay_of(&setup, setup.database.clone(), ReplayMode::RollBack).await;
    let mut replayed = Vec::new();
    rehearsal.replay(&[1, 2], &mut |letters| replayed.extend(letters)).await.unwrap();

    assert_eq!(replayed[0].outcomes, [ReplayOutcome::Stored { message_id: 1 }]);
    assert_eq!(reason(&replayed[1].outcomes[0]), Some("flow_deleted"));
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters WHERE detail = 'before'").await, 2);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 0);
    assert_eq!(setup.count("SELECT COALESCE(last_msg_id, 0) FROM flows").await, 0);
}

async fn concurrent_replays_process_each_letter_once(test: TestDatabase) {
    const LETTERS: i64 = 300;
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    for _ in 0..LETTERS {
        insert(&setup, &[]).await;
    }
    let ids: Vec<i64> = (1..=LETTERS).collect();
    let replay = async || {
        let database = Database::connect(setup.test.settings(), 2).await.unwrap();
        let mut replay = replay_of(&setup, database, ReplayMode::Commit).await;
        let mut replayed = Vec::new();
        replay.replay(&ids, &mut |letters| replayed.extend(letters)).await.unwrap();
        replayed
    };

    let (first, second) = tokio::join!(replay(), replay());

    let mut outcomes: BTreeMap<i64, Vec<&'static str>> = BTreeMap::new();
    for letter in first.iter().chain(&second) {
        outcomes.entry(letter.id).or_default().push(letter.outcomes[0].as_str());
    }
    assert_eq!(outcomes.len(), ids.len());
    for outcome in outcomes.values_mut() {
        outcome.sort_unstable();
        assert_eq!(*outcome, ["gone", "stored"]);
    }
    let numbers: Vec<i64> = setup.test.column("SELECT last_msg_id FROM data ORDER BY last_msg_id").await;
    assert_eq!(numbers, ids);
}

async fn locked_flow_ends_the_replay_unchanged(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    insert(&setup, &[]).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&holding, &setup.lock_flow(1)).await.unwrap();
    let impatient = Database::connect_with(setup.test.settings(), 2, Duration::from_secs(1)).await.unwrap();
    let mut replay = replay_of(&setup, impatient, ReplayMode::Commit).await;

    let locked = replay.replay(&[1], &mut |_| panic!("nothing is done")).await.unwrap_err();
    assert_eq!(locked.class(), ErrorClass::LockTimeout);
    holding.rollback().await.unwrap();

    assert_eq!(letters(&setup).await, 1);
    let mut replayed = Vec::new();
    replay.replay(&[1], &mut |letters| replayed.extend(letters)).await.unwrap();
    assert_eq!(replayed[0].outcomes, [ReplayOutcome::Stored { message_id: 1 }]);
}

async fn letters_are_selected_by_their_columns(test: TestDatabase) {
    let setup = Setup::new(test).await;
    insert(&setup, &[("topic", "'a/b'"), ("occurred_at", "'2026-02-03 04:05:06.000000'")]).await;
    insert(&setup, &[("flow_code", "'G'"), ("payload", "'{\"x\":\"Wörd\"}'")]).await;
    insert(&setup, &[("reason", "'validation_failed'"), ("detail", "NULL"), ("topic", "'a/c'")]).await;
    let database = &setup.database;
    let filter = LetterFilter::default;
    let cases = [
        (filter(), vec![1, 2, 3]),
        (LetterFilter { flow: Some("G".to_owned()), ..filter() }, vec![2]),
        (LetterFilter { reason: Some(DeadLetterReason::ValidationFailed), ..filter() }, vec![3]),
        (LetterFilter { topic: TopicFilter::parse("a/+").ok(), ..filter() }, vec![1, 3]),
        (LetterFilter { until_us: Some(1_770_091_507_000_000), ..filter() }, vec![1]),
        (LetterFilter { since_us: Some(1_770_091_507_000_000), ..filter() }, vec![2, 3]),
        (LetterFilter { since_us: Some(1_770_091_506_000_000), ..filter() }, vec![1, 2, 3]),
        (LetterFilter { text: Some("Wörd".to_owned()), ..filter() }, vec![2]),
        (LetterFilter { text: Some("efor".to_owned()), ..filter() }, vec![1, 2]),
        (LetterFilter { text: Some("a/".to_owned()), flow: Some("F".to_owned()), ..filter() }, vec![1, 3]),
        (LetterFilter { above: Some(1), ..filter() }, vec![2, 3]),
        (LetterFilter { up_to: Some(2), ..filter() }, vec![1, 2]),
    ];
    for (filter, expected) in cases {
        let (selected, _) = select_letters(database, &filter, (0, 3)).await.unwrap();
        assert_eq!(selected, expected, "{filter:?}");
        let listed = list_letters(database, &filter, None, 10).await.unwrap();
        assert_eq!(listed.iter().rev().map(|letter| letter.id).collect::<Vec<_>>(), expected);
        let counts = count_letters(database, &filter).await.unwrap();
        assert_eq!(counts.iter().map(|count| count.rows).sum::<u64>(), expected.len() as u64);
    }
    let page = list_letters(database, &filter(), Some(3), 1).await.unwrap();
    assert_eq!(page.iter().map(|letter| letter.id).collect::<Vec<_>>(), [2]);
    for (flow, before, rows, expected) in [
        (None, None, 2, Some(1)),
        (None, None, 3, None),
        (None, Some(3), 1, Some(1)),
        (Some("F"), None, 1, Some(1)),
        (Some("F"), None, 2, None),
    ] {
        let found = letter_before_newest(database, flow, before, rows).await.unwrap();
        assert_eq!(found, expected, "{flow:?} {before:?} {rows}");
    }
    assert_eq!(discard_letters(database, &[1, 3, 9]).await.unwrap(), 2);
    assert_eq!(last_letter(database).await.unwrap(), 2);
}

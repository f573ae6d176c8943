//! Audit of a table in several pieces, and of a table that changes meanwhile.

use mqtt_gateway::domain::audit::{Facts, Gaps, StoredFacts};
use mqtt_gateway::store::{AuditProgress, Database, audit, migrate};
use sea_orm::ConnectionTrait;

use crate::database::TestDatabase;

on_every_database! {
    messages_across_the_borders_of_pieces_are_whole
    defects_are_found_across_the_borders_of_pieces
    what_is_committed_meanwhile_belongs_to_another_moment
}

/// Messages of F; with three rows each, a message lies across the border of each piece but every third.
const MESSAGES: i64 = 60_000;

/// F has `MESSAGES` messages of three attributes; between two of them lies one row of G, all of one message.
async fn filled(test: &TestDatabase) -> Database {
    test.create_sqlalchemy_tables().await;
    let database = Database::connect(test.settings(), 2).await.unwrap();
    migrate(&database).await.unwrap();
    let counters = format!(
        "INSERT INTO flows (code, description, topic, action, payload_schema, last_msg_id, enabled) VALUES \
         ('F', '', 't', 'STORE_DB', '{{\"a\": \"number\"}}', {MESSAGES}, TRUE), \
         ('G', '', 't', 'STORE_DB', '{{\"n1\": \"number\"}}', 1, TRUE)"
    );
    test.execute(&counters).await;
    for first in (1..=MESSAGES).step_by(2_000) {
        let rows: Vec<String> = (first..first + 2_000).map(rows_of_message).collect();
        let columns = "received_at, flow_code, attribute_name, attribute_value, last_msg_id";
        test.execute(&format!("INSERT INTO data ({columns}) VALUES {}", rows.join(", "))).await;
    }
    database
}

fn rows_of_message(id: i64) -> String {
    let second = id % 60;
    let row = |name: &str| format!("('2026-01-01 00:00:{second:02}', 'F', '{name}', '1', {id})");
    let between = if id % 10_000 == 0 {
        format!(", ('2026-01-01 00:00:01', 'G', 'n{id}', '1', 1)")
    } else {
        String::new()
    };
    format!("{}, {}{between}, {}", row("a"), row("b"), row("c"))
}

fn stored<'a>(facts: &'a Facts, code: &str) -> &'a StoredFacts {
    &facts.flows.iter().find(|flow| flow.code == code).unwrap().stored
}

async fn audited(database: &Database) -> Facts {
    audit(database, None, &mut |_| {}).await.unwrap()
}

async fn messages_across_the_borders_of_pieces_are_whole(test: TestDatabase) {
    let database = filled(&test).await;
    let mut told: Vec<AuditProgress> = Vec::new();
    let facts = audit(&database, None, &mut |progress| told.push(progress)).await.unwrap();
    for (code, rows, last) in [("F", 3 * MESSAGES, MESSAGES), ("G", 6, 1)] {
        let found = stored(&facts, code);
        assert_eq!(found.rows, rows.cast_unsigned());
        assert_eq!((found.numbers.first(), found.numbers.last()), (Some(1), Some(last)), "{code}");
        assert_eq!((found.numbers.gaps(), found.numbers.repeated()), (Gaps::default(), (0, None)), "{code}");
    }
    assert!(told.len() >= 4, "{told:?}");
    let end = told.last().unwrap();
    assert_eq!((end.table, end.key), ("data", end.highest_key));
}

async fn defects_are_found_across_the_borders_of_pieces(test: TestDatabase) {
    let database = filled(&test).await;
    // The first piece ends within message 16,667. The defects lie around it.
    test.execute("DELETE FROM data WHERE flow_code = 'F' AND last_msg_id BETWEEN 16000 AND 17000").await;
    let border: i64 = test.value("SELECT id FROM data ORDER BY id LIMIT 1 OFFSET 49999").await;
    let cut: i64 = test
        .value(&format!(
            "SELECT last_msg_id FROM data WHERE flow_code = 'F' AND id > {border} ORDER BY id LIMIT 1"
        ))
        .await;
    test.execute(&format!(
        "UPDATE data SET received_at = '2020-01-01 00:00:00' \
         WHERE flow_code = 'F' AND last_msg_id = {cut} AND id > {border}"
    ))
    .await;
    test.execute(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
         VALUES ('2026-01-01 00:00:00', 'F', 'z', '1', 7)",
    )
    .await;
    let facts = audited(&database).await;
    let numbers = &stored(&facts, "F").numbers;
    assert_eq!(numbers.gaps(), Gaps { count: 1, ids: 1001, first: Some((16_000, 17_000)) });
    assert_eq!(numbers.repeated(), (2, Some(7)));
}

async fn what_is_committed_meanwhile_belongs_to_another_moment(test: TestDatabase) {
    let database = filled(&test).await;
    let settings = test.settings().clone();
    let mut begun = false;
    let facts = audit(&database, None, &mut |_| {
        if std::mem::replace(&mut begun, true) {
            return;
        }
        let settings = settings.clone();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let transaction = Database::connect(&settings, 1).await.unwrap().begin().await.unwrap();
                for statement in [
                    "UPDATE flows SET last_msg_id = 5",
                    "DELETE FROM data WHERE id > 90000",
                    "INSERT INTO dead_letters (occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
                     payload_bytes, reason) VALUES ('2026-01-01', '2026-01-01', 'x', 1, 't', '', 0, 'r')",
                ] {
                    transaction.execute_unprepared(statement).await.unwrap();
                }
                transaction.commit().await.unwrap();
            });
        });
        other.join().unwrap();
    })
    .await
    .unwrap();
    assert_eq!(stored(&facts, "F").numbers.last(), Some(MESSAGES));
    assert_eq!(facts.flows[0].counter, MESSAGES);
    assert!(facts.dead_letters.is_empty());
    assert_eq!(audited(&database).await.flows[0].counter, 5);
}

//! Inserts flows and reads the outcomes of their messages.

use sea_orm::DbBackend;

use super::cell::Cell;
use super::eventually;
use super::sql::Sql;
use super::world::{Backend, World};

/// A row of `flows` to insert. Defaults: enabled, `STORE_DB`, no required field, no message yet.
pub struct NewFlow {
    code: String,
    topic: String,
    action: String,
    schema: String,
    endpoint_url: Option<String>,
    last_msg_id: Option<i64>,
    enabled: Option<bool>,
}

impl NewFlow {
    pub fn new(code: &str, topic: &str) -> NewFlow {
        NewFlow {
            code: code.to_owned(),
            topic: topic.to_owned(),
            action: "STORE_DB".to_owned(),
            schema: "{}".to_owned(),
            endpoint_url: None,
            last_msg_id: None,
            enabled: Some(true),
        }
    }

    /// As it stands, without the test's prefix.
    pub fn topic(mut self, topic: &str) -> NewFlow {
        topic.clone_into(&mut self.topic);
        self
    }

    pub fn schema(mut self, schema: &str) -> NewFlow {
        schema.clone_into(&mut self.schema);
        self
    }

    pub fn action(mut self, action: &str) -> NewFlow {
        action.clone_into(&mut self.action);
        self
    }

    pub fn posts_to(mut self, url: &str) -> NewFlow {
        self.endpoint_url = Some(url.to_owned());
        self.action("POST_ENDPOINT")
    }

    pub fn continues_from(mut self, last_msg_id: i64) -> NewFlow {
        self.last_msg_id = Some(last_msg_id);
        self
    }

    pub fn enabled(mut self, enabled: Option<bool>) -> NewFlow {
        self.enabled = enabled;
        self
    }

    /// Inserts the row with the columns that the Python service knows, and gives its id.
    pub fn insert(self, sql: &Sql) -> i64 {
        // A driver that names the types of its parameters sends a text, which is no JSON of itself.
        let schema = if sql.backend() == DbBackend::Postgres { "CAST(? AS JSON)" } else { "?" };
        sql.execute(
            &format!(
                "INSERT INTO flows (code, description, topic, action, payload_schema, endpoint_url, last_msg_id, \
                 enabled) VALUES (?, 'a flow', ?, ?, {schema}, ?, ?, ?)"
            ),
            [
                self.code.as_str().into(),
                self.topic.into(),
                self.action.into(),
                self.schema.into(),
                self.endpoint_url.into(),
                self.last_msg_id.into(),
                self.enabled.into(),
            ],
        );
        sql.count("SELECT id FROM flows WHERE code = ?", [self.code.into()])
    }
}

/// The rows of one message in `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: i64,
    pub received_at: String,
    /// In the order of the rows.
    pub attributes: Vec<(String, Option<String>)>,
}

impl Stored {
    pub fn value(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: String,
    pub payload: Vec<u8>,
    pub flow_id: Option<i64>,
    pub reason: String,
    pub detail: String,
}

impl World {
    /// The messages of a flow in `data`, by row; one without attributes has none.
    pub fn stored(&self, code: &str) -> Vec<Stored> {
        let text = if self.backend == Backend::MariaDb { "CHAR" } else { "TEXT" };
        let rows = self.sql.rows(
            &format!(
                "SELECT last_msg_id, CAST(received_at AS {text}) AS received_at, attribute_name, attribute_value \
                 FROM data WHERE flow_code = ? ORDER BY id"
            ),
            [code.into()],
        );
        let mut messages: Vec<Stored> = Vec::new();
        for row in rows {
            let id = Cell::of(&row, 0).unwrap();
            let received_at: String = row.try_get("", "received_at").unwrap();
            if messages.last().is_none_or(|last| last.id != id) {
                messages.push(Stored { id, received_at: received_at.clone(), attributes: Vec::new() });
            }
            let message = messages.last_mut().unwrap();
            assert_eq!(message.received_at, received_at, "the rows of a message share its time");
            let name = row.try_get("", "attribute_name").unwrap();
            message.attributes.push((name, row.try_get("", "attribute_value").unwrap()));
        }
        messages
    }

    pub fn wait_for_stored(&self, code: &str, count: usize) -> Vec<Stored> {
        eventually(&format!("{count} messages of {code}"), || {
            let stored = self.stored(code);
            (stored.len() >= count).then_some(stored)
        })
    }

    pub fn last_msg_id(&self, code: &str) -> Option<i64> {
        let rows = self.sql.rows("SELECT last_msg_id FROM flows WHERE code = ?", [code.into()]);
        Cell::of(&rows[0], 0).unwrap()
    }

    pub fn wait_for_last_msg_id(&self, code: &str, id: i64) {
        eventually(&format!("message {id} of {code}"), || {
            (self.last_msg_id(code).unwrap_or(0) >= id).then_some(())
        });
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let sql = "SELECT topic, payload, flow_id, reason, detail FROM dead_letters ORDER BY id";
        let rows = self.sql.rows(sql, []);
        rows.iter()
            .map(|row| DeadLetter {
                topic: row.try_get("", "topic").unwrap(),
                payload: row.try_get("", "payload").unwrap(),
                flow_id: row.try_get("", "flow_id").unwrap(),
                reason: row.try_get("", "reason").unwrap(),
                detail: row.try_get::<Option<String>>("", "detail").unwrap().unwrap_or_default(),
            })
            .collect()
    }

    pub fn wait_for_dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        eventually(&format!("{count} dead letters"), || {
            let letters = self.dead_letters();
            (letters.len() >= count).then_some(letters)
        })
    }
}

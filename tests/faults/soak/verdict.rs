//! The verdict on a long run: reads `data` once, and the posts in order of arrival.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use test_support::sink::Request;
use test_support::world::World;

/// Rows of a message: its key and its text.
const ROWS: usize = 2;

/// Outcome of a run. All but `messages` and `posted_again` have to be 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    /// Ids that are missing or repeated, counters that do not match.
    pub(crate) gaps: u64,
    /// Messages that came after a later one of their flow.
    pub(crate) misordered: u64,
    /// Messages with more or fewer rows than they have attributes.
    pub(crate) torn: u64,
    pub(crate) dead_letters: u64,
    /// Rows in the outbox after everything was posted.
    pub(crate) left_over: u64,
    /// Posts that were repeated under their own key. Delivery is at least once.
    pub(crate) posted_again: u64,
}

impl Verdict {
    pub(crate) fn keeps_the_promise(&self) -> bool {
        let good = Verdict { messages: self.messages, posted_again: self.posted_again, ..Verdict::default() };
        *self == good
    }
}

/// Keys that are expected to rise by a fixed step.
#[derive(Debug, Default)]
struct Sequence {
    next: u64,
    step: u64,
    missing: BTreeSet<u64>,
    late: u64,
    repeated: u64,
}

impl Sequence {
    fn from(first: u64, step: u64) -> Sequence {
        Sequence { next: first, step, ..Sequence::default() }
    }

    fn take(&mut self, key: u64) {
        if key < self.next {
            let count = if self.missing.remove(&key) { &mut self.late } else { &mut self.repeated };
            *count += 1;
            return;
        }
        while self.next < key {
            self.missing.insert(self.next);
            self.next += self.step;
        }
        self.next += self.step;
    }

    /// How many keys below `published` never came.
    fn lost(&mut self, published: u64) -> u64 {
        while self.next < published {
            self.missing.insert(self.next);
            self.next += self.step;
        }
        self.missing.len() as u64
    }
}

/// The posts.
#[derive(Debug)]
pub(crate) struct Posts {
    flows: BTreeMap<String, PostedFlow>,
}

#[derive(Debug)]
struct PostedFlow {
    arrivals: Sequence,
    /// The messages, by `Idempotency-Key`.
    known: HashMap<String, Posted>,
    again: u64,
}

#[derive(Debug)]
struct Posted {
    key: u64,
    /// A post of it was answered with 200.
    done: bool,
}

impl PostedFlow {
    fn take(&mut self, idempotency_key: &str, key: u64, done: bool) {
        if let Some(posted) = self.known.get_mut(idempotency_key) {
            assert_eq!(posted.key, key, "one Idempotency-Key for two messages");
            posted.done |= done;
            self.again += 1;
        } else {
            self.arrivals.take(key);
            self.known.insert(idempotency_key.to_owned(), Posted { key, done });
        }
    }
}

impl Posts {
    /// Expects posts of these flows, each to the path `/` and its code. The number is the flow's place in the round.
    pub(crate) fn of(flows: &[(u64, String)], round: u64) -> Posts {
        let posted = |first: u64| PostedFlow {
            arrivals: Sequence::from(first, round),
            known: HashMap::new(),
            again: 0,
        };
        Posts { flows: flows.iter().map(|(first, code)| (code.clone(), posted(*first))).collect() }
    }

    pub(crate) fn take(&mut self, requests: &[Request]) {
        for request in requests {
            let flow = self.flows.get_mut(request.path.trim_start_matches('/')).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let key = body["key"].as_u64().unwrap();
            let idempotency_key = request.header("idempotency-key").unwrap();
            flow.take(idempotency_key, key, request.status == 200);
        }
    }
}

/// Judges a run over `flows` (in the order of the round) in which the keys below `published` were acknowledged.
pub(crate) fn judge(world: &World, flows: &[String], posts: &mut Posts, published: u64) -> Verdict {
    let mut verdict = Verdict {
        dead_letters: count(world, "SELECT COUNT(*) FROM dead_letters"),
        left_over: count(world, "SELECT COUNT(*) FROM outbox"),
        ..Verdict::default()
    };
    for (code, flow) in &mut posts.flows {
        let undelivered = flow.known.values().filter(|posted| !posted.done).count() as u64;
        let messages = flow.known.len() as u64;
        verdict.lost += flow.arrivals.lost(published) + undelivered;
        verdict.misordered += flow.arrivals.late;
        // One message under two keys has become two.
        verdict.duplicates += flow.arrivals.repeated;
        verdict.posted_again += flow.again;
        verdict.messages += messages;
        verdict.gaps += u64::from(counter(world, code) != messages);
    }
    let round = flows.len() as u64;
    let stored = (0..).zip(flows).filter(|(_, code)| !posts.flows.contains_key(*code));
    let mut stored: HashMap<&str, StoredFlow> =
        stored.map(|(first, code)| (code.as_str(), StoredFlow::from(first, round))).collect();
    each_row(world, |row| stored.get_mut(row.code.as_str()).unwrap().take(row));
    for (code, flow) in &mut stored {
        flow.end_message();
        verdict.lost += flow.arrivals.lost(published);
        verdict.misordered += flow.arrivals.late;
        verdict.duplicates += flow.arrivals.repeated;
        verdict.torn += flow.torn;
        verdict.messages += flow.messages;
        verdict.gaps += flow.gaps + u64::from(counter(world, code) != flow.messages);
    }
    verdict
}

struct Row {
    code: String,
    message: i64,
    name: String,
    value: String,
}

struct StoredFlow {
    arrivals: Sequence,
    messages: u64,
    /// The message whose rows are being read, and how many there were.
    current: i64,
    rows: usize,
    gaps: u64,
    torn: u64,
}

impl StoredFlow {
    fn from(first: u64, round: u64) -> StoredFlow {
        let arrivals = Sequence::from(first, round);
        StoredFlow { arrivals, messages: 0, current: 0, rows: ROWS, gaps: 0, torn: 0 }
    }

    fn take(&mut self, row: &Row) {
        if row.message != self.current {
            self.end_message();
            self.gaps += u64::from(row.message != self.current + 1);
            self.messages += 1;
            self.current = row.message;
            self.rows = 0;
        }
        self.rows += 1;
        if row.name == "key" {
            self.arrivals.take(row.value.parse().unwrap());
        }
    }

    fn end_message(&mut self) {
        self.torn += u64::from(self.rows != ROWS);
    }
}

fn each_row(world: &World, mut take: impl FnMut(&Row)) {
    const PAGE: &str = "SELECT CAST(id AS SIGNED) AS id, flow_code, CAST(last_msg_id AS SIGNED) AS message, \
         attribute_name, attribute_value FROM data WHERE id > ? ORDER BY id LIMIT 20000";
    let mut last = 0_i64;
    loop {
        let page = world.sql.rows(PAGE, [last.into()]);
        for row in &page {
            last = row.try_get("", "id").unwrap();
            take(&Row {
                code: row.try_get("", "flow_code").unwrap(),
                message: row.try_get("", "message").unwrap(),
                name: row.try_get("", "attribute_name").unwrap(),
                value: row.try_get("", "attribute_value").unwrap(),
            });
        }
        if page.is_empty() {
            return;
        }
    }
}

fn count(world: &World, sql: &str) -> u64 {
    u64::try_from(world.sql.count(sql, [])).unwrap()
}

fn counter(world: &World, code: &str) -> u64 {
    u64::try_from(world.last_msg_id(code).unwrap_or(0)).unwrap()
}

#[test]
fn a_sequence_tells_lost_from_late_and_repeated() {
    let mut sequence = Sequence::from(1, 3);
    for key in [1, 4, 10, 7, 4, 19] {
        sequence.take(key);
    }
    assert_eq!((sequence.late, sequence.repeated), (1, 1));
    assert_eq!(sequence.lost(26), 4, "13, 16, 22 and 25");
}

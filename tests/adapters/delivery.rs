//! From the outbox to the endpoint: real HTTP, real databases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::database::TestDatabase;
use actix::{Actor, Addr, Context, Handler};
use mqtt_gateway::actors::delivery::{DeliveryActor, DeliveryParts};
use mqtt_gateway::actors::messages::{ActorExited, Deliver, DeliverFromTable, DrainDelivery};
use mqtt_gateway::actors::{ActorGuard, ActorId, ActorState, Mailbox};
use mqtt_gateway::delivery::client::{Delivered, EndpointClients, FailedAnswer, PostError};
use mqtt_gateway::domain::message::{Body, DeliveryFacts, Record};
use mqtt_gateway::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use mqtt_gateway::domain::outbox_work::CommittedRows;
use mqtt_gateway::domain::posting::attempts::RecentAttempts;
use test_support::http_sink::{Reply, Sink, TOO_LONG};

use mqtt_gateway::settings::HttpRoute;
use mqtt_gateway::store::{Database, OutboxGauge, migrate};

const US: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const THEM: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const DAY: Duration = Duration::from_hours(24);

on_every_database! { #[actix::test]
    post_is_verbatim_keyed_then_deleted
    leftover_posts_go_first
    failing_flow_keeps_order_blocks_no_other
    more_than_memory_holds_is_posted_in_order
    expired_delivery_unblocks_its_flow
    rejected_post_becomes_dead_letter
    row_and_dead_letter_have_the_last_attempts
    a_flow_whose_messages_are_all_refused_waits
    rows_of_dead_process_are_taken_over
    delivered_rows_are_deleted_after_outage
    drain_finishes_post_and_starts_none
}

/// Hears that the actor ended.
struct Supervisor;

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<ActorExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: ActorExited, _: &mut Self::Context) {}
}

/// A delivery on a database of its own.
struct Gateway {
    test: TestDatabase,
    address: Addr<DeliveryActor>,
    mailbox: Arc<Mailbox>,
    gauge: Arc<OutboxGauge>,
    _supervisor: Addr<Supervisor>,
}

impl Gateway {
    async fn migrated(test: &TestDatabase) {
        let database = Database::connect(test.settings(), 1).await.unwrap();
        migrate(&database).await.unwrap();
    }

    async fn start(test: TestDatabase, max_age: Duration) -> Self {
        Self::migrated(&test).await;
        let gauge = Arc::new(OutboxGauge::default());
        let parts = DeliveryParts {
            database: test.settings().clone(),
            inbox_id: US.into(),
            gauge: Arc::clone(&gauge),
            http_timeout: TOO_LONG,
            http_route: HttpRoute::default(),
            max_age,
            waits_for_others: true,
            observed: Arc::default(),
        };
        let supervisor = Supervisor.start();
        let mailbox = Mailbox::new("delivery", 100_000);
        let guard =
            ActorGuard::new(ActorId::Delivery, 1, Arc::clone(&mailbox), supervisor.clone().recipient());
        let address = DeliveryActor::new(guard, parts).start();
        let gateway = Self { test, address, mailbox, gauge, _supervisor: supervisor };
        gateway.until("the delivery is ready", async |gateway| gateway.state() != ActorState::Starting).await;
        gateway
    }

    fn state(&self) -> ActorState {
        self.mailbox.report().state
    }

    /// Commits the rows and hands them over, as a worker does.
    async fn hand_over(&self, items: Vec<OutboxItem>) {
        insert(&self.test, US, &items).await;
        for item in &items {
            self.gauge.add(item.key.flow_id, item.created_at_us);
        }
        let weight = items.len();
        self.address.do_send(self.mailbox.try_enclose(Deliver { items }, weight).unwrap());
    }

    async fn drain(&self) {
        let drained = self.address.send(self.mailbox.enclose(DrainDelivery));
        tokio::time::timeout(TOO_LONG, drained).await.expect("drained within the time").unwrap();
    }

    async fn rows(&self) -> i64 {
        self.test.value("SELECT COUNT(*) FROM outbox").await
    }

    async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(TOO_LONG, waiting).await;
        waited.unwrap_or_else(|_| panic!("timed out waiting for: {what}"));
    }
}

/// Makes the flow of each item that has none, with the URL of the item.
async fn make_flows(test: &TestDatabase, items: &[OutboxItem]) {
    let flows: BTreeMap<i64, &str> =
        items.iter().map(|item| (item.key.flow_id, &*item.destination.url)).collect();
    for (id, url) in flows {
        test.execute(&format!(
            "INSERT INTO flows (id, code, description, topic, action, payload_schema, endpoint_url, enabled) \
             SELECT {id}, 'f{id}', '', 't', 'POST_ENDPOINT', '{{}}', '{url}', TRUE FROM (SELECT 1 AS one) AS row_of_one \
             WHERE NOT EXISTS (SELECT 1 FROM flows WHERE id = {id})"
        ))
        .await;
    }
}

async fn insert(test: &TestDatabase, owner: &str, items: &[OutboxItem]) {
    make_flows(test, items).await;
    let now = test.seconds_from_now(0);
    for items in items.chunks(500) {
        let rows = items.iter().map(|item| {
            let key = &item.key;
            format!(
                "('{}', {}, {}, {}, 'code', 't', '{}', '{}', '{owner}', 0, {now}, {now})",
                key.inbox_id,
                key.flow_id,
                key.inbox_offset,
                item.message_id,
                item.destination.url,
                String::from_utf8_lossy(item.payload.as_bytes()),
            )
        });
        let sql = format!(
            "INSERT INTO outbox (inbox_id, flow_id, inbox_offset, message_id, flow_code, topic, url, payload, \
             owner, attempts, created_at, next_attempt_at) VALUES {}",
            rows.collect::<Vec<_>>().join(", ")
        );
        test.execute(&sql).await;
    }
}

fn item(url: &str, flow: i64, number: i64) -> OutboxItem {
    item_with(url, flow, number, format!("{{\"flow\":{flow},  \"n\":{number}}}").into_bytes())
}

fn item_with(url: &str, flow: i64, number: i64, payload: Vec<u8>) -> OutboxItem {
    let record = Record {
        offset: number.unsigned_abs(),
        received_at_us: 0,
        topic: "t".to_owned(),
        body: Body::Whole(payload),
        delivery: DeliveryFacts::default(),
    };
    OutboxItem {
        key: OutboxKey { inbox_id: US.into(), inbox_offset: record.offset, flow_id: flow },
        message_id: number,
        flow_code: "code".into(),
        destination: url.into(),
        topic: "t".to_owned(),
        payload: OutboxPayload::Received(Arc::new(record)),
        attempts: 0,
        recent_attempts: RecentAttempts::default(),
        created_at_us: 0,
    }
}

fn body(flow: i64, number: i64) -> String {
    format!("{{\"flow\":{flow},  \"n\":{number}}}")
}

fn bodies(flow: i64, numbers: std::ops::RangeInclusive<i64>) -> Vec<String> {
    numbers.map(|number| body(flow, number)).collect()
}

async fn post_is_verbatim_keyed_then_deleted(test: TestDatabase) {
    let mut sink = Sink::start(|_| Reply::ok());
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over(vec![item(&sink.url(), 7, 41)]).await;
    let request = sink.next().await;
    assert_eq!(request.line, "POST /in HTTP/1.1");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("idempotency-key"), format!("{US}-41-7"));
    assert_eq!(request.header("user-agent"), concat!("mqtt-gateway/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.header("host"), sink.address().to_string());
    assert_eq!(request.text(), "{\"flow\":7,  \"n\":41}");
    gateway.until("the row is gone", async |gateway| gateway.rows().await == 0).await;
    gateway.until("nothing waits", async |gateway| gateway.gauge.total() == 0).await;
    assert_eq!(gateway.state(), ActorState::Running);
}

async fn leftover_posts_go_first(test: TestDatabase) {
    let mut sink = Sink::start(|_| Reply::ok());
    Gateway::migrated(&test).await;
    let left: Vec<_> = (1..=600).map(|number| item(&sink.url(), 1, number)).collect();
    insert(&test, US, &left).await;
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over((601..=700).map(|number| item(&sink.url(), 1, number)).collect()).await;
    assert_eq!(sink.bodies(700).await, bodies(1, 1..=700));
    gateway.drain().await;
    assert_eq!((gateway.rows().await, sink.try_next().is_none()), (0, true));
}

async fn failing_flow_keeps_order_blocks_no_other(test: TestDatabase) {
    let failures = AtomicUsize::new(2);
    let mut bad = Sink::start(move |_| {
        let fails = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if fails.is_ok() { Reply::unavailable() } else { Reply::ok() }
    });
    let mut good = Sink::start(|_| Reply::ok());
    let gateway = Gateway::start(test, DAY).await;
    let mut items: Vec<_> = (1..=3).map(|number| item(&bad.url(), 1, number)).collect();
    items.extend((1..=50).map(|number| item(&good.url(), 2, number)));
    gateway.hand_over(items).await;
    assert_eq!(good.bodies(50).await, bodies(2, 1..=50));
    let first = bad.next().await;
    let again = bad.next().await;
    assert_eq!((first.text(), again.text()), (body(1, 1), body(1, 1)));
    assert_eq!(first.header("idempotency-key"), again.header("idempotency-key"));
    gateway.hand_over(vec![item(&bad.url(), 1, 4)]).await;
    assert_eq!(bad.bodies(4).await, bodies(1, 1..=4));
    gateway.until("all rows are gone", async |gateway| gateway.rows().await == 0).await;
}

async fn more_than_memory_holds_is_posted_in_order(test: TestDatabase) {
    let mut sink = Sink::start(|_| Reply::ok());
    let gateway = Gateway::start(test, DAY).await;
    for batch in 0..10 {
        let numbers = (batch * 200 + 1)..=(batch * 200 + 200);
        gateway.hand_over(numbers.map(|number| item(&sink.url(), 1, number)).collect()).await;
    }
    assert_eq!(sink.bodies(2000).await, bodies(1, 1..=2000));
    // A worker that found no room.
    let late = [item(&sink.url(), 1, 2001)];
    insert(&gateway.test, US, &late).await;
    let unannounced = CommittedRows::from_items(&late);
    gateway.address.do_send(gateway.mailbox.enclose(DeliverFromTable { rows: Some(unannounced) }));
    assert_eq!(sink.bodies(1).await, bodies(1, 2001..=2001));
    // A worker that ended between its commit and its message.
    insert(&gateway.test, US, &[item(&sink.url(), 2, 1)]).await;
    gateway.address.do_send(gateway.mailbox.enclose(DeliverFromTable { rows: None }));
    assert_eq!(sink.bodies(1).await, bodies(2, 1..=1));
    gateway.drain().await;
    assert_eq!((gateway.rows().await, sink.try_next().is_none()), (0, true));
}

async fn expired_delivery_unblocks_its_flow(test: TestDatabase) {
    let mut sink = Sink::start(|request| {
        if request.text().contains("\"n\":1}") {
            return Reply::unavailable();
        }
        Reply::ok()
    });
    let gateway = Gateway::start(test, Duration::ZERO).await;
    gateway.hand_over((1..=2).map(|number| item(&sink.url(), 5, number)).collect()).await;
    assert_eq!(sink.bodies(2).await, bodies(5, 1..=2));
    gateway.drain().await;
    assert_eq!((gateway.rows().await, gateway.gauge.total()), (0, 0));
    let letter = &gateway.test.rows("SELECT * FROM dead_letters").await[0];
    assert_eq!(letter.try_get::<String>("", "reason").unwrap(), "outbox_expired");
    assert_eq!(letter.try_get::<i64>("", "message_id").unwrap(), 1);
    assert_eq!(letter.try_get::<Vec<u8>>("", "payload").unwrap(), body(5, 1).into_bytes());
    let detail = letter.try_get::<String>("", "detail").unwrap();
    assert_eq!(detail, "given up at attempt 1: HTTP status 503");
}

async fn rejected_post_becomes_dead_letter(test: TestDatabase) {
    let mut sink = Sink::start(|request| {
        let statuses =
            ["400 Bad Request", "413 Content Too Large", "415 Unsupported Media Type", "422 Unprocessable"];
        let refusal = (1..).zip(statuses).find(|(number, _)| request.text() == body(5, *number));
        let status = refusal.map_or("200 OK", |(_, status)| status);
        Reply::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    });
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over((1..=5).map(|number| item(&sink.url(), 5, number)).collect()).await;
    assert_eq!(sink.bodies(5).await, bodies(5, 1..=5));
    gateway.drain().await;
    assert_eq!((gateway.rows().await, gateway.gauge.total(), sink.try_next().is_none()), (0, 0, true));
    let letters = gateway.test.rows("SELECT * FROM dead_letters ORDER BY message_id").await;
    for (letter, (number, status)) in letters.iter().zip((1..).zip([400, 413, 415, 422])) {
        assert_eq!(letter.try_get::<String>("", "reason").unwrap(), "endpoint_refused");
        assert_eq!(letter.try_get::<String>("", "detail").unwrap(), format!("HTTP status {status}"));
        assert_eq!(letter.try_get::<Vec<u8>>("", "payload").unwrap(), body(5, number).into_bytes());
    }
    assert_eq!(letters.len(), 4);
}

async fn row_and_dead_letter_have_the_last_attempts(test: TestDatabase) {
    const REFUSAL: &[u8] = b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 3\r\n\r\nbad";
    let seen = AtomicUsize::new(0);
    let refuses = Arc::new(AtomicBool::new(false));
    let refusing = Arc::clone(&refuses);
    let mut sink = Sink::start(move |_| match seen.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /in\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ if refusing.load(Ordering::Relaxed) => Reply::Bytes(REFUSAL.to_vec()),
        _ => Reply::unavailable(),
    });
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over(vec![item(&sink.url(), 1, 1)]).await;
    sink.bodies(2).await;
    let attempts = async |table: &str| -> Vec<serde_json::Value> {
        let sql = format!("SELECT COALESCE(recent_attempts, '[]') FROM {table}");
        let found: Vec<String> = gateway.test.column(&sql).await;
        found.first().map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    };
    gateway.until("two failures are kept", async |_| attempts("outbox").await.len() == 2).await;
    refuses.store(true, Ordering::Relaxed);
    gateway.until("the row is gone", async |gateway| gateway.rows().await == 0).await;

    let kept = attempts("dead_letters").await;
    let statuses: Vec<_> = kept.iter().filter_map(|attempt| attempt["status"].as_u64()).collect();
    assert_eq!((statuses.first(), statuses.last(), kept.len()), (Some(&302), Some(&422), statuses.len()));
    assert!(kept[0]["error"].as_str().unwrap().starts_with("HTTP status 302 leads to"), "{kept:?}");
    assert_eq!(kept.last().unwrap()["answer"], "bad");
    assert!(kept.iter().all(|attempt| attempt["ms"].is_u64()), "{kept:?}");
    assert!(kept.is_sorted_by_key(|attempt| attempt["at"].as_str().unwrap().to_owned()), "{kept:?}");
}

async fn a_flow_whose_messages_are_all_refused_waits(test: TestDatabase) {
    const UNPROCESSABLE: &[u8] = b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n";
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let mut sink = Sink::start(move |_| {
        if is_mended.load(Ordering::Relaxed) { Reply::ok() } else { Reply::Bytes(UNPROCESSABLE.to_vec()) }
    });
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over((1..=30).map(|number| item(&sink.url(), 5, number)).collect()).await;
    assert_eq!(sink.bodies(22).await[19..], [body(5, 20), body(5, 21), body(5, 21)]);
    mended.store(true, Ordering::Relaxed);
    gateway.until("the outbox is empty", async |gateway| gateway.rows().await == 0).await;
    assert_eq!(gateway.test.value::<i64>("SELECT COUNT(*) FROM dead_letters").await, 20);
    assert_eq!(gateway.test.value::<i64>("SELECT MAX(message_id) FROM dead_letters").await, 20);
}

async fn rows_of_dead_process_are_taken_over(test: TestDatabase) {
    let mut sink = Sink::start(|_| Reply::ok());
    Gateway::migrated(&test).await;
    let mut theirs = item(&sink.url(), 1, 1);
    theirs.key.inbox_id = THEM.into();
    insert(&test, THEM, &[theirs]).await;
    test.execute(&format!("INSERT INTO outbox_owners VALUES ('{THEM}', '2020-01-01 00:00:00')")).await;
    let gateway = Gateway::start(test, DAY).await;
    assert_eq!(sink.next().await.header("idempotency-key"), format!("{THEM}-1-1"));
    gateway.until("the row is gone", async |gateway| gateway.rows().await == 0).await;
}

async fn delivered_rows_are_deleted_after_outage(test: TestDatabase) {
    let mut sink = Sink::start(|_| Reply::ok());
    let gateway = Gateway::start(test, DAY).await;
    let rename = |from, to| format!("ALTER TABLE {from} RENAME TO {to}");
    insert(&gateway.test, US, &[item(&sink.url(), 1, 1), item(&sink.url(), 1, 2)]).await;
    gateway.test.execute(&rename("outbox", "away")).await;
    let items = vec![item(&sink.url(), 1, 1), item(&sink.url(), 1, 2)];
    gateway.address.do_send(gateway.mailbox.try_enclose(Deliver { items }, 2).unwrap());
    assert_eq!(sink.bodies(2).await, bodies(1, 1..=2));
    gateway.until("it is noticed", async |gateway| gateway.state() == ActorState::Retrying).await;
    gateway.test.execute(&rename("away", "outbox")).await;
    gateway.drain().await;
    assert_eq!((gateway.rows().await, sink.try_next().is_none()), (0, true));
}

async fn drain_finishes_post_and_starts_none(test: TestDatabase) {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let mut sink = Sink::start(move |_| {
        // Ends when the test sends, or is over.
        let _ = released.lock().unwrap().recv();
        Reply::ok()
    });
    let gateway = Gateway::start(test, DAY).await;
    gateway.hand_over((1..=2).map(|number| item(&sink.url(), 1, number)).collect()).await;
    gateway.until("a post is under way", async |_| sink.connections() == 1).await;
    let drained = Arc::new(AtomicBool::new(false));
    let drain = async {
        gateway.drain().await;
        drained.store(true, Ordering::Relaxed);
    };
    let watch = async {
        gateway.until("it drains", async |gateway| gateway.state() == ActorState::Draining).await;
        assert!(!drained.load(Ordering::Relaxed));
        release.send(()).unwrap();
    };
    tokio::join!(drain, watch);
    assert_eq!(sink.bodies(1).await, bodies(1, 1..=1));
    assert_eq!((gateway.rows().await, sink.try_next().is_none()), (1, true));
}

async fn post(url: &str) -> Result<Delivered, PostError> {
    let clients = EndpointClients::new(Duration::from_millis(300), &HttpRoute::default());
    clients.post(&[Arc::new(item(url, 1, 1))]).await
}

async fn post_to(reply: Reply) -> Result<Delivered, PostError> {
    let sink = Sink::start(move |_| reply.clone());
    post(&sink.url()).await
}

#[actix::test]
async fn only_2xx_statuses_succeed() {
    for status in [200, 201, 202, 204, 299] {
        let answer = format!("HTTP/1.1 {status} Taken\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(post_to(Reply::Bytes(answer.into_bytes())).await.unwrap(), Delivered { status });
    }
    for (status, code) in [("400 Bad Request", 400), ("404 Not Found", 404), ("503 Service Unavailable", 503)]
    {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let outcome = post_to(Reply::Bytes(answer.into_bytes())).await;
        assert!(
            matches!(outcome, Err(PostError::Status(FailedAnswer { status, .. })) if status == code),
            "{outcome:?}"
        );
    }
}

#[actix::test]
async fn a_redirect_is_not_followed() {
    let mut target = Sink::start(|_| Reply::ok());
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url());
    let outcome = post_to(Reply::Bytes(answer.into_bytes())).await;
    assert!(matches!(outcome, Err(PostError::Redirect { status: 302, .. })), "{outcome:?}");
    assert!(target.try_next().is_none());
}

#[actix::test]
async fn timeout_covers_the_head_of_the_answer() {
    for begun in ["", "HTTP/1.1 200 OK\r\n"] {
        let outcome = post_to(Reply::Stall(begun.into())).await;
        assert!(matches!(outcome, Err(PostError::Timeout(_))), "{begun:?}: {outcome:?}");
    }
}

#[actix::test]
async fn status_counts_however_the_body_ends() {
    let half = "Content-Length: 10\r\n\r\nhalf";
    for reply in [Reply::Stall, Reply::Last] {
        post_to(reply(format!("HTTP/1.1 200 OK\r\n{half}").into())).await.unwrap();
        let outcome = post_to(reply(format!("HTTP/1.1 422 No\r\n{half}").into())).await;
        let Err(PostError::Status(answer)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((answer.status, answer.text.as_str()), (422, "half"));
    }
    let outcome = post_to(Reply::Last(b"HTTP/1.1 422 No\r\nContent-Le".to_vec())).await;
    assert!(matches!(outcome, Err(PostError::Status(FailedAnswer { status: 422, .. }))), "{outcome:?}");
}

#[actix::test]
async fn answer_without_status_is_a_failure() {
    let outcome = post_to(Reply::Last(Vec::new())).await;
    assert!(matches!(outcome, Err(PostError::NoAnswer)), "{outcome:?}");
    let outcome = post_to(Reply::Last(b"HTTP/1.1 103 Early Hints\r\nX".to_vec())).await;
    assert!(matches!(outcome, Err(PostError::Exchange(_))), "{outcome:?}");
    let outcome = post_to(Reply::Last(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())).await;
    assert!(matches!(outcome, Err(PostError::Exchange(_))), "{outcome:?}");
}

#[actix::test]
async fn failed_answer_keeps_delay_and_text() {
    let body = "é".repeat(3000);
    let head = format!("HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n", body.len());
    let outcome = post_to(Reply::Bytes((head + &body).into_bytes())).await;
    let Err(PostError::Status(answer)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((answer.status, answer.retry_after), (429, Some(Duration::from_secs(7))));
    assert_eq!(answer.text, "é".repeat(1024), "the first 2 KiB");
}

#[actix::test]
async fn long_answer_is_not_read_to_end() {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n".to_vec();
    answer.resize(answer.len() + 0x20000, b'x');
    post_to(Reply::Stall(answer)).await.unwrap();
}

#[actix::test]
async fn missing_endpoint_is_reported() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let refused = post(&format!("http://me:s3cret@{address}/?token=s3cret")).await.unwrap_err();
    assert!(matches!(refused, PostError::Connect(_)), "{refused:?}");
    let no_tls = Sink::start(|_| Reply::ok());
    let no_tls = post(&format!("https://me:s3cret@{}/?token=s3cret", no_tls.address())).await.unwrap_err();
    let no_url = post("http://me:s3cret@:80:/").await.unwrap_err();
    let no_http = post("ftp://me:s3cret@127.0.0.1/").await.unwrap_err();
    for error in [refused, no_tls, no_url, no_http] {
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[actix::test]
async fn url_credentials_become_basic_authentication() {
    let mut sink = Sink::start(|_| Reply::ok());
    post(&format!("http://me:p%40ss@{}/in?a=b#c", sink.address())).await.unwrap();
    let request = sink.next().await;
    assert_eq!(request.line, "POST /in?a=b HTTP/1.1");
    assert_eq!(request.header("authorization"), "Basic bWU6cEBzcw==");
    assert_eq!(request.header("host"), sink.address().to_string());
}

#[actix::test]
async fn a_connection_is_used_again() {
    let sink = Sink::start(|_| Reply::ok());
    let clients = EndpointClients::new(TOO_LONG, &HttpRoute::default());
    for number in 1..=5 {
        clients.post(&[Arc::new(item(&sink.url(), 1, number))]).await.unwrap();
    }
    assert_eq!(sink.connections(), 1);
}

/// Posts twice. Returns the outcome of the second post, and the sink.
async fn post_twice(replies: [Reply; 3]) -> (Result<Delivered, PostError>, Sink) {
    let replies = std::sync::Mutex::new(replies.into_iter());
    let sink = Sink::start(move |_| replies.lock().unwrap().next().expect("a request too many"));
    let clients = EndpointClients::new(TOO_LONG, &HttpRoute::default());
    // Ends well or not, as the test wants.
    let _ = clients.post(&[Arc::new(item(&sink.url(), 1, 1))]).await;
    (clients.post(&[Arc::new(item(&sink.url(), 1, 2))]).await, sink)
}

#[actix::test]
async fn closed_idle_connection_costs_no_attempt() {
    let gone = Reply::Last(Vec::new());
    let (outcome, mut sink) = post_twice([Reply::ok(), gone.clone(), Reply::ok()]).await;
    outcome.unwrap();
    assert_eq!(sink.connections(), 2);
    let (_first, unanswered, again) = (sink.next().await, sink.next().await, sink.next().await);
    assert_eq!((again.text(), again.line.as_str()), (unanswered.text(), "POST /in HTTP/1.1"));
    assert_eq!(again.header("idempotency-key"), unanswered.header("idempotency-key"));
    // Once: an endpoint that closes every connection has failed.
    let (outcome, _) = post_twice([Reply::ok(), gone.clone(), gone.clone()]).await;
    assert!(matches!(outcome, Err(PostError::NoAnswer)), "{outcome:?}");
    // Never on a new connection, be it the first or one after a failure.
    let (outcome, mut sink) = post_twice([gone.clone(), gone.clone(), Reply::ok()]).await;
    assert!(matches!(outcome, Err(PostError::NoAnswer)), "{outcome:?}");
    assert_eq!((sink.bodies(2).await.len(), sink.try_next().is_none()), (2, true));
}

#[actix::test]
async fn connection_delimited_answer_is_not_reused() {
    for status in ["200 OK", "422 Unprocessable Content", "205 Reset Content"] {
        // It stays open, as if the rest of the answer were on its way.
        let endless = Reply::Bytes(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes());
        let (outcome, sink) = post_twice([endless, Reply::ok(), Reply::ok()]).await;
        assert!(outcome.is_ok() && sink.connections() == 2, "{status}: {outcome:?}");
    }
    for answer in
        ["204 No Content\r\n\r\n", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
    {
        let ended = Reply::Bytes(format!("HTTP/1.1 {answer}").into_bytes());
        let (outcome, sink) = post_twice([ended, Reply::ok(), Reply::ok()]).await;
        assert!(outcome.is_ok() && sink.connections() == 1, "{answer}: {outcome:?}");
    }
}

#[actix::test]
async fn a_large_payload_arrives_whole() {
    let mut sink = Sink::start(|_| Reply::ok());
    let payload: Vec<u8> = (0..=250_u8).cycle().take(4 << 20).collect();
    let clients = EndpointClients::new(TOO_LONG, &HttpRoute::default());
    clients.post(&[Arc::new(item_with(&sink.url(), 1, 1, payload.clone()))]).await.unwrap();
    assert!(sink.next().await.body == payload);
}

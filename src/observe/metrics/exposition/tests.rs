use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;
use crate::domain::batch::ProcessResult;
use crate::domain::flow::Action;
use crate::domain::posting::origin::Origin;
use crate::observe::FlowOutboxReading;
use crate::observe::metrics::{DURATIONS, ErrorKind, Histogram};

#[derive(Debug)]
struct Fixed;

impl Snapshot for Fixed {
    fn actors(&self) -> Vec<ActorReading> {
        let mut waits = Histogram::new(DURATIONS);
        waits.observe_duration(Duration::from_millis(3), 2);
        vec![ActorReading {
            actor: "router".to_owned(),
            state: "running",
            since: SystemTime::UNIX_EPOCH,
            states: vec!["running", "down"],
            depth: 3,
            capacity: 64,
            age: Duration::from_millis(1500),
            received: 10,
            handled: 7,
            failed: 1,
            restarts: vec![("panic", 2), ("silent", 0)],
            handles: waits.clone(),
            waits,
        }]
    }

    fn silences(&self) -> Vec<(String, Duration)> {
        Vec::new()
    }

    fn inbox(&self) -> InboxReading {
        InboxReading { bytes: 5, max_bytes: 10, uncommitted_records: 2, ..InboxReading::default() }
    }

    fn row_waits(&self) -> Vec<crate::observe::RowWaitReading> {
        Vec::new()
    }

    fn outbox(&self) -> Option<OutboxReading> {
        let of_flow =
            |flow, depth, age| FlowOutboxReading { flow, depth, oldest_age: Duration::from_secs(age) };
        Some(OutboxReading {
            depth: 4,
            oldest_age: Duration::from_secs(9),
            max_age: Duration::from_secs(90),
            flows: vec![of_flow(1, 1, 3), of_flow(77, 1, 9), of_flow(78, 2, 5)],
        })
    }
}

fn text() -> String {
    let telemetry = Arc::new(Telemetry::default());
    telemetry.set_snapshot(Box::new(Fixed));
    let flows = [(1, "F"), (2, "quoted \"and\"\nbroken\\"), (3, "P")];
    telemetry.metrics.flows.set(flows.into_iter());
    telemetry.metrics.flows.count_attempt("P", AttemptOutcome::NoAnswer);
    let origin = Origin::of("https://me:secret@example.com/in").unwrap();
    let took = Duration::from_millis(20);
    telemetry.metrics.endpoints.count(Some(&origin), AttemptOutcome::EndpointFault, took);
    let since = UNIX_EPOCH + Duration::from_secs(8);
    telemetry.metrics.endpoints.set_breakers([(origin, (BreakerState::Open, since))]);
    let result =
        ProcessResult { flow_code: "F".into(), message_id: 42, action: Action::StoreDb, inbox_offset: 0 };
    telemetry.metrics.processed(&[Ok(result)]);
    telemetry.metrics.database.set_numbers_used([("data.id", 0.5)].into_iter());
    telemetry.metrics.database.committed(Duration::from_millis(2), 1, 100);
    Exposition::new(&telemetry).text().unwrap()
}

#[test]
fn unknown_values_have_no_sample() {
    let text = Exposition::new(&Arc::default()).text().unwrap();
    for family in
        ["inbox_bytes", "inbox_writable", "outbox_depth", "outbox_oldest_age_seconds", "database_up"]
    {
        let family = format!("mqtt_gateway_{family}");
        assert!(text.contains(&format!("# TYPE {family} gauge")), "{text}");
        assert!(!text.lines().any(|line| line.starts_with(&family)), "{family}: {text}");
    }
}

#[test]
fn samples_have_documented_names() {
    let text = text();
    for line in [
        "mqtt_gateway_ready 0.0",
        "mqtt_gateway_flow_stored_total{flow=\"F\"} 1",
        "mqtt_gateway_flow_last_message_id{flow=\"F\"} 42",
        "mqtt_gateway_actor_mailbox_depth{actor=\"router\"} 3.0",
        "mqtt_gateway_actor_message_age_seconds{actor=\"router\"} 1.5",
        "mqtt_gateway_actor_state{actor=\"router\",state=\"running\"} 1.0",
        "mqtt_gateway_actor_state{actor=\"router\",state=\"down\"} 0.0",
        "mqtt_gateway_actor_restarts_total{actor=\"router\",reason=\"panic\"} 2",
        "mqtt_gateway_actor_wait_seconds_count{actor=\"router\"} 2",
        "mqtt_gateway_actor_wait_seconds_bucket{le=\"+Inf\",actor=\"router\"} 2",
        "mqtt_gateway_inbox_writable 1.0",
        "mqtt_gateway_numbers_used_ratio{column=\"data.id\"} 0.5",
        "mqtt_gateway_database_commit_seconds_count 1",
        "mqtt_gateway_batch_bytes_sum 100.0",
        "mqtt_gateway_dead_letters_total{reason=\"outbox_full\"} 0",
        "mqtt_gateway_outbox_oldest_age_seconds 9.0",
        "mqtt_gateway_outbox_max_age_seconds 90.0",
        "mqtt_gateway_flow_post_attempts_total{flow=\"P\",outcome=\"no_answer\"} 1",
        "mqtt_gateway_flow_post_attempts_total{flow=\"P\",outcome=\"delivered\"} 0",
        "mqtt_gateway_flow_outbox_depth{flow=\"F\"} 1.0",
        "mqtt_gateway_flow_outbox_depth{flow=\"P\"} 0.0",
        "mqtt_gateway_flow_outbox_depth{flow=\"_other\"} 3.0",
        "mqtt_gateway_flow_outbox_oldest_age_seconds{flow=\"_other\"} 9.0",
        "mqtt_gateway_endpoint_attempts_total{origin=\"https://example.com\",outcome=\"endpoint_fault\"} 1",
        "mqtt_gateway_endpoint_post_seconds_count{origin=\"https://example.com\"} 1",
        "mqtt_gateway_endpoint_breaker_state{origin=\"https://example.com\",state=\"open\"} 1.0",
        "mqtt_gateway_endpoint_breaker_state{origin=\"https://example.com\",state=\"closed\"} 0.0",
        "mqtt_gateway_endpoint_breaker_change_timestamp_seconds{origin=\"https://example.com\"} 8.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn uncontacted_peer_is_not_reported_down() {
    let telemetry = Arc::new(Telemetry::default());
    let samples = |telemetry: &Arc<Telemetry>| {
        let text = Exposition::new(telemetry).text().unwrap();
        let is_one = |line: &&str| {
            line.starts_with("mqtt_gateway_database_up ")
                || line.starts_with("mqtt_gateway_broker_connected ")
        };
        text.lines().filter(is_one).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&telemetry), [""; 0]);
    telemetry.metrics.database.failed(ErrorKind::Connection);
    telemetry.metrics.broker.failed();
    assert_eq!(samples(&telemetry), ["mqtt_gateway_database_up 0.0", "mqtt_gateway_broker_connected 0.0"]);
    telemetry.metrics.database.mark_up();
    telemetry.metrics.broker.connected(&Arc::from("broker:1883"));
    assert_eq!(samples(&telemetry), ["mqtt_gateway_database_up 1.0", "mqtt_gateway_broker_connected 1.0"]);
}

#[test]
fn label_values_are_escaped() {
    let escaped = r#"mqtt_gateway_flow_received_total{flow="quoted \"and\"\nbroken\\"} 0"#;
    assert!(text().lines().any(|line| line == escaped), "{}", text());
}

/// Parses name, type and label names of each metric from the document.
fn documented(document: &str) -> BTreeMap<String, (String, String)> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().replace('`', ""));
        let (name, kind, labels) = (cells.next()?, cells.next()?, cells.next()?);
        ["counter", "gauge", "histogram"].contains(&kind.as_str()).then_some((name, (kind, labels)))
    });
    rows.collect()
}

#[test]
fn document_lists_exactly_the_metrics() {
    let text = text();
    let mut written = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let sample = text.lines().find(|line| {
                line.strip_prefix(name).is_some_and(|rest| {
                    ["", "_total", "_count"].iter().any(|suffix| {
                        rest.strip_prefix(suffix).is_some_and(|rest| rest.starts_with(['{', ' ']))
                    })
                })
            });
            written.insert(format!("{name}{suffix}"), (kind.to_owned(), labels_of(sample.unwrap_or(name))));
        }
    }
    assert_eq!(documented(include_str!("../../../../docs/METRICS.md")), written);
}

/// Returns the label names of a sample. Label values must not contain quotes, commas or braces.
fn labels_of(sample: &str) -> String {
    let Some((_, labels)) = sample.split_once('{') else { return "–".to_owned() };
    let names = labels.split("\",").filter_map(|label| Some(label.trim_matches(',').split_once('=')?.0));
    names.filter(|name| *name != "le").collect::<Vec<_>>().join(", ")
}

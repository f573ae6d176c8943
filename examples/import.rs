//! Imports JSON objects from standard input, one a line, through a flow: each takes the flow's next sequence number and
//! is stored or enqueued by the same transaction as a message from the broker. Invalid lines become dead letters.
//!
//! ```sh
//! DATABASE_URL=sqlite:gateway.sqlite cargo run --example import -- TEMPERATURE home/kitchen/temp <history.jsonl
//! ```
//!
//! The gateway may run on the same database meanwhile. A second import of the same lines stores them again, unless the
//! flow has a `message_key`.
#![allow(clippy::print_stdout, reason = "its results are for standard output")]

use std::env;
use std::error::Error;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mqtt_gateway::domain::message::{Body, DeliveryFacts, Record};
use mqtt_gateway::domain::processing::ProcessingRules;
use mqtt_gateway::store::{BatchRules, Database, OutboxGauge, ProcessMessageError, load_limits};
use mqtt_gateway::{load_flows, load_settings, process_flow_message};

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [code, topic] =
        env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "usage: import CODE TOPIC")?;
    let settings = load_settings()?;
    let database = Database::connect(&settings.database, 1).await?;
    let flows = load_flows(&database).await?;
    let flow =
        flows.iter().find(|flow| flow.code == code).ok_or(format!("no enabled flow has the code {code}"))?;

    // Posts have idempotency keys of inbox and offset, so each import needs an inbox id of its own.
    let started_at_us = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let processing = ProcessingRules::new(
        format!("import-{started_at_us}").into(),
        settings.value_style,
        settings.limits,
        load_limits(&database).await?,
        settings.outbox.max_rows_per_flow,
        settings.keys_known_for,
    );
    let rules = BatchRules { processing, gauge: Arc::new(OutboxGauge::default()) };

    for (offset, line) in (1..).zip(io::stdin().lock().split(b'\n')) {
        let line = line?;
        let record = Record {
            offset,
            received_at_us: started_at_us,
            topic: topic.clone(),
            body: Body::Whole(line.strip_suffix(b"\r").unwrap_or(&line).to_vec()),
            delivery: DeliveryFacts::default(),
        };
        match process_flow_message(&database, &rules, flow.id, record).await {
            Ok(result) => println!("line {offset}: {} {}", result.flow_code, result.message_id),
            Err(ProcessMessageError::Message(error)) => println!("line {offset}: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

//! `mqtt-gateway status`: what an operator asks first.

use clap::Args;
use url::Url;

use super::ask::ask_gateway;
use super::gateway_url::parse_gateway_url;
use super::operate;
use super::output::{CommandReport, OutputOptions, document, fields, table, visible};
use crate::control::status::{DatabaseStatus, GatewayStatus, StatusProblem, StatusView};

/// Text below the options in `status --help`.
pub(super) const HELP: &str = "\
The command asks the gateway at ADMIN_BIND of the settings, and reads the database. For the request it makes a token \
that permits reading for a minute.\n\
Exit codes: 0 no problem, 1 a problem or failure, 2 wrong settings or usage.";

/// Which gateway to ask.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct StatusOptions {
    /// Address of a gateway, as `http://HOST:PORT` [default: from `ADMIN_BIND`].
    #[arg(long, value_parser = parse_gateway_url)]
    url: Option<Url>,
    #[command(flatten)]
    output: OutputOptions,
}

/// Runs the command and returns its exit code.
pub(super) fn run(options: StatusOptions) -> i32 {
    let StatusOptions { url, output } = options;
    operate::run(output, async |control| {
        let gateway = ask_gateway(control, url.as_ref()).await?;
        let database = control.database_status().await?;
        let view = StatusView::new(gateway, Ok(database));
        Ok(CommandReport { text: text(&view), document: document(&view), ok: view.ok })
    })
}

fn text(StatusView { problems, gateway, database, .. }: &StatusView) -> String {
    let gateway = gateway.as_ref().map(gateway_text).unwrap_or_default();
    let database = database.as_ref().map(database_text).unwrap_or_default();
    let problems = match &problems[..] {
        [] => "No problem.\n".to_owned(),
        problems => problems.iter().map(problem_text).collect(),
    };
    format!("{gateway}{database}{problems}")
}

fn problem_text(StatusProblem { problem, since, remedy }: &StatusProblem) -> String {
    let since = since.as_ref().map(|since| format!(" (since {since})")).unwrap_or_default();
    format!("problem: {}{since}\n  {}\n", visible(problem), visible(remedy))
}

fn gateway_text(gateway: &GatewayStatus) -> String {
    let broker = match (gateway.broker.connected, &gateway.broker.since) {
        (Some(true), Some(since)) => {
            let address = gateway.broker.address.as_ref().map(|address| format!(", {}", visible(address)));
            format!("connected since {since}{}", address.unwrap_or_default())
        }
        (Some(false), Some(since)) => format!("not connected since {since}"),
        _ => "not tried yet".to_owned(),
    };
    let inbox = gateway.inbox.as_ref().map_or_else(String::new, |inbox| {
        let oldest = inbox.oldest_at.as_ref().map(|at| format!(", the oldest of {at}")).unwrap_or_default();
        format!(
            "{} messages wait{oldest}; {} of {} bytes",
            inbox.waiting_messages, inbox.bytes, inbox.max_bytes
        )
    });
    let reachable = match gateway.database_reachable {
        Some(true) => "reachable",
        Some(false) => "not reachable",
        None => "not tried yet",
    };
    let lines = fields(&[
        (
            "gateway",
            format!("{}, started {}", if gateway.ready { "ready" } else { "not ready" }, gateway.started_at),
        ),
        ("broker", broker),
        ("database", reachable.to_owned()),
        ("inbox", inbox),
    ]);
    let busy = gateway.actors.iter().map(|actor| {
        let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms}"));
        vec![
            actor.actor.clone(),
            actor.state.clone(),
            format!("{} of {}", actor.depth, actor.capacity),
            format!("{:.1}", actor.handled_per_second),
            time(actor.wait_p99_ms),
            time(actor.handle_p99_ms),
            actor.restarts.to_string(),
        ]
    });
    let heads = ["ACTOR", "STATE", "MAILBOX", "PER SECOND", "WAIT MS", "HANDLING MS", "RESTARTS"];
    let actors = table(&heads, &busy.collect::<Vec<_>>());
    format!("{lines}{actors}")
}

fn database_text(database: &DatabaseStatus) -> String {
    let DatabaseStatus { flows, enabled_brokers, outbox, dead_letters, replicas } = database;
    let oldest = outbox.oldest_at.as_ref().map(|at| format!(", the oldest of {at}")).unwrap_or_default();
    let letters: Vec<String> =
        dead_letters.counts.iter().map(|count| format!("{} {}", count.count, count.reason)).collect();
    let letters = if letters.is_empty() { "none".to_owned() } else { letters.join(", ") };
    let replicas = replicas.iter().map(|replica| {
        format!("{} ({}, {} flows, {})", replica.client_id, replica.role, replica.flows, replica.state)
    });
    let replicas: Vec<String> = replicas.collect();
    let replicas = if replicas.is_empty() { "none".to_owned() } else { replicas.join(", ") };
    fields(&[
        (
            "flows",
            format!(
                "{} enabled, {} of them cannot work; {} disabled",
                flows.enabled, flows.unusable, flows.disabled
            ),
        ),
        ("brokers", format!("{enabled_brokers} enabled")),
        ("posts", format!("{} wait{oldest}", outbox.posts)),
        ("dead letters, 24 h", letters),
        ("replicas", replicas),
    ])
}

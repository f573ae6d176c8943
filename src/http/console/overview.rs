//! The overview: whether all is well, and the remedies if it is not.

mod lasting;

use std::time::{Duration, SystemTime};

use actix_web::web::Data;
use askama::Template;

use self::lasting::{duration_text, lasting};
use super::charts::{Chart, grouped};
use super::fields::link;
use super::live_part::LivePart;
use super::page::{ConsoleError, Page, PageFrame, short_time};
use super::visitor::Visitor;
use crate::control::status::{FlowsStatus, GatewayStatus, ReplicaStatus, StatusProblem, find_problems};
use crate::control::view::LetterCountView;
use crate::http::api::problem::ApiProblem;
use crate::http::api::status_reading::DatabaseReading;
use crate::http::api::thread::ApiThread;
use crate::observe::{OutcomeCounts, Snapshot, Telemetry};

/// Most kinds of dead letters that are listed.
const MAX_KINDS: usize = 8;

/// Maximum age of what the database has, on a page that is loaded.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Words of remedies, and the pages that show more.
const PAGES_OF_REMEDIES: [(&str, &str, &str); 6] = [
    ("mqtt-gateway deliveries ", "/deliveries", "Deliveries"),
    ("mqtt-gateway dead-letters ", "/dead-letters?since=24h", "Dead letters of the last 24 hours"),
    ("mqtt-gateway flows ", "/flows", "Flows"),
    ("mqtt-gateway servers ", "/brokers", "Brokers"),
    ("session", "/actors", "Actors"),
    ("see the log", "/actors", "Actors"),
];

#[derive(Template)]
#[template(path = "overview.html", config = "src/http/console/askama.toml")]
struct OverviewPage {
    frame: PageFrame,
    parts: Vec<LivePart>,
}

#[derive(Template)]
#[template(path = "overview_state.html", config = "src/http/console/askama.toml")]
struct StatePart<'d> {
    troubles: Vec<Trouble>,
    broker: &'static str,
    broker_since: Option<String>,
    broker_address: Option<String>,
    database: &'static str,
    inbox: Option<InboxCard>,
    outbox: Option<OutboxCard>,
    flows: Option<&'d FlowsStatus>,
    replicas: &'d [ReplicaStatus],
}

#[derive(Template)]
#[template(path = "overview_rates.html", config = "src/http/console/askama.toml")]
struct RatesPart {
    charts: [Chart; 4],
    minutes: usize,
}

#[derive(Template)]
#[template(path = "overview_letters.html", config = "src/http/console/askama.toml")]
struct LettersPart {
    /// None if the database did not answer.
    letters: Option<Vec<LetterKind>>,
    letters_link: String,
}

/// Something that is in the way.
struct Trouble {
    problem: StatusProblem,
    since: Option<String>,
    remedy: String,
    /// Path and text of a link.
    link: Option<(&'static str, &'static str)>,
}

struct InboxCard {
    waiting: String,
    oldest: Option<String>,
    used_percent: u64,
    max: String,
    lasts: Option<String>,
}

struct OutboxCard {
    waiting: String,
    oldest: Option<String>,
}

struct LetterKind {
    reason: String,
    count: String,
    link: String,
}

/// Shows the page.
pub(super) async fn show(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let database = thread.database_status(MAX_AGE).await;
    page(&visitor, &telemetry, &database)
}

/// Makes the page.
pub(super) fn page(
    visitor: &Visitor,
    telemetry: &Telemetry,
    database: &DatabaseReading,
) -> Result<Page, ConsoleError> {
    let frame = visitor.frame("/", "Overview");
    Ok(Page::new(&OverviewPage { frame, parts: parts(telemetry, database)? })?)
}

/// All of the page that changes.
fn parts(telemetry: &Telemetry, database: &DatabaseReading) -> Result<Vec<LivePart>, ApiProblem> {
    let hour = telemetry.last_hour();
    let letters = LettersPart {
        letters: database.as_ref().ok().map(|database| letter_kinds(&database.dead_letters.counts)),
        letters_link: link("/dead-letters", [("since", "24h")]),
    };
    Ok(vec![
        LivePart::new("state", &state_part(telemetry, database, &hour))?,
        LivePart::new("rates", &RatesPart { charts: charts(&hour), minutes: hour.len() })?,
        LivePart::new("letters", &letters)?,
    ])
}

fn state_part<'d>(
    telemetry: &Telemetry,
    database: &'d DatabaseReading,
    hour: &[OutcomeCounts],
) -> StatePart<'d> {
    let gateway = GatewayStatus::new(telemetry);
    let problems = find_problems(Ok(&gateway), database.as_ref());
    let database = database.as_ref().ok();
    StatePart {
        troubles: problems.into_iter().map(Trouble::new).collect(),
        broker: match gateway.broker.connected {
            Some(true) => "connected",
            Some(false) => "not connected",
            None => "connecting",
        },
        broker_since: gateway.broker.since.as_deref().map(short_time),
        broker_address: gateway.broker.address,
        database: match gateway.database_reachable {
            Some(true) => "reachable",
            Some(false) => "not reachable",
            None => "not used yet",
        },
        inbox: inbox_card(telemetry, hour),
        outbox: telemetry.snapshot().and_then(Snapshot::outbox).map(|outbox| OutboxCard {
            waiting: grouped(outbox.depth),
            oldest: (outbox.depth > 0).then(|| duration_text(outbox.oldest_age)),
        }),
        flows: database.map(|database| &database.flows),
        replicas: database.map(|database| database.replicas.as_slice()).unwrap_or_default(),
    }
}

impl Trouble {
    fn new(problem: StatusProblem) -> Self {
        let page = PAGES_OF_REMEDIES.into_iter().find(|(words, ..)| problem.remedy.contains(words));
        Self {
            since: problem.since.as_deref().map(short_time),
            // Commands are in backquotes for terminals.
            remedy: problem.remedy.replace('`', ""),
            link: page.map(|(_, path, name)| (path, name)),
            problem,
        }
    }
}

/// The kinds of dead letters with the highest numbers.
fn letter_kinds(counts: &[LetterCountView]) -> Vec<LetterKind> {
    let mut counts: Vec<&LetterCountView> = counts.iter().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    let kind = |count: &LetterCountView| {
        let link = link("/dead-letters", [("reason", count.reason.as_str()), ("since", "24h")]);
        LetterKind { link, reason: count.reason.clone(), count: grouped(count.count) }
    };
    counts.into_iter().take(MAX_KINDS).map(kind).collect()
}

fn inbox_card(telemetry: &Telemetry, hour: &[OutcomeCounts]) -> Option<InboxCard> {
    let inbox = telemetry.inbox()?;
    let oldest = inbox.oldest_uncommitted.and_then(|at| SystemTime::now().duration_since(at).ok());
    let transactions = telemetry.metrics.database.transactions();
    let minutes_long =
        Duration::from_secs(60 * hour.len().saturating_sub(1) as u64 + telemetry.age().as_secs() % 60);
    let received = hour.iter().map(|minute| minute.received).sum();
    Some(InboxCard {
        waiting: grouped(inbox.uncommitted_records),
        oldest: oldest.filter(|_| inbox.uncommitted_records > 0).map(duration_text),
        used_percent: (inbox.bytes.saturating_mul(100)).checked_div(inbox.max_bytes).unwrap_or_default(),
        max: bytes_text(inbox.max_bytes),
        lasts: lasting(
            inbox.max_bytes.saturating_sub(inbox.bytes),
            received,
            minutes_long,
            (transactions.bytes.sum(), transactions.messages.sum()),
        )
        .map(duration_text),
    })
}

fn charts(hour: &[OutcomeCounts]) -> [Chart; 4] {
    let chart = |name, class, count: fn(&OutcomeCounts) -> u64| {
        Chart::new(name, class, &hour.iter().map(count).collect::<Vec<_>>())
    };
    [
        chart("Received", "received", |minute| minute.received),
        chart("Stored", "stored", |minute| minute.stored),
        chart("Posted", "posted", |minute| minute.posted),
        chart("Dead letters", "dead", |minute| minute.dead),
    ]
}

/// A size in its largest unit.
pub(super) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["GiB", "MiB", "KiB", "bytes"];
    let (mut size, mut units) = (bytes, UNITS.to_vec());
    while size >= 1024 && units.len() > 1 {
        size /= 1024;
        units.pop();
    }
    format!("{} {}", grouped(size), units.pop().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let texts = [0, 1_023, 1_024, 5 << 20, 3 << 30, 4_096 << 30].map(bytes_text);
        assert_eq!(texts, ["0 bytes", "1,023 bytes", "1 KiB", "5 MiB", "3 GiB", "4,096 GiB"]);
    }
}

//! The road of a message, and the actors along it.

use actix_web::web::Data;
use askama::Template;

use super::charts::{counted, grouped};
use super::live_part::LivePart;
use super::overview::bytes_text;
use super::page::{ConsoleError, Page, PageFrame, short_time};
use super::visitor::Visitor;
use crate::control::status::{ActorStatus, BrokerStatus, GatewayStatus, InboxStatus, WaitStatus};
use crate::http::api::problem::ApiProblem;
use crate::observe::Telemetry;

/// Where this part of the console is.
const PART: &str = "/actors";

/// How the names of workers begin.
const WORKER: &str = "flow-worker-";

#[derive(Template)]
#[template(path = "actors.html", config = "src/http/console/askama.toml")]
struct ActorsPage {
    frame: PageFrame,
    parts: Vec<LivePart>,
}

#[derive(Template)]
#[template(path = "actors_waits.html", config = "src/http/console/askama.toml")]
struct WaitList<'s> {
    waits: &'s [WaitStatus],
}

#[derive(Template)]
#[template(path = "actors_road.html", config = "src/http/console/askama.toml")]
struct Road {
    stations: Vec<Station>,
}

#[derive(Template)]
#[template(path = "actors_table.html", config = "src/http/console/askama.toml")]
struct ActorTable {
    actors: Vec<ActorLine>,
}

/// A place on the road.
struct Station {
    name: &'static str,
    purpose: &'static str,
    class: &'static str,
    state: Option<String>,
    level: Option<Level>,
    actors: Vec<ActorLine>,
}

/// How full something is.
struct Level {
    value: u64,
    max: u64,
    label: &'static str,
    text: String,
}

#[derive(Clone)]
struct ActorLine {
    name: String,
    state: String,
    since: String,
    depth: usize,
    capacity: usize,
    per_second: String,
    wait: String,
    handling: String,
    restarts: u64,
}

/// Shows the page.
pub(super) async fn show(visitor: Visitor, telemetry: Data<Telemetry>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Actors");
    Ok(Page::new(&ActorsPage { frame, parts: parts(&telemetry)? })?)
}

/// All of the page that changes.
fn parts(telemetry: &Telemetry) -> Result<Vec<LivePart>, ApiProblem> {
    let status = GatewayStatus::new(telemetry);
    let actors: Vec<ActorLine> = status.actors.iter().map(ActorLine::new).collect();
    let road = Road { stations: stations(&status, &actors) };
    let waits = WaitList { waits: &status.waits };
    Ok(vec![
        LivePart::new("waits", &waits)?,
        LivePart::new("road", &road)?,
        LivePart::new("actors", &ActorTable { actors })?,
    ])
}

fn stations(status: &GatewayStatus, actors: &[ActorLine]) -> Vec<Station> {
    let named = |name: &str| -> Vec<ActorLine> {
        actors.iter().filter(|actor| actor.name.starts_with(name)).cloned().collect()
    };
    let station = |name, purpose, actors: Vec<ActorLine>| Station {
        name,
        purpose,
        class: worst_class(&actors),
        state: None,
        level: None,
        actors,
    };
    let posts = status.outbox.as_ref().map(|outbox| {
        format!("{} {}.", counted(outbox.posts, "post"), if outbox.posts == 1 { "waits" } else { "wait" })
    });
    let held = status.breakers.len();
    vec![
        Station {
            class: broker_class(&status.broker),
            state: Some(broker_text(&status.broker)),
            ..station("Broker", "has what no gateway has taken yet", named("mqtt"))
        },
        Station {
            class: if status.inbox.is_some() { "good" } else { "idle" },
            state: status.inbox.as_ref().map(|inbox| format!("{} wait.", grouped(inbox.waiting_messages))),
            level: status.inbox.as_ref().map(inbox_level),
            ..station("Inbox", "keeps on disk what the broker handed over", Vec::new())
        },
        station("Router", "finds the flows of each message", named("router")),
        station("Lanes", "each has a worker, which validates and numbers", named(WORKER)),
        Station {
            class: match status.database_reachable {
                Some(true) => "good",
                Some(false) => "bad",
                None => "idle",
            },
            state: Some(
                match status.database_reachable {
                    Some(true) => "Reachable.",
                    Some(false) => "Not reachable.",
                    None => "Not used yet.",
                }
                .to_owned(),
            ),
            ..station("Database", "has the rows, and the posts to make", Vec::new())
        },
        Station { state: posts, ..station("Delivery", "posts, in order within a flow", named("delivery")) },
        Station {
            class: if held == 0 { "good" } else { "bad" },
            state: Some(match held {
                0 => "None is held back.".to_owned(),
                held => format!("{held} held back, since they do not answer."),
            }),
            ..station("Endpoints", "get the posts", Vec::new())
        },
    ]
}

/// The class of the actor that is worst off.
fn worst_class(actors: &[ActorLine]) -> &'static str {
    let has = |class: &str| actors.iter().any(|actor| actor.class() == class);
    ["bad", "idle"].into_iter().find(|class| has(class)).unwrap_or("good")
}

fn broker_class(broker: &BrokerStatus) -> &'static str {
    match broker.connected {
        Some(true) => "good",
        Some(false) => "bad",
        None => "idle",
    }
}

fn broker_text(broker: &BrokerStatus) -> String {
    let since = broker.since.as_deref().map(|since| format!(" since {} (UTC)", short_time(since)));
    match broker.connected {
        Some(true) => format!("Connected{}.", since.unwrap_or_default()),
        Some(false) => format!("Not connected{}.", since.unwrap_or_default()),
        None => "Not connected yet.".to_owned(),
    }
}

fn inbox_level(inbox: &InboxStatus) -> Level {
    Level {
        value: inbox.bytes,
        max: inbox.max_bytes,
        label: "Fill level of the inbox",
        text: format!("{} of {} used", bytes_text(inbox.bytes), bytes_text(inbox.max_bytes)),
    }
}

impl ActorLine {
    fn new(status: &ActorStatus) -> Self {
        let time = |ms: Option<f64>| ms.map_or_else(|| "–".to_owned(), time_text);
        Self {
            name: status.actor.clone(),
            state: status.state.clone(),
            since: short_time(&status.since),
            depth: status.depth,
            capacity: status.capacity,
            per_second: rate_text(status.handled_per_second),
            wait: time(status.wait_p99_ms),
            handling: time(status.handle_p99_ms),
            restarts: status.restarts,
        }
    }

    fn class(&self) -> &'static str {
        match self.state.as_str() {
            "running" => "good",
            "down" | "retrying" | "disconnected" => "bad",
            _ => "idle",
        }
    }

    fn mailbox(&self) -> String {
        format!("{} of {}", grouped(self.depth as u64), grouped(self.capacity as u64))
    }

    fn purpose(&self) -> &'static str {
        match self.name.as_str() {
            "supervisor" => "restarts the others",
            "mqtt" => "connects and subscribes",
            "flow-registry" => "reads the flows",
            "router" => "finds the flows of messages",
            "delivery" => "posts to endpoints",
            _ => "writes the messages of a lane",
        }
    }
}

fn time_text(ms: f64) -> String {
    if ms < 1_000.0 { format!("{ms} ms") } else { format!("{} s", ms / 1_000.0) }
}

fn rate_text(per_second: f64) -> String {
    if per_second < 10.0 {
        return format!("{per_second:.1}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of messages is small")]
    grouped(per_second.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn station_is_as_its_worst_actor() {
        let actor = |state: &str| ActorLine {
            name: "delivery".to_owned(),
            state: state.to_owned(),
            since: String::new(),
            depth: 0,
            capacity: 1,
            per_second: String::new(),
            wait: String::new(),
            handling: String::new(),
            restarts: 0,
        };
        let class =
            |states: &[&str]| worst_class(&states.iter().map(|state| actor(state)).collect::<Vec<_>>());
        assert_eq!(class(&["running", "retrying", "starting"]), "bad");
        assert_eq!(
            [class(&["running", "starting"]), class(&["running"]), class(&[])],
            ["idle", "good", "good"]
        );
    }

    #[test]
    fn times_and_rates_are_short() {
        assert_eq!(
            [0.1, 2.5, 999.0, 1_000.0, 2_500.0].map(time_text),
            ["0.1 ms", "2.5 ms", "999 ms", "1 s", "2.5 s"]
        );
        assert_eq!([0.0, 0.04, 9.96, 12.4, 40_000.0].map(rate_text), ["0.0", "0.0", "10.0", "12", "40,000"]);
    }
}

//! Finds what is in the way, with its remedy.

use serde::Serialize;
use utoipa::ToSchema;

use super::database::DatabaseStatus;
use super::gateway::GatewayStatus;

/// Share of the inbox, in percent, from which it is a problem.
const FULL_PERCENT: u64 = 80;

/// Something that is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StatusProblem {
    /// The problem.
    pub problem: String,
    /// Since when.
    pub since: Option<String>,
    /// The remedy.
    pub remedy: String,
}

/// Finds the problems in the states of a gateway and of the database. Either may be missing for a reason.
#[must_use]
pub fn find_problems(
    gateway: Result<&GatewayStatus, &String>,
    database: Result<&DatabaseStatus, &String>,
) -> Vec<StatusProblem> {
    let mut problems = Vec::new();
    match gateway {
        Ok(gateway) => of_gateway(gateway, &mut problems),
        Err(reason) => {
            let remedy = "start the gateway, or run this command where it runs, with its settings";
            problems.push(problem(format!("no gateway answers: {reason}"), None, remedy));
        }
    }
    match database {
        Ok(database) => of_database(database, &mut problems),
        Err(reason) => {
            let remedy = "`mqtt-gateway check` tries the database and its tables";
            problems.push(problem(format!("the database cannot be read: {reason}"), None, remedy));
        }
    }
    problems
}

fn problem(problem: String, since: Option<&String>, remedy: &str) -> StatusProblem {
    StatusProblem { problem, since: since.cloned(), remedy: remedy.to_owned() }
}

fn of_gateway(gateway: &GatewayStatus, problems: &mut Vec<StatusProblem>) {
    for unready in &gateway.unready {
        let (text, remedy) = match unready.reason.as_str() {
            "starting" => ("the gateway is still starting", "wait, or see its log for what it waits for"),
            "not_subscribed" => (
                "no message can arrive: no subscription is granted",
                "`mqtt-gateway servers test` tries the brokers",
            ),
            "inbox_full" => ("the inbox is full", "see why the database does not take the messages"),
            "inbox_not_writable" => ("the disk refuses the inbox", "free space on the disk of INBOX_DIR"),
            "draining" => ("the gateway is shutting down", "wait, and start it again"),
            other => (other, "see docs/OPERATIONS.md"),
        };
        problems.push(problem(text.to_owned(), Some(&unready.since), remedy));
    }
    if gateway.broker.connected == Some(false) {
        let remedy = "`mqtt-gateway servers test` tries the brokers";
        problems.push(problem(
            "the broker is not connected".to_owned(),
            gateway.broker.since.as_ref(),
            remedy,
        ));
    }
    if let Some(inbox) =
        gateway.inbox.as_ref().filter(|inbox| inbox.bytes >= inbox.max_bytes / 100 * FULL_PERCENT)
    {
        let text = format!("the inbox has {} of {} bytes", inbox.bytes, inbox.max_bytes);
        problems.push(problem(
            text,
            inbox.oldest_at.as_ref(),
            "see why the database does not take the messages",
        ));
    }
    // A breaker stays open for a while after its posts were cancelled.
    let no_post_waits = gateway.outbox.as_ref().is_some_and(|outbox| outbox.posts == 0);
    for breaker in gateway.breakers.iter().filter(|_| !no_post_waits) {
        let text = format!("posts to {} wait, its breaker is {}", breaker.origin, breaker.state);
        let remedy = "`mqtt-gateway deliveries list` shows the last error of each flow";
        problems.push(problem(text, Some(&breaker.since), remedy));
    }
    if let Some(outbox) = gateway
        .outbox
        .as_ref()
        .filter(|outbox| outbox.posts > 0 && outbox.oldest_age_seconds >= outbox.max_age_seconds / 2)
    {
        let text = format!(
            "the oldest waiting post is {} s old, and becomes a dead letter at {} s",
            outbox.oldest_age_seconds, outbox.max_age_seconds
        );
        problems.push(problem(
            text,
            None,
            "`mqtt-gateway deliveries list` shows the last error of each flow",
        ));
    }
    for wait in &gateway.waits {
        problems.push(problem(wait.sentence(), Some(&wait.since), &wait.remedy()));
    }
    for actor in gateway.actors.iter().filter(|actor| matches!(actor.state.as_str(), "down" | "retrying")) {
        // An open breaker names the endpoint.
        if (actor.actor.as_str(), actor.state.as_str()) == ("delivery", "retrying") {
            if gateway.breakers.is_empty() {
                let remedy = "`mqtt-gateway deliveries list` shows the last error of each flow";
                problems.push(problem("posts fail, and are repeated".to_owned(), None, remedy));
            }
            continue;
        }
        let text = format!("the actor {} is {}", actor.actor, actor.state);
        problems.push(problem(text, None, "see the log for its error"));
    }
}

fn of_database(database: &DatabaseStatus, problems: &mut Vec<StatusProblem>) {
    if database.enabled_brokers == 0 {
        let text = "no broker is enabled: running gateways keep theirs, and one that starts finds none";
        problems.push(problem(text.to_owned(), None, "`mqtt-gateway servers enable` enables one"));
    }
    if database.flows.unusable > 0 {
        let codes: Vec<&str> =
            database.flows.rejected.iter().take(3).map(|flow| flow.code.as_str()).collect();
        let text = format!("flows that cannot work: {} ({})", database.flows.unusable, codes.join(", "));
        problems.push(problem(text, None, "`mqtt-gateway flows validate --all` says why"));
    }
    let letters: u64 = database.dead_letters.counts.iter().map(|count| count.count).sum();
    if letters > 0 {
        let at_least = if database.dead_letters.at_least { "at least " } else { "" };
        let text = format!("dead letters within 24 h: {at_least}{letters}");
        problems.push(problem(text, None, "`mqtt-gateway dead-letters list` shows them and why"));
    }
    for replica in database.replicas.iter().filter(|replica| replica.is_missed) {
        let text =
            format!("the gateway {} was last seen {} s ago", replica.client_id, replica.seen_seconds_ago);
        let remedy = "start it, or `mqtt-gateway retire` if it does not come back";
        problems.push(problem(text, None, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::{FlowsStatus, OutboxRows, RecentLetters};
    use super::super::gateway::{ActorStatus, BreakerStatus, BrokerStatus, InboxStatus, UnreadyStatus};
    use super::*;

    fn gateway() -> GatewayStatus {
        GatewayStatus {
            started_at: "t".to_owned(),
            ready: true,
            unready: Vec::new(),
            broker: BrokerStatus {
                connected: Some(true),
                since: Some("t".to_owned()),
                address: Some("broker:1883".to_owned()),
            },
            database_reachable: Some(true),
            inbox: Some(InboxStatus { bytes: 10, max_bytes: 1_000, waiting_messages: 0, oldest_at: None }),
            outbox: None,
            breakers: Vec::new(),
            actors: Vec::new(),
            waits: Vec::new(),
        }
    }

    fn database() -> DatabaseStatus {
        DatabaseStatus {
            flows: FlowsStatus {
                enabled: 1,
                disabled: 0,
                unusable: 0,
                rejected: Vec::new(),
                refused_filters: Vec::new(),
            },
            enabled_brokers: 1,
            outbox: OutboxRows { posts: 0, oldest_at: None },
            dead_letters: RecentLetters { counts: Vec::new(), at_least: false },
            replicas: Vec::new(),
        }
    }

    fn found(gateway: &GatewayStatus) -> Vec<String> {
        find_problems(Ok(gateway), Ok(&database())).into_iter().map(|found| found.problem).collect()
    }

    #[test]
    fn working_gateway_has_no_problem() {
        assert_eq!(found(&gateway()), [""; 0]);
    }

    #[test]
    fn faults_are_named() {
        let since = || "t".to_owned();
        let unready = vec![UnreadyStatus { reason: "inbox_full".to_owned(), since: since() }];
        assert_eq!(found(&GatewayStatus { unready, ..gateway() }), ["the inbox is full"]);
        let broker = BrokerStatus { connected: Some(false), since: Some(since()), address: None };
        assert_eq!(found(&GatewayStatus { broker, ..gateway() }), ["the broker is not connected"]);
        let origin = "http://h".to_owned();
        let breakers = vec![BreakerStatus { origin, state: "open".to_owned(), since: since() }];
        let problems = found(&GatewayStatus { breakers, ..gateway() });
        assert_eq!(problems, ["posts to http://h wait, its breaker is open"]);
    }

    #[test]
    fn failing_posts_are_one_problem() {
        let (actor, state, since) = ("delivery".to_owned(), "retrying".to_owned(), "t".to_owned());
        let actors = vec![ActorStatus {
            actor,
            state,
            since,
            depth: 0,
            capacity: 1,
            handled_per_second: 0.0,
            wait_p99_ms: None,
            handle_p99_ms: None,
            in_hand_ms: 0,
            restarts: 0,
        }];
        let mut gateway = GatewayStatus { actors, ..gateway() };
        assert_eq!(found(&gateway), ["posts fail, and are repeated"]);
        let (origin, state) = ("http://h".to_owned(), "open".to_owned());
        gateway.breakers = vec![BreakerStatus { origin, state, since: "t".to_owned() }];
        assert_eq!(found(&gateway), ["posts to http://h wait, its breaker is open"]);
    }

    #[test]
    fn database_without_enabled_broker_is_a_problem() {
        let database = DatabaseStatus { enabled_brokers: 0, ..database() };
        let problems = find_problems(Ok(&gateway()), Ok(&database));
        assert!(problems[0].problem.starts_with("no broker is enabled"), "{problems:?}");
        assert!(problems[0].remedy.contains("servers enable"), "{problems:?}");
    }

    #[test]
    fn missing_parts_are_problems() {
        let problems = find_problems(Err(&"refused".to_owned()), Err(&"gone".to_owned()));
        let texts: Vec<&str> = problems.iter().map(|found| found.problem.as_str()).collect();
        assert_eq!(texts, ["no gateway answers: refused", "the database cannot be read: gone"]);
    }
}

//! The brokers: the list, the page of a broker, and its buttons.

use actix_web::web::Data;
use askama::Template;

use super::fields::{Fields, link};
use super::history::EditRow;
use super::links::broker_link;
use super::page::{ConsoleError, Page, PageFrame, SeeOther};
use super::question::Question;
use super::visitor::{Submission, Visitor};
use crate::control::servers::problems;
use crate::control::view::{ServerTestView, ServerView};
use crate::control::{Control, EditedServer, HistoryEntryView, ServerFields};
use crate::domain::api_token::TokenScope;
use crate::domain::edit_history::EditedKind;
use crate::domain::problem::Problem;
use crate::domain::server_definition::ServerRecord;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::observe::Telemetry;

/// The part of the console.
pub(super) const PART: &str = "/brokers";

/// Most entries of the history that a page shows.
const MAX_ENTRIES: u64 = 20;

#[derive(Template)]
#[template(path = "brokers.html", config = "src/http/console/askama.toml")]
struct BrokerListPage {
    frame: PageFrame,
    notice: Option<String>,
    none_enabled: bool,
    brokers: Vec<BrokerLine>,
    command: &'static str,
}

#[derive(Template)]
#[template(path = "broker.html", config = "src/http/console/askama.toml")]
struct BrokerPage {
    frame: PageFrame,
    notice: Option<String>,
    broker: BrokerLine,
    problems: Vec<Problem>,
    test: Option<ServerTestView>,
    history: Vec<EditRow>,
    all_history: String,
    edit_link: String,
    remove_link: String,
    command: String,
}

struct BrokerLine {
    server: ServerView,
    address: String,
    state: &'static str,
    class: &'static str,
    /// Whether this gateway is connected to it.
    is_used: bool,
    link: String,
}

impl BrokerLine {
    /// `used` is `host:port` of the broker to which this gateway is connected.
    fn new(record: &ServerRecord, used: Option<&str>) -> Self {
        let server = ServerView::new(record);
        let has_tls = server.tls == Some(true);
        let port = server.port.unwrap_or(if has_tls { 8883 } else { 1883 });
        let is_usable = !problems(record).iter().any(Problem::is_error);
        let (state, class) = match (server.enabled == Some(true), is_usable) {
            (true, true) => ("enabled", "good"),
            (true, false) => ("cannot be used", "bad"),
            (false, _) => ("disabled", "idle"),
        };
        let address = if server.host.contains(':') {
            format!("[{}]:{port}", server.host)
        } else {
            format!("{}:{port}", server.host)
        };
        let is_used = used.is_some_and(|used| used == format!("{}:{port}", server.host));
        Self { address, state, class, is_used, link: broker_link(&server.id.to_string()), server }
    }

    fn is_enabled(&self) -> bool {
        self.server.enabled == Some(true)
    }

    fn is_default(&self) -> bool {
        self.server.is_default == Some(true)
    }

    fn has_tls(&self) -> bool {
        self.server.tls == Some(true)
    }
}

/// Shows the list.
pub(super) async fn list(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Brokers");
    let notice = notice(&visitor.query);
    let used = telemetry.metrics.broker.address();
    let page = thread.run(async move |control| {
        let servers = control.servers().await?;
        Page::new(&BrokerListPage {
            frame,
            notice,
            none_enabled: !servers.iter().any(ServerRecord::is_enabled),
            brokers: servers.iter().map(|server| BrokerLine::new(server, used.as_deref())).collect(),
            command: "mqtt-gateway servers list",
        })
    });
    Ok(page.await?)
}

/// Shows a broker.
pub(super) async fn show(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let id = visitor.query.number("id")?;
    let frame = visitor.frame(PART, format!("Broker {id}"));
    let notice = notice(&visitor.query);
    let used = telemetry.metrics.broker.address();
    let page = thread.run(async move |control| {
        let server = control.server(id).await?;
        Page::new(&broker_page(control, (&server, used.as_deref()), frame, notice, None).await?)
    });
    Ok(page.await?)
}

async fn broker_page(
    control: &Control,
    (server, used): (&ServerRecord, Option<&str>),
    frame: PageFrame,
    notice: Option<String>,
    test: Option<ServerTestView>,
) -> Result<BrokerPage, ApiProblem> {
    let id = server.id.to_string();
    let history = control.history(EditedKind::Server, &id, None, MAX_ENTRIES).await?;
    let history: Vec<_> = history.iter().map(HistoryEntryView::new).collect();
    let command = if test.is_some() { "test" } else { "show" };
    Ok(BrokerPage {
        frame,
        notice,
        broker: BrokerLine::new(server, used),
        problems: problems(server),
        test,
        history: EditRow::of_one(&history),
        all_history: link("/history", [("kind", EditedKind::Server.as_str()), ("name", id.as_str())]),
        edit_link: link("/broker/edit", [("id", id.as_str())]),
        remove_link: link("/broker/remove", [("id", id.as_str())]),
        command: format!("mqtt-gateway servers {command} {id}"),
    })
}

/// Connects to a broker as the gateway does, and shows the result.
pub(super) async fn test(
    submission: Submission,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let id = fields.number("id")?;
    let frame = visitor.frame(PART, format!("Test broker {id}"));
    let used = telemetry.metrics.broker.address();
    let page = thread.run_long(async move |control| {
        let server = control.server(id).await?;
        let test = ServerTestView::new(server.id, control.test_server(&server).await);
        Page::new(&broker_page(control, (&server, used.as_deref()), frame, None, Some(test)).await?)
    });
    Ok(page.await?)
}

/// Enables a broker.
pub(super) async fn enable(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    set_enabled(submission, &thread, true).await
}

/// Disables a broker.
pub(super) async fn disable(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    set_enabled(submission, &thread, false).await
}

async fn set_enabled(
    submission: Submission,
    thread: &ApiThread,
    enabled: bool,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let id = fields.number("id")?;
    let edited = thread.run_as(&visitor.caller, async move |control| {
        let edit = ServerFields { enabled: Some(enabled), ..ServerFields::default() };
        let edited = control.edit_server(id, &edit).await?;
        let done = match (enabled, control.servers().await?.iter().any(ServerRecord::is_enabled)) {
            (true, _) => "enabled",
            (false, true) => "disabled",
            (false, false) => "disabled_last",
        };
        Ok((edited, done))
    });
    let (edited, done) = edited.await?;
    Ok(after_edit(&edited, done))
}

/// Asks whether a broker is to be removed.
pub(super) async fn confirm_removal(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let id = visitor.query.number("id")?;
    let frame = visitor.frame(PART, "Remove a broker");
    let page = thread.run(async move |control| {
        let line = BrokerLine::new(&control.server(id).await?, None);
        let question = Question {
            frame,
            part_name: "Brokers",
            text: format!("Remove the broker {}?", line.address),
            consequence:
                "Its row is deleted. A gateway that uses it connects to the next broker of the list."
                    .to_owned(),
            target: "/broker/remove",
            hidden: vec![("id", id.to_string())],
            button: "Remove".to_owned(),
            back: line.link,
            command: format!("mqtt-gateway servers remove {id} --yes"),
        };
        question.page()
    });
    Ok(page.await?)
}

/// Removes a broker.
pub(super) async fn remove(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let id = fields.number("id")?;
    let removal = thread.run_as(&visitor.caller, async move |control| {
        let server = control.server(id).await?;
        Ok(control.remove_server(&server).await?)
    });
    removal.await?;
    Ok(SeeOther(link(PART, [("done", "removed")])))
}

/// Leads to the page of the broker, which confirms the action.
pub(super) fn after_edit(edited: &EditedServer, done: &str) -> SeeOther {
    let id = edited.server.id.to_string();
    let done = if edited.changed { done } else { "unchanged" };
    SeeOther(link("/broker", [("id", id.as_str()), ("done", done)]))
}

fn notice(query: &Fields) -> Option<String> {
    let done = match query.get("done") {
        "added" => "The broker was added.",
        "saved" => "The edit was saved.",
        "enabled" => "The broker is enabled.",
        "disabled" => "The broker is disabled. A gateway that uses it connects to the next one.",
        "disabled_last" => {
            "The broker is disabled, and no other one is enabled. A gateway that uses it stays connected to it."
        }
        "removed" => "The broker was removed.",
        "unchanged" => return Some("Nothing was changed: the broker was like that already.".to_owned()),
        _ => return None,
    };
    Some(format!("{done} Running gateways notice it within two seconds."))
}

//! The page of the demo: buttons that break things, and the proof that nothing was lost.
//!
//! The process of the demo runs endpoint, sensors and this gateway, and outlives it. It breaks things and counts, and
//! this page shows it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use askama::Template;
use awc::{Client, ClientRequest};
use serde::{Deserialize, Serialize};

use super::charts::grouped;
use super::fields::link;
use super::page::{ConsoleError, Page, PageFrame, SeeOther};
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::domain::api_token::TokenScope;
use crate::http::api::problem::ApiProblem;

/// The part of the console.
const PART: &str = "/demo";

/// Maximum time of a request to the demo, which audits all tables.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum bytes of a report.
const MAX_REPORT_BYTES: usize = 1024 * 1024;

/// Where the demo takes orders, and the secrets of its console, which every process of its gateway gets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DemoAccess {
    /// Address and port of the demo on the loopback interface.
    pub(crate) control: String,
    /// The secret of requests to it.
    pub(crate) control_key: String,
    /// The secret of the link to the console.
    pub(crate) link: String,
    /// The secret of the session that the link opens.
    pub(crate) session: String,
    /// The secret of the forms of the session.
    pub(crate) form_key: String,
}

/// What a visitor can do to the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DemoAction {
    StopEndpoint,
    StartEndpoint,
    /// Holds the write lock of the database for some seconds.
    LockDatabase,
    /// Kills the process of the gateway.
    KillGateway,
}

/// The state of the demo, and the comparison of all readings of its sensors with the database.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct DemoReport {
    /// Process id of the gateway.
    pub(crate) gateway_pid: u32,
    /// Number of kills.
    pub(crate) kills: u32,
    pub(crate) endpoint_works: bool,
    pub(crate) database_is_locked: bool,
    /// A URL that accepts the posts of the flow whose endpoint fails.
    pub(crate) mended_url: String,
    pub(crate) flows: Vec<FlowBalance>,
    /// What the audit found wrong.
    pub(crate) wrong: Vec<String>,
    /// Where all state is.
    pub(crate) dir: String,
    /// Settings of an audit in this directory, as words for the shell.
    pub(crate) audit_settings: String,
}

/// The valid readings of a flow. They are what `published` says, and one of the other numbers each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowBalance {
    pub(crate) flow: String,
    pub(crate) published: u64,
    /// In the table `data`.
    pub(crate) stored: u64,
    /// Accepted or refused by the endpoint.
    pub(crate) posted: u64,
    /// In the table `outbox`.
    pub(crate) waiting: u64,
    /// In the table `dead_letters`, and never posted.
    pub(crate) dead: u64,
    /// Newer than all others: in the broker, in the inbox, or in between.
    pub(crate) under_way: u64,
    /// Nowhere, although a newer one arrived.
    pub(crate) missing: u64,
    /// More than once in the table `data`.
    pub(crate) twice: u64,
}

#[derive(Template)]
#[template(path = "demo.html", config = "src/http/console/askama.toml")]
struct DemoPage {
    frame: PageFrame,
    notice: Option<&'static str>,
    report: DemoReport,
    published: u64,
    under_way: u64,
    missing: u64,
    twice: u64,
}

impl DemoAction {
    const ALL: [Self; 4] = [Self::StopEndpoint, Self::StartEndpoint, Self::LockDatabase, Self::KillGateway];

    /// The action with this name in paths.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StopEndpoint => "stop-endpoint",
            Self::StartEndpoint => "start-endpoint",
            Self::LockDatabase => "lock-database",
            Self::KillGateway => "kill-gateway",
        }
    }
}

impl DemoAccess {
    /// Makes new secrets for the demo at this address.
    #[cfg(any(test, feature = "tools"))]
    pub(crate) fn new(control: &str) -> Self {
        let [control_key, link, session, form_key] = std::array::from_fn(|_| super::sessions::random_text());
        Self { control: control.to_owned(), control_key, link, session, form_key }
    }

    async fn report(&self) -> Result<DemoReport, ApiProblem> {
        let request = |client: &Client, url| client.get(url);
        serde_json::from_slice(&self.ask("report", request).await?)
            .map_err(|error| failed(&error.to_string()))
    }

    async fn order(&self, action: DemoAction) -> Result<(), ApiProblem> {
        let request = |client: &Client, url| client.post(url);
        self.ask(action.name(), request).await.map(drop)
    }

    async fn ask(
        &self,
        what: &str,
        request: impl FnOnce(&Client, String) -> ClientRequest,
    ) -> Result<Vec<u8>, ApiProblem> {
        let client = Client::builder().timeout(TIMEOUT).disable_redirects().finish();
        let url = format!("http://{}/{}/{what}", self.control, self.control_key);
        let answer = request(&client, url).send().await;
        let mut answer = answer.map_err(|error| failed(&error.to_string()))?;
        let body = answer.body().limit(MAX_REPORT_BYTES).await;
        let body = body.map_err(|error| failed(&error.to_string()))?;
        if answer.status() == StatusCode::OK {
            Ok(body.to_vec())
        } else {
            Err(failed(&String::from_utf8_lossy(&body)))
        }
    }
}

fn failed(problem: &str) -> ApiProblem {
    log::error!("The demo did not answer its page: {problem}");
    ApiProblem::internal()
}

impl DemoPage {
    fn new(frame: PageFrame, notice: Option<&'static str>, report: DemoReport) -> Self {
        let sum = |count: fn(&FlowBalance) -> u64| report.flows.iter().map(count).sum();
        let (published, under_way) = (sum(|flow| flow.published), sum(|flow| flow.under_way));
        let (missing, twice) = (sum(|flow| flow.missing), sum(|flow| flow.twice));
        Self { frame, notice, report, published, under_way, missing, twice }
    }

    /// A number; nothing for zero, so that the others are seen.
    #[allow(clippy::unused_self, reason = "templates call methods")]
    fn number(&self, number: u64) -> String {
        if number == 0 { String::new() } else { grouped(number) }
    }

    fn audit_command(&self) -> String {
        let DemoReport { dir, audit_settings, .. } = &self.report;
        format!("cd {} && {audit_settings} mqtt-gateway audit", shell_word(dir))
    }

    fn nothing_was_lost(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.report.wrong.is_empty()
    }
}

/// Shows the page.
pub(super) async fn show(visitor: Visitor, demo: Data<DemoAccess>) -> Result<Page, ConsoleError> {
    let notice = DemoAction::named(visitor.query.get("done")).map(notice_of);
    let report = demo.report().await?;
    Ok(Page::new(&DemoPage::new(visitor.frame(PART, "Demo"), notice, report))?)
}

fn notice_of(action: DemoAction) -> &'static str {
    match action {
        DemoAction::StopEndpoint => "The endpoint is stopped. Alarms wait from now on.",
        DemoAction::StartEndpoint => "The endpoint runs again. The gateway posts what has waited, in order.",
        DemoAction::LockDatabase => "The database is locked. Messages wait in the inbox.",
        DemoAction::KillGateway => {
            "The gateway is killed in 2 seconds, and starts again 2 seconds later. You stay logged in."
        }
    }
}

/// Breaks or mends something.
pub(super) async fn act(
    submission: Submission,
    demo: Data<DemoAccess>,
    action: Path<String>,
) -> Result<SeeOther, ConsoleError> {
    submission.permitted(TokenScope::Admin)?;
    let action = DemoAction::named(&action).ok_or_else(ApiProblem::unknown_path)?;
    demo.order(action).await?;
    Ok(SeeOther(link(PART, [("done", action.name())])))
}

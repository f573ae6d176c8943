//! How a demo takes orders from the page of its gateway, and its reports.

use std::time::Duration;

use actix_web::http::StatusCode;
use awc::{Client, ClientRequest};
use serde::{Deserialize, Serialize};

use crate::http::api::problem::ApiProblem;

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

/// An action of a visitor on the demo.
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
    /// Findings of the audit.
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

impl DemoAction {
    const ALL: [Self; 4] = [Self::StopEndpoint, Self::StartEndpoint, Self::LockDatabase, Self::KillGateway];

    /// The action with this name in paths.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
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
        let [control_key, link, session, form_key] =
            std::array::from_fn(|_| super::random_text::random_text());
        Self { control: control.to_owned(), control_key, link, session, form_key }
    }

    pub(super) async fn report(&self) -> Result<DemoReport, ApiProblem> {
        let request = |client: &Client, url| client.get(url);
        serde_json::from_slice(&self.ask("report", request).await?)
            .map_err(|error| failed(&error.to_string()))
    }

    pub(super) async fn order(&self, action: DemoAction) -> Result<(), ApiProblem> {
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

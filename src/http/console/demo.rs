//! The page of the demo: buttons that break things, and the proof that nothing was lost.
//!
//! The process of the demo runs endpoint, sensors and this gateway, and outlives it. It breaks things and counts, and
//! this page shows it.

use actix_web::web::{Data, Path};
use askama::Template;

use super::charts::grouped;
use super::demo_access::{DemoAccess, DemoAction, DemoReport, FlowBalance};
use super::fields::link;
use super::page::{ConsoleError, Page, PageFrame, SeeOther};
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::domain::api_token::TokenScope;
use crate::http::api::problem::ApiProblem;

/// The part of the console.
const PART: &str = "/demo";

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
    let report = demo.report().await?;
    let done = DemoAction::named(visitor.query.get("done")).filter(|action| still_shows(*action, &report));
    let notice = done.map(notice_of);
    Ok(Page::new(&DemoPage::new(visitor.frame(PART, "Demo"), notice, report))?)
}

/// Whether the action still shows in the report. The page may be loaded again after others.
fn still_shows(action: DemoAction, report: &DemoReport) -> bool {
    match action {
        DemoAction::StopEndpoint => !report.endpoint_works,
        DemoAction::StartEndpoint => report.endpoint_works,
        DemoAction::LockDatabase => report.database_is_locked,
        DemoAction::KillGateway => true,
    }
}

fn notice_of(action: DemoAction) -> &'static str {
    match action {
        DemoAction::StopEndpoint => "The endpoint is stopped. Alarms wait from now on.",
        DemoAction::StartEndpoint => "The endpoint runs again. The gateway posts what has waited, in order.",
        DemoAction::LockDatabase => "The database is locked. Messages wait in the inbox.",
        DemoAction::KillGateway => {
            "The gateway is killed 2 seconds after the click, and starts again 2 seconds later. You stay logged in."
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

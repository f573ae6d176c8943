//! The history of edits of all flows and brokers.

use actix_web::get;
use actix_web::web::{Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::ApiAnswer;
use super::body::ApiText;
use super::page::{PageQuery, PageRequest};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::time_text::parse_time;
use crate::control::{ControlError, HistoryEntryView};
use crate::domain::edit_history::{EditedKind, HistoryFilter};

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(list_history);
}

/// Conditions on edits; all have to be met.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// `flow` or `server`.
    kind: Option<ApiText>,
    /// Code of the flow, or id of the broker.
    name: Option<ApiText>,
    /// Text in the name of the author.
    by: Option<ApiText>,
    /// Edited since: a day, a time in UTC, or an age (`2026-02-03`, `2026-02-03T04:05:06Z`, `24h`).
    since: Option<ApiText>,
    /// Edited before: a day, a time in UTC, or an age.
    until: Option<ApiText>,
}

impl HistoryQuery {
    fn filter(self) -> Result<HistoryFilter, ApiProblem> {
        let invalid =
            |field, problem: String| ControlError::invalid(field, problem, "correct it, or leave it out");
        let time = |field, text: Option<ApiText>| {
            let parsed = text.map(|text| parse_time(&text.0)).transpose();
            parsed.map_err(|expected| invalid(field, expected))
        };
        let kind = self.kind.map(|kind| {
            let parsed = EditedKind::from_name(&kind.0);
            parsed.ok_or_else(|| invalid("kind", format!("{:?} is neither flow nor server", kind.0)))
        });
        Ok(HistoryFilter {
            kind: kind.transpose()?,
            name: self.name.map(|name| name.0),
            by: self.by.map(|by| by.0).filter(|by| !by.is_empty()),
            since_us: time("since", self.since)?,
            until_us: time("until", self.until)?,
        })
    }
}

/// A page of edits, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EditHistoryPage {
    history: Vec<HistoryEntryView>,
    /// Path and query of the next page.
    next: Option<String>,
}

impl EditHistoryPage {
    /// The page of these entries, of which one more than its limit was read.
    pub(super) fn new(page: &PageRequest, mut history: Vec<HistoryEntryView>) -> Self {
        let has_more = history.len() > page.limit;
        history.truncate(page.limit);
        let last = history.last().filter(|_| has_more).map(|last| last.id);
        Self { next: page.next(last), history }
    }
}

/// Lists the edits of flows and brokers that commands, the API and the console made, also of removed ones.
#[utoipa::path(
    tag = "history",
    security(("token" = ["read"])),
    params(HistoryQuery, PageQuery),
    responses((status = 200, body = EditHistoryPage)),
)]
#[get("/history")]
pub(super) async fn list_history(
    thread: Data<ApiThread>,
    page: PageRequest,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let filter = page.conditions::<HistoryQuery>()?.filter()?;
            let entries = control.edits(&filter, page.after()?, page.limit as u64 + 1).await?;
            let entries = entries.iter().map(HistoryEntryView::new).collect();
            Ok(ApiAnswer::new(&EditHistoryPage::new(&page, entries)))
        })
        .await
}

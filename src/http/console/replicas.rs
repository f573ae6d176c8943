//! The gateways on the database.

use actix_web::web::Data;
use askama::Template;

use super::charts::grouped;
use super::page::{ConsoleError, Page, PageFrame, short_time};
use super::visitor::Visitor;
use crate::control::status::ReplicaStatus;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/replicas";

#[derive(Template)]
#[template(path = "replicas.html", config = "src/http/console/askama.toml")]
struct ReplicaListPage {
    frame: PageFrame,
    replicas: Vec<ReplicaLine>,
    command: &'static str,
}

struct ReplicaLine {
    class: &'static str,
    started_at: String,
    flows: String,
    replica: ReplicaStatus,
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Replicas");
    let page = thread.run(async move |control| {
        let replicas = control.replicas().await?.into_iter().map(ReplicaLine::new).collect();
        Page::new(&ReplicaListPage { frame, replicas, command: "mqtt-gateway status" })
    });
    Ok(page.await?)
}

impl ReplicaLine {
    fn new(replica: ReplicaStatus) -> Self {
        Self {
            class: match replica.state {
                "running" => "good",
                "silent" => "bad",
                _ => "idle",
            },
            started_at: replica.started_at.as_deref().map(short_time).unwrap_or_default(),
            flows: grouped(replica.flows as u64),
            replica,
        }
    }
}

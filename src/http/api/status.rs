//! The state of this gateway.

use std::time::Duration;

use actix_web::get;
use actix_web::web::{Data, ServiceConfig};

use super::answer::ApiAnswer;
use super::thread::ApiThread;
use crate::control::status::{GatewayStatus, StatusView};
use crate::observe::Telemetry;

/// Maximum age of what the database has.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(show_status);
}

/// Shows the state of this gateway and of the database, and their problems. An unreachable database is no failure
/// of the request. What the database has may be a second old, or 20 times as old as reading it takes.
#[utoipa::path(
    tag = "status",
    security(("token" = ["read"])),
    responses((status = 200, body = StatusView)),
)]
#[get("/status")]
pub(super) async fn show_status(thread: Data<ApiThread>, telemetry: Data<Telemetry>) -> ApiAnswer {
    let database = thread.database_status(MAX_AGE).await;
    ApiAnswer::new(&StatusView::new(Ok(GatewayStatus::new(&telemetry)), (*database).clone()))
}

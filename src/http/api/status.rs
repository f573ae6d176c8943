//! The state of this gateway.

use actix_web::get;
use actix_web::web::{Data, ServiceConfig};

use super::answer::ApiAnswer;
use super::thread::ApiThread;
use crate::control::status::{GatewayStatus, StatusView};
use crate::observe::Telemetry;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(show_status);
}

/// Shows the state of this gateway and of the database, and their problems. An unreachable database is no failure
/// of the request.
#[utoipa::path(
    tag = "status",
    security(("token" = ["read"])),
    responses((status = 200, body = StatusView)),
)]
#[get("/status")]
pub(super) async fn show_status(thread: Data<ApiThread>, telemetry: Data<Telemetry>) -> ApiAnswer {
    let gateway = GatewayStatus::new(&telemetry);
    let database = thread.run(async |control| Ok(control.database_status().await?)).await;
    ApiAnswer::new(&StatusView::new(Ok(gateway), database.map_err(|problem| problem.to_string())))
}

//! The OpenAPI description.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder, get};
use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::operations::Operations;
use super::{
    deliveries, drift, events, flow_edits, flows, history, letters, messages, problem, servers, status,
    tokens,
};
use crate::domain::message_event::MessageEvent;
use crate::domain::problem::{Problem, ProblemLevel};

/// Where the API is.
const PREFIX: &str = "/api/v1";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "mqtt-gateway",
        description = "Flows, brokers, dead letters and waiting posts of mqtt-gateway. docs/API.md has examples.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/api/v1")),
    paths(
        describe_api,
        events::stream_events,
        flows::list_flows,
        flows::show_flow,
        flow_edits::add_flow,
        flow_edits::edit_flow,
        flow_edits::remove_flow,
        flow_edits::enable_flow,
        flow_edits::disable_flow,
        flow_edits::validate_flow,
        flow_edits::test_flow,
        flow_edits::preview_edit,
        flow_edits::list_flow_history,
        flow_edits::roll_back_flow,
        flow_edits::touch,
        history::list_history,
        drift::list_drift,
        drift::show_drift,
        drift::accept_drift,
        drift::dismiss_drift,
        servers::list_servers,
        servers::show_server,
        servers::add_server,
        servers::edit_server,
        servers::remove_server,
        servers::enable_server,
        servers::disable_server,
        servers::test_server,
        messages::explain,
        messages::publish,
        letters::list_letters,
        letters::count_letters,
        letters::export_letters,
        letters::show_letter,
        letters::replay_letters,
        letters::discard_letters,
        deliveries::list_deliveries,
        deliveries::list_waiting_posts,
        deliveries::retry_deliveries,
        deliveries::cancel_deliveries,
        status::show_status,
        tokens::list_tokens,
        tokens::add_token,
        tokens::revoke_token,
    ),
    components(schemas(problem::ProblemDetails, Problem, ProblemLevel, MessageEvent)),
    modifiers(&Common),
)]
struct Description;

/// Common parts of all operations: the token, and the form of problems.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        api.components.get_or_insert_default().add_security_scheme("token", token);
    }
}

/// The description, and the operations in it.
pub(super) struct ApiDescription {
    text: String,
    pub(super) operations: Operations,
}

impl ApiDescription {
    pub(super) fn new() -> Self {
        let mut described = serde_json::to_value(Description::openapi()).unwrap_or_default();
        add_problems(&mut described);
        let operations = Operations::new(&described, PREFIX);
        Self { text: described.to_string(), operations }
    }
}

/// Adds the answer to requests that fail to every operation.
fn add_problems(description: &mut Value) {
    let failure = serde_json::json!({
        "description": "The request failed.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    });
    let paths = description["paths"].as_object_mut().into_iter().flatten();
    for (_, item) in paths {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(responses) = operation["responses"].as_object_mut() {
                responses.insert("default".to_owned(), failure.clone());
            }
        }
    }
}

/// This description.
#[utoipa::path(tag = "description", security(("token" = ["read"])), responses((status = 200, body = Value)))]
#[get("/openapi.json")]
pub(super) async fn describe_api(description: Data<ApiDescription>) -> impl Responder {
    HttpResponse::Ok().content_type("application/json").body(description.text.clone())
}

//! Routes and responses. All responses come from memory.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, guard};
use serde::Serialize;

use super::metrics_text::MetricsText;
use crate::observe::health::{StartupStep, Unready};
use crate::observe::metrics::CONTENT_TYPE as METRICS;
use crate::observe::{Telemetry, timestamp};

const PATHS: &str = "There are /health/live, /health/ready, /health/startup and /metrics.\n";

/// Registers all routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    let read = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    for resource in [
        web::resource("/health/live").route(read().to(live)),
        web::resource("/health/ready").route(read().to(ready)),
        web::resource("/health/startup").route(read().to(startup)),
        web::resource("/metrics").route(read().to(metrics)),
    ] {
        config.service(resource.default_service(web::to(reject_method)));
    }
    config.default_service(web::to(async || HttpResponse::NotFound().content_type("text/plain").body(PATHS)));
}

async fn reject_method() -> HttpResponse {
    let mut response = HttpResponse::MethodNotAllowed();
    response.insert_header((ALLOW, "GET, HEAD")).content_type("text/plain").body("Only GET and HEAD.\n")
}

#[derive(Serialize)]
struct Live {
    live: bool,
    silent: Vec<Silent>,
}

#[derive(Serialize)]
struct Silent {
    actor: String,
    silent_seconds: u64,
}

async fn live(telemetry: Data<Telemetry>) -> HttpResponse {
    let dead = telemetry.dead_actors();
    let silent = dead.into_iter().map(|(actor, silence)| Silent { actor, silent_seconds: silence.as_secs() });
    let silent: Vec<Silent> = silent.collect();
    let live = silent.is_empty();
    answer(live).json(Live { live, silent })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<Since>,
}

#[derive(Serialize)]
struct Since {
    reason: &'static str,
    since: String,
}

async fn ready(telemetry: Data<Telemetry>) -> HttpResponse {
    let reasons: Vec<Since> = telemetry.unready_reasons().into_iter().map(Since::from).collect();
    let ready = reasons.is_empty();
    answer(ready).json(Ready { ready, reasons })
}

impl From<Unready> for Since {
    fn from(Unready { reason, since }: Unready) -> Self {
        Self { reason: reason.as_str(), since: timestamp(since) }
    }
}

#[derive(Serialize)]
struct Startup {
    started: bool,
    missing: Vec<&'static str>,
    since: String,
}

async fn startup(telemetry: Data<Telemetry>) -> HttpResponse {
    let (since, missing) = telemetry.health.missing_steps();
    let missing: Vec<_> = missing.into_iter().map(StartupStep::as_str).collect();
    let started = missing.is_empty();
    answer(started).json(Startup { started, missing, since: timestamp(since) })
}

async fn metrics(text: Data<MetricsText>) -> HttpResponse {
    match text.now() {
        Some(body) => HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS)).body(body),
        None => HttpResponse::InternalServerError().finish(),
    }
}

fn answer(is_ok: bool) -> actix_web::HttpResponseBuilder {
    HttpResponse::build(if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

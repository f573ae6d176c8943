//! The built-in HTTP endpoints: one takes the posts of the gateway, the other always fails.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use serde_json::Value;

use super::ledger::{READING, ReadingLedger};
use crate::http::thread::HttpThread;
use crate::store::demo::reading_number;

/// Preferred port. With a stable port, messages that an earlier demo could not post reach this endpoint.
const DEFAULT_PORT: u16 = 8088;

/// Preferred port of the endpoint that fails.
const FAILING_PORT: u16 = 8089;

/// Prefix of the endpoint URLs of all demos.
pub(super) const ORIGIN: &str = "http://127.0.0.1:";

/// Limit of a request body, twice the payload limit of the gateway.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Severities of alarms that the endpoint knows.
const SEVERITIES: [&str; 2] = ["high", "low"];

/// An endpoint, which runs on its own thread.
pub(super) struct Endpoint {
    server: HttpThread,
    /// Beginning of its paths, which tells the endpoints of an earlier demo apart.
    prefix: &'static str,
    /// Otherwise it answers 503, as a proxy does for a service that is down.
    works: Arc<AtomicBool>,
}

impl Endpoint {
    /// Starts the endpoint on the loopback interface. It notes the readings that it receives.
    pub(super) fn start(ledger: &Arc<ReadingLedger>) -> io::Result<Self> {
        Self::start_near(DEFAULT_PORT, "/demo/", ledger, true)
    }

    /// Starts an endpoint that never works.
    pub(super) fn start_failing(ledger: &Arc<ReadingLedger>) -> io::Result<Self> {
        Self::start_near(FAILING_PORT, "/failing/", ledger, false)
    }

    fn start_near(
        port: u16,
        prefix: &'static str,
        ledger: &Arc<ReadingLedger>,
        works: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let works = Arc::new(AtomicBool::new(works));
        let (ledger, state) = (Data::from(Arc::clone(ledger)), Data::from(Arc::clone(&works)));
        let configure = move |app: &mut ServiceConfig| {
            app.app_data(PayloadConfig::new(MAX_BODY_BYTES))
                .app_data(ledger.clone())
                .app_data(state.clone())
                .route(&format!("{prefix}{{flow_code}}"), web::post().to(receive));
        };
        let server = HttpThread::start_routes("demo-endpoint", listener, configure)?;
        Ok(Self { server, prefix, works })
    }

    /// Stops and starts the work of the endpoint. Its port stays open, because another program could take it.
    pub(super) fn set_works(&self, works: bool) {
        self.works.store(works, Relaxed);
    }

    /// Whether the endpoint works.
    pub(super) fn works(&self) -> bool {
        self.works.load(Relaxed)
    }

    /// Returns the URL to which the flow with this code posts.
    pub(super) fn url(&self, flow_code: &str) -> String {
        format!("{ORIGIN}{}{}", self.server.address().port(), self.path(flow_code))
    }

    /// Returns the path to which the flow with this code posts.
    pub(super) fn path(&self, flow_code: &str) -> String {
        format!("{}{flow_code}", self.prefix)
    }
}

/// Takes a post, or refuses an alarm with an unknown severity for good.
async fn receive(body: Bytes, ledger: Data<ReadingLedger>, works: Data<AtomicBool>) -> HttpResponse {
    if !works.load(Relaxed) {
        return HttpResponse::ServiceUnavailable().body("The service is down\n");
    }
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(reading) = payload.get(READING).and_then(Value::as_str).and_then(reading_number) {
        ledger.note_posted(reading);
    }
    match payload.get("severity").and_then(Value::as_str) {
        Some(severity) if !SEVERITIES.contains(&severity) => {
            HttpResponse::UnprocessableEntity().body(format!("severity: expected one of {SEVERITIES:?}\n"))
        }
        _ => HttpResponse::NoContent().finish(),
    }
}

//! The built-in HTTP endpoints: one accepts the posts of the gateway, the other always fails.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use serde_json::Value;

use super::ledger::{READING, ReadingLedger};
use crate::http::thread::HttpThread;

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
    address: SocketAddr,
    /// None answers 503.
    ledger: Option<Arc<ReadingLedger>>,
    server: Mutex<Option<HttpThread>>,
}

impl Endpoint {
    /// Starts the endpoint on the loopback interface. It notes the readings that it receives.
    pub(super) fn start(ledger: Arc<ReadingLedger>) -> io::Result<Self> {
        Self::start_near(DEFAULT_PORT, Some(ledger))
    }

    /// Starts an endpoint that answers 503 to every post.
    pub(super) fn start_failing() -> io::Result<Self> {
        Self::start_near(FAILING_PORT, None)
    }

    fn start_near(port: u16, ledger: Option<Arc<ReadingLedger>>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let endpoint = Self { address, ledger, server: Mutex::default() };
        endpoint.serve(listener)?;
        Ok(endpoint)
    }

    /// Starts the endpoint again at its address, unless it runs.
    pub(super) fn resume(&self) -> io::Result<()> {
        if self.runs() { Ok(()) } else { self.serve(TcpListener::bind(self.address)?) }
    }

    fn serve(&self, listener: TcpListener) -> io::Result<()> {
        let ledger = self.ledger.clone().map(Data::from);
        let configure = move |app: &mut ServiceConfig| {
            let posts = web::resource("/demo/{flow_code}").app_data(PayloadConfig::new(MAX_BODY_BYTES));
            app.service(match &ledger {
                Some(ledger) => posts.app_data(ledger.clone()).route(web::post().to(accept)),
                None => posts.route(web::post().to(fail)),
            });
        };
        let server = HttpThread::start_routes("demo-endpoint", listener, configure)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    /// Whether the endpoint runs.
    pub(super) fn runs(&self) -> bool {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns the URL to which the flow with this code posts.
    pub(super) fn url(&self, flow_code: &str) -> String {
        format!("{ORIGIN}{}{}", self.address.port(), path(flow_code))
    }

    /// Ends the server and waits for its thread.
    pub(super) fn stop(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.end();
        }
    }
}

/// Returns the path to which the flow with this code posts.
pub(super) fn path(flow_code: &str) -> String {
    format!("/demo/{flow_code}")
}

/// Takes a post, or refuses an alarm with an unknown severity for good.
async fn accept(body: Bytes, ledger: Data<ReadingLedger>) -> HttpResponse {
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(reading) = payload.get(READING).and_then(Value::as_u64) {
        ledger.note_posted(reading);
    }
    match payload.get("severity").and_then(Value::as_str) {
        Some(severity) if !SEVERITIES.contains(&severity) => {
            HttpResponse::UnprocessableEntity().body(format!("severity: expected one of {SEVERITIES:?}\n"))
        }
        _ => HttpResponse::NoContent().finish(),
    }
}

/// Reads the whole body and fails.
async fn fail(_body: Bytes) -> HttpResponse {
    HttpResponse::ServiceUnavailable().body("The workshop is closed\n")
}

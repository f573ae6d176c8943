//! The built-in HTTP endpoint: accepts the posts of the gateway.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, PayloadConfig, ServiceConfig};

use crate::http::thread::HttpThread;

/// Preferred port. With a stable port, messages that an earlier demo could not post reach this endpoint.
const DEFAULT_PORT: u16 = 8088;

/// Prefix of the endpoint URLs of all demos.
pub(super) const ORIGIN: &str = "http://127.0.0.1:";

/// Limit of a request body, twice the payload limit of the gateway.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// The endpoint, which runs on its own thread.
pub(super) struct Endpoint(HttpThread);

impl Endpoint {
    /// Starts the endpoint on the loopback interface.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let configure = |app: &mut ServiceConfig| {
            app.app_data(PayloadConfig::new(MAX_BODY_BYTES))
                .route("/demo/{flow_code}", web::post().to(accept));
        };
        HttpThread::start_routes("demo-endpoint", listener, configure).map(Self)
    }

    /// Returns the URL to which the flow with this code posts.
    pub(super) fn url(&self, flow_code: &str) -> String {
        format!("{ORIGIN}{}{}", self.0.address().port(), path(flow_code))
    }

    /// Ends the server and waits for its thread.
    pub(super) fn end(self) {
        self.0.end();
    }
}

/// Returns the path to which the flow with this code posts.
pub(super) fn path(flow_code: &str) -> String {
    format!("/demo/{flow_code}")
}

/// Reads the whole body, as an endpoint that does something with it.
async fn accept(_body: Bytes) -> HttpResponse {
    HttpResponse::NoContent().finish()
}

//! An HTTP endpoint that answers immediately and forwards the arrivals.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::Sender;
use std::time::Instant;

use actix_web::web::{self, Bytes, Data, Path, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use crate::http::thread::HttpThread;

/// Limit of a request body, larger than any message of a measurement.
const MAX_BODY_BYTES: usize = 8 << 20;

/// A posted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Time at which the request was read.
    pub at: Instant,
    /// Last segment of the path.
    pub flow_code: String,
    /// Value of `Idempotency-Key`; empty if the header is missing.
    pub key: String,
    /// Attribute `n` of the body.
    pub n: Option<i64>,
}

/// The endpoint, which runs on its own thread.
#[derive(Debug)]
pub struct Sink(HttpThread);

impl Sink {
    /// Starts the endpoint on a free port of the loopback interface.
    pub fn start(arrivals: Sender<Arrival>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let arrivals = Data::new(arrivals);
        let configure = move |app: &mut ServiceConfig| {
            app.app_data(Data::clone(&arrivals))
                .app_data(PayloadConfig::new(MAX_BODY_BYTES))
                .route("/{flow_code}", web::post().to(take));
        };
        HttpThread::start_routes("bench-sink", listener, configure).map(Self)
    }

    /// Returns the URL to which the flow with this code posts.
    #[must_use]
    pub fn url(&self, flow_code: &str) -> String {
        format!("http://127.0.0.1:{}/{flow_code}", self.0.address().port())
    }

    /// Ends the server and waits for its thread. No arrivals are sent afterwards.
    pub fn end(self) {
        self.0.end();
    }
}

async fn take(
    request: HttpRequest,
    flow_code: Path<String>,
    body: Bytes,
    arrivals: Data<Sender<Arrival>>,
) -> HttpResponse {
    #[derive(Deserialize)]
    struct Numbered {
        n: i64,
    }
    let key = request.headers().get("Idempotency-Key").and_then(|key| key.to_str().ok());
    let arrival = Arrival {
        at: Instant::now(),
        flow_code: flow_code.into_inner(),
        key: key.unwrap_or_default().to_owned(),
        n: serde_json::from_slice(&body).ok().map(|Numbered { n }| n),
    };
    match arrivals.send(arrival) {
        Ok(()) => HttpResponse::NoContent().finish(),
        // Without a receiver, the message must not count as delivered.
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

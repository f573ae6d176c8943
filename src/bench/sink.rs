//! An HTTP endpoint that answers at once and tells what came.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::Sender;
use std::time::Instant;

use actix_web::dev::Server;
use actix_web::web::{self, Bytes, Data, Path, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::Deserialize;

use crate::http::thread::HttpThread;

/// More than a message of a measurement ever has.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Waits for requests in hand at the end, in seconds.
const SHUTDOWN_S: u64 = 1;

/// A message that was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When it was read.
    pub at: Instant,
    /// Last part of the path.
    pub flow_code: String,
    /// `Idempotency-Key`; empty if there was none.
    pub key: String,
    /// The attribute `n` of the body.
    pub n: Option<i64>,
}

/// The endpoint, on a thread of its own.
#[derive(Debug)]
pub struct Sink(HttpThread);

impl Sink {
    /// Listens on a free port of the loopback interface.
    pub fn start(arrivals: Sender<Arrival>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        HttpThread::start("bench-sink", listener, |listener| serve(listener, arrivals)).map(Self)
    }

    /// Where the flow of this code posts to.
    #[must_use]
    pub fn url(&self, flow_code: &str) -> String {
        format!("http://127.0.0.1:{}/{flow_code}", self.0.address().port())
    }

    /// Ends the server and waits for its thread. Then nothing more is told.
    pub fn end(self) {
        self.0.end();
    }
}

fn serve(listener: TcpListener, arrivals: Sender<Arrival>) -> io::Result<Server> {
    let arrivals = Data::new(arrivals);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&arrivals))
            .app_data(PayloadConfig::new(MAX_BODY_BYTES))
            .route("/{flow_code}", web::post().to(take))
    });
    // Signals are the measurement's affair.
    Ok(server.workers(1).disable_signals().shutdown_timeout(SHUTDOWN_S).listen(listener)?.run())
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
        // Nobody looks any more: it must not pass for delivered.
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

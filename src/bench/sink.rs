//! An HTTP endpoint that answers at once and tells what came.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Bytes, Data, Path, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::Deserialize;

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
pub struct Sink {
    port: u16,
    server: ServerHandle,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port of the loopback interface.
    pub fn start(arrivals: Sender<Arrival>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (hand_out, server) = channel();
        let thread = thread::Builder::new().name("bench-sink".to_owned()).spawn(move || {
            let outcome = actix_web::rt::System::new().block_on(async move {
                let server = serve(listener, arrivals)?;
                // Who started it waits for it.
                let _ = hand_out.send(server.handle());
                server.await
            });
            if let Err(error) = outcome {
                log::error!("The endpoint of the measurement failed: {error}");
            }
        })?;
        let server = server.recv().map_err(|_| io::Error::other("its server did not start"))?;
        Ok(Self { port, server, thread })
    }

    /// Where the flow of this code posts to.
    #[must_use]
    pub fn url(&self, flow_code: &str) -> String {
        format!("http://127.0.0.1:{}/{flow_code}", self.port)
    }

    /// Ends the server and waits for its thread. Then nothing more is told.
    pub fn end(self) {
        // The order is given at once; its future would only tell when it is carried out.
        drop(self.server.stop(true));
        let _ = self.thread.join();
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

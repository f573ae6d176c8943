//! The server: where it listens, and how much of the machine a client can have.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{Data, PayloadConfig};
use actix_web::{App, HttpServer, rt};

use super::answers::routes;
use super::connections::{Connections, MAX_CONNECTIONS};
use super::metrics_text::MetricsText;
use super::thread::HttpThread;
use crate::observe::Telemetry;

/// By how much the server's threads step back for all others when a processor is wanted by several.
const NICE: i32 = 10;

/// The head of a request has to be there after this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection waits so long for the next request.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a request's body that are read at most; no request needs one.
const MAX_BODY_BYTES: usize = 1024;

/// How often it is looked for connections that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Waits for answers in hand at the end, in seconds.
const SHUTDOWN_S: u64 = 1;

/// The server and its thread.
#[derive(Debug)]
pub(crate) struct AdminServer(HttpThread);

impl AdminServer {
    /// Listens at `address` and answers from what is seen.
    ///
    /// # Errors
    /// What the operating system says when it cannot listen there.
    pub(crate) fn start(address: SocketAddr, telemetry: Arc<Telemetry>) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        let thread = HttpThread::start("admin-http", listener, move |listener| serve(listener, &telemetry))?;
        let address = thread.address();
        Ok((Self(thread), address))
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.0.end();
    }
}

fn serve(listener: TcpListener, telemetry: &Arc<Telemetry>) -> io::Result<Server> {
    lower_priority();
    let connections = Connections::default();
    rt::spawn(expire_connections(connections.clone()));
    let (seen, text) = (Data::from(Arc::clone(telemetry)), Data::new(MetricsText::new(telemetry)));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(seen.clone())
            .app_data(text.clone())
            .app_data(PayloadConfig::new(MAX_BODY_BYTES))
            .wrap(DefaultHeaders::new().add(("Cache-Control", "no-store")))
            .configure(routes)
    });
    let server = server
        .on_connect(move |connection, data| connections.register(connection, data))
        .workers(1)
        .max_connections(usize::from(MAX_CONNECTIONS))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(HEAD_TIMEOUT)
        .keep_alive(KEEP_ALIVE_TIMEOUT)
        // Signals are the gateway's affair.
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_S);
    Ok(server.listen(listener)?.run())
}

/// The threads that the server starts take it over from this one.
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE) {
        log::warn!("Health and metrics have the priority of messages: {error}");
    }
}

async fn expire_connections(connections: Connections) {
    loop {
        rt::time::sleep(EXPIRY_INTERVAL).await;
        connections.close_expired(Instant::now());
    }
}

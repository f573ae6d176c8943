//! Admin HTTP server and its resource limits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::middleware::DefaultHeaders;
use actix_web::web::{Data, PayloadConfig};
use actix_web::{App, HttpServer, rt};

use super::answers::routes;
use super::api::{self, Api};
use super::connections::{Connections, MAX_CONNECTIONS};
use super::console::{self, ConsoleSessions, DemoAccess, LiveStreams};
use super::metrics_text::MetricsText;
use super::thread::HttpThread;
use crate::control::LazyControl;
use crate::observe::Telemetry;

/// Nice value of the server threads; a higher value means a lower priority.
const NICE: i32 = 10;

/// Maximum time for receiving the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time that a connection waits for its next request.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum bytes of a request body. Only requests to the API need one, and have a limit of their own.
const MAX_BODY_BYTES: usize = 1024;

/// Interval at which old connections are closed, and the counts of the last hour are kept.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time that a shutdown waits for responses, in seconds.
const SHUTDOWN_S: u64 = 1;

/// The running admin server.
#[derive(Debug)]
pub(crate) struct AdminServer {
    thread: HttpThread,
    sessions: Arc<ConsoleSessions>,
}

impl AdminServer {
    /// Serves `telemetry` and the API to `control`; in a demo also its page.
    ///
    /// # Errors
    /// The error of the operating system if there is no thread.
    pub(crate) fn start(
        listener: TcpListener,
        telemetry: Arc<Telemetry>,
        control: Arc<LazyControl>,
        demo: Option<DemoAccess>,
    ) -> io::Result<Self> {
        let sessions =
            Arc::new(demo.as_ref().map_or_else(ConsoleSessions::default, ConsoleSessions::of_demo));
        let open = Data::from(Arc::clone(&sessions));
        let thread = HttpThread::start("admin-http", listener, move |listener| {
            serve(listener, &telemetry, control, open, demo.map(Data::new))
        })?;
        Ok(Self { thread, sessions })
    }

    /// The address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.thread.address()
    }

    /// Makes a link to the console that is valid once, for a person at this machine.
    pub(crate) fn console_link(&self) -> String {
        link_to_console(self.address(), &self.sessions.add_link())
    }

    /// Stops the server.
    pub(crate) fn end(self) {
        self.thread.end();
    }
}

/// The link to a console at `address` for a person at this machine.
pub(crate) fn link_to_console(mut address: SocketAddr, link: &str) -> String {
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}/enter?link={link}")
}

fn serve(
    listener: TcpListener,
    telemetry: &Arc<Telemetry>,
    control: Arc<LazyControl>,
    sessions: Data<ConsoleSessions>,
    demo: Option<Data<DemoAccess>>,
) -> io::Result<Server> {
    lower_priority();
    let connections = Connections::default();
    rt::spawn(tick(connections.clone(), Arc::clone(telemetry)));
    let (seen, text) = (Data::from(Arc::clone(telemetry)), Data::new(MetricsText::new(telemetry)));
    let api = Api::start(control)?;
    let live = Data::<LiveStreams>::default();
    let server = HttpServer::new(move || {
        let (api, sessions, demo) = (api.clone(), sessions.clone(), demo.clone());
        let live = live.clone();
        App::new()
            .app_data(seen.clone())
            .app_data(text.clone())
            .app_data(PayloadConfig::new(MAX_BODY_BYTES))
            .wrap(DefaultHeaders::new().add(("Cache-Control", "no-store")))
            .configure(|config| api::routes(config, &api))
            .configure(|config| console::routes(config, &api.thread(), &sessions, &live, demo.as_ref()))
            .configure(routes)
    });
    let server = server
        .on_connect(move |connection, data| connections.register(connection, data))
        .workers(1)
        .max_connections(usize::from(MAX_CONNECTIONS))
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(HEAD_TIMEOUT)
        .keep_alive(KEEP_ALIVE_TIMEOUT)
        // The gateway handles signals itself.
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_S);
    Ok(server.listen(listener)?.run())
}

/// Lowers the priority of this thread. Threads started by the server inherit it.
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICE) {
        log::warn!("Cannot lower the priority of the admin server threads: {error}");
    }
}

async fn tick(connections: Connections, telemetry: Arc<Telemetry>) {
    loop {
        rt::time::sleep(TICK_INTERVAL).await;
        connections.close_expired(Instant::now());
        telemetry.note_rates();
    }
}

//! Stands between paho and the broker, in the process: paho never sees bytes that it cannot read.
//!
//! ```text
//!   paho ──TCP on loopback──▶ relay ──TCP or TLS──▶ broker
//!        ◀─whole, sound packets─┘ ◀─────any bytes──────┘
//! ```
//!
//! The client library takes the process down over a topic that is not UTF-8, frees memory twice over a NUL in a property,
//! and allocates whatever length a packet claims. The relay replaces such a PUBLISH, so that it becomes a dead letter and
//! is acknowledged (`rejected`), keeps only the beginning of a long one (`filter`), and ends the connection over any other
//! bad packet. It also does TLS, whose errors paho does not tell.
//!
//! A relay is one attempt and the connection that comes of it, on a thread of its own.

mod coalescing;
mod connect;
mod dial;
mod filter;
mod packet;
mod pump;
mod rejected;

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdTcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::coalescing::{Coalescing, MessageCount};
pub(super) use self::connect::Credentials;
use self::connect::{Start, start};
use self::dial::dial;
use self::filter::Filter;
use self::pump::{End, Pump};
pub(super) use self::rejected::{Rejected, Token};
use super::broker_probe::look;
use super::server::BrokerServer;
use super::version::Version;

/// How long the relay waits for its own client.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that may begin at a time: ours is one, and others of this machine are refused.
const MAX_STARTING: usize = 16;

/// A relay to one broker.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    port: u16,
    progress: Arc<Mutex<Progress>>,
}

/// How far the connection has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Dialling,
    /// The broker accepted the connection; MQTT has not begun, or goes on.
    Connected,
    /// Without an answer to CONNECT.
    Failed(String),
    /// With the reason, if it is known.
    Ended(Option<String>),
}

/// What a relay needs for its connection.
pub(super) struct Route {
    pub(super) server: BrokerServer,
    pub(super) version: Version,
    pub(super) credentials: Credentials,
    pub(super) token: Token,
    pub(super) max_payload_bytes: usize,
}

impl Relay {
    /// Listens for our client, and connects to the broker.
    pub(super) fn start(route: Route) -> io::Result<Relay> {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let progress = Arc::new(Mutex::new(Progress::Dialling));
        let relay = Relay { port: listener.local_addr()?.port(), progress };
        let (own, route) = (relay.clone(), Arc::new(route));
        thread::Builder::new().name("mqtt-relay".to_owned()).spawn(move || own.run(listener, &route))?;
        Ok(relay)
    }

    /// Where paho connects.
    pub(super) fn uri(&self) -> String {
        format!("tcp://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Whether a connection to the broker was possible at all, or why not.
    pub(super) fn reachable(&self) -> Result<(), String> {
        match &*self.progress() {
            Progress::Dialling => Err("the broker did not answer in time".to_owned()),
            Progress::Failed(reason) => Err(reason.clone()),
            Progress::Connected | Progress::Ended(_) => Ok(()),
        }
    }

    /// Why the connection ended, if the relay knows.
    pub(super) fn end_reason(&self) -> Option<String> {
        match &*self.progress() {
            Progress::Ended(reason) => reason.clone(),
            _ => None,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, listener: StdTcpListener, route: &Arc<Route>) {
        let messages = MessageCount::default();
        let runtime = match runtime(Coalescing::new(messages.clone(), Instant::now())) {
            Ok(runtime) => runtime,
            Err(error) => return *self.progress() = Progress::Failed(error.to_string()),
        };
        runtime.block_on(self.carry(listener, route, messages));
        // A look-up of a name may take longer than anybody waits.
        runtime.shutdown_background();
    }

    async fn carry(&self, listener: StdTcpListener, route: &Arc<Route>, messages: MessageCount) {
        let broker = match dial(&route.server).await {
            Ok(broker) => broker,
            Err(reason) => return *self.progress() = Progress::Failed(reason),
        };
        *self.progress() = Progress::Connected;
        let (client, connect) = match timeout(CLIENT_TIMEOUT, await_client(listener, route)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return *self.progress() = Progress::Failed(error.to_string()),
            Err(_) => {
                return *self.progress() = Progress::Failed("the MQTT client did not connect".to_owned());
            }
        };
        let mut filter = Filter::new(route.version, route.token.clone(), route.max_payload_bytes, messages);
        let mut pump = Pump::new(client, broker);
        let end = pump.run(&connect, &mut filter).await;
        // Before paho learns of the end, and asks.
        *self.progress() = progress_after(&end, filter.is_connected(), &route.server);
        pump.close(&end).await;
    }
}

/// The thread of the relay does nothing else, so that it may sleep: both directions gather meanwhile.
fn runtime(coalescing: Coalescing) -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            if let Some(delay) = coalescing.delay(Instant::now()) {
                thread::sleep(delay);
            }
        })
        .build()
}

fn progress_after(end: &End, is_connected: bool, server: &BrokerServer) -> Progress {
    match end {
        End::Malformed(problem) => {
            Progress::Ended(Some(format!("the broker sent a packet that is not valid: {problem}")))
        }
        // A broker may refuse our certificate after the handshake.
        End::Broker(_) if !is_connected && server.tls.is_some() => {
            look(server).map_or_else(Progress::Failed, |()| Progress::Ended(None))
        }
        End::Broker(Some(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Progress::Ended(Some(error.to_string()))
        }
        End::Client | End::Broker(_) => Progress::Ended(None),
    }
}

/// Waits for the connection that begins with the token; others are closed.
async fn await_client(listener: StdTcpListener, route: &Arc<Route>) -> io::Result<(TcpStream, Vec<u8>)> {
    let listener = TcpListener::from_std(listener)?;
    let mut starting = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if starting.len() < MAX_STARTING => {
                starting.spawn(read_start(accepted?.0, Arc::clone(route)));
            }
            Some(Ok(Some(client))) = starting.join_next() => return Ok(client),
        }
    }
}

/// The connection with what the broker is to get first; `None` for somebody else's.
async fn read_start(mut stream: TcpStream, route: Arc<Route>) -> Option<(TcpStream, Vec<u8>)> {
    stream.set_nodelay(true).ok()?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(chunk.get(..count)?);
        match start(&bytes, &route.token, &route.credentials) {
            Start::Incomplete => {}
            Start::Foreign => return None,
            Start::Connect(mut packet, used) => {
                packet.extend_from_slice(bytes.get(used..)?);
                return Some((stream, packet));
            }
        }
    }
}

//! Relay between paho and the broker, within the process: paho never sees bytes that it cannot parse.
//!
//! ```text
//!   paho ──TCP on loopback──▶ relay ──TCP or TLS──▶ broker
//!        ◀─whole, sound packets─┘ ◀─────any bytes──────┘
//! ```
//!
//! The client library aborts the process over a topic that is not UTF-8. It frees memory twice over NUL in a property,
//! and allocates any length that a packet claims. The relay replaces such a PUBLISH (`rejected`): it becomes a dead
//! letter and is acknowledged. Long messages are truncated (`filter`). Any other invalid packet ends the connection.
//! The relay also handles TLS, because paho does not report TLS errors.
//!
//! A relay serves one connection attempt and its connection, on its own thread.

mod coalescing;
mod connect;
mod dial;
mod filter;
mod packet;
mod pump;
mod rejected;

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::coalescing::{Coalescing, MessageCount};
pub(super) use self::connect::Credentials;
use self::connect::{FirstPacket, parse_start};
use self::dial::dial;
use self::filter::{Filter, LastPing};
use self::pump::{ConnectionEnd, DownloadEnd, Pump};
pub(super) use self::rejected::{Rejected, Token};
use super::broker_probe::probe;
use crate::domain::broker::{Broker, MqttVersion};

/// Time that the relay waits for its own client.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of simultaneous new connections. One is ours; other local programs are refused.
const MAX_STARTING: usize = 16;

/// Relay to one broker.
#[derive(Debug, Clone)]
pub(super) struct Relay {
    port: u16,
    progress: Arc<Mutex<RelayProgress>>,
    last_ping: LastPing,
    download_end: Arc<Notify>,
    is_closed: Arc<AtomicBool>,
}

/// Progress of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RelayProgress {
    Dialling,
    /// The broker accepted the TCP connection. MQTT has not started or is running.
    Connected,
    /// Failed before an answer to CONNECT.
    Failed(String),
    /// Ended, with the cause if it is known.
    Ended(Option<String>),
}

/// Parameters of the connection.
pub(super) struct RelayRoute {
    pub(super) server: Broker,
    pub(super) version: MqttVersion,
    pub(super) credentials: Credentials,
    pub(super) token: Token,
    pub(super) max_payload_bytes: usize,
    /// Woken when the relay has closed both connections.
    pub(super) on_closed: Waker,
}

impl Relay {
    /// Starts listening for our client and connects to the broker.
    pub(super) fn start(route: RelayRoute) -> io::Result<Relay> {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let progress = Arc::new(Mutex::new(RelayProgress::Dialling));
        let relay = Relay {
            port: listener.local_addr()?.port(),
            progress,
            last_ping: LastPing::default(),
            download_end: Arc::default(),
            is_closed: Arc::default(),
        };
        let (own, route) = (relay.clone(), Arc::new(route));
        thread::Builder::new().name("mqtt-relay".to_owned()).spawn(move || own.run(listener, &route))?;
        Ok(relay)
    }

    /// Returns the URI for paho.
    pub(super) fn uri(&self) -> String {
        format!("tcp://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Whether the broker accepted a connection, or why not.
    pub(super) fn reachable(&self) -> Result<(), String> {
        match &*self.progress() {
            RelayProgress::Dialling => Err("the broker did not answer in time".to_owned()),
            RelayProgress::Failed(reason) => Err(reason.clone()),
            RelayProgress::Connected | RelayProgress::Ended(_) => Ok(()),
        }
    }

    /// Returns why the connection ended, if the relay knows.
    pub(super) fn end_reason(&self) -> Option<String> {
        match &*self.progress() {
            RelayProgress::Ended(reason) => reason.clone(),
            _ => None,
        }
    }

    /// Whether the broker has answered a ping of paho within `time`.
    pub(super) fn has_answered_ping_within(&self, time: Duration) -> bool {
        self.last_ping.is_within(time)
    }

    /// Passes on no further packets to paho, except a last message that [`Token::is_end`] recognises.
    pub(super) fn end_download(&self) {
        self.download_end.notify_one();
    }

    /// Whether the relay has closed both connections, and has passed on all packets of the client if the broker took
    /// them.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn progress(&self) -> MutexGuard<'_, RelayProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, listener: StdTcpListener, route: &Arc<RelayRoute>) {
        self.serve(listener, route);
        self.is_closed.store(true, Ordering::Release);
        route.on_closed.wake_by_ref();
    }

    fn serve(&self, listener: StdTcpListener, route: &Arc<RelayRoute>) {
        let messages = MessageCount::default();
        let runtime = match runtime(Coalescing::new(messages.clone(), Instant::now())) {
            Ok(runtime) => runtime,
            Err(error) => return *self.progress() = RelayProgress::Failed(error.to_string()),
        };
        runtime.block_on(self.carry(listener, route, messages));
        // A DNS lookup may block for longer than the relay lives.
        runtime.shutdown_background();
    }

    async fn carry(&self, listener: StdTcpListener, route: &Arc<RelayRoute>, messages: MessageCount) {
        let broker = match dial(&route.server).await {
            Ok(broker) => broker,
            Err(reason) => return *self.progress() = RelayProgress::Failed(reason),
        };
        *self.progress() = RelayProgress::Connected;
        let (client, connect) = match timeout(CLIENT_TIMEOUT, await_client(listener, route)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return *self.progress() = RelayProgress::Failed(error.to_string()),
            Err(_) => {
                return *self.progress() =
                    RelayProgress::Failed("the MQTT client did not connect".to_owned());
            }
        };
        let (token, last_ping) = (route.token.clone(), self.last_ping.clone());
        let mut filter = Filter::new(route.version, token, route.max_payload_bytes, messages, last_ping);
        let mut pump = Pump::new(client, broker);
        let download_end =
            DownloadEnd { asked: &self.download_end, packet: route.token.end_packet(route.version) };
        let end = pump.run(&connect, &mut filter, &download_end).await;
        // Stored before paho notices the end and asks for the cause.
        *self.progress() = progress_after(&end, filter.is_connected(), &route.server);
        pump.close(&end).await;
    }
}

/// The relay thread has no other work, so it may sleep while both directions accumulate.
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

fn progress_after(end: &ConnectionEnd, is_connected: bool, server: &Broker) -> RelayProgress {
    match end {
        ConnectionEnd::Malformed(problem) => {
            RelayProgress::Ended(Some(format!("the broker sent an invalid packet: {problem}")))
        }
        // A broker may refuse the client certificate after the handshake.
        ConnectionEnd::Broker(_) if !is_connected && server.tls.is_some() => {
            probe(server).map_or_else(RelayProgress::Failed, |()| RelayProgress::Ended(None))
        }
        ConnectionEnd::Broker(Some(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            RelayProgress::Ended(Some(error.to_string()))
        }
        ConnectionEnd::Client | ConnectionEnd::Broker(_) => RelayProgress::Ended(None),
    }
}

/// Waits for the connection that starts with the token, and closes all others.
async fn await_client(listener: StdTcpListener, route: &Arc<RelayRoute>) -> io::Result<(TcpStream, Vec<u8>)> {
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

/// Reads CONNECT. Returns the connection and the first bytes for the broker, or `None` for a foreign client.
async fn read_start(mut stream: TcpStream, route: Arc<RelayRoute>) -> Option<(TcpStream, Vec<u8>)> {
    stream.set_nodelay(true).ok()?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(chunk.get(..count)?);
        match parse_start(&bytes, &route.token, &route.credentials) {
            FirstPacket::Incomplete => {}
            FirstPacket::Foreign => return None,
            FirstPacket::Connect(mut packet, used) => {
                packet.extend_from_slice(bytes.get(used..)?);
                return Some((stream, packet));
            }
        }
    }
}

//! The embedded broker with two listeners on the loopback interface, since each `rumqttd` port speaks one
//! version of MQTT. The gateway uses version 5. The first port is for command-line clients, which use 3.1.1 by
//! default.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Default port of MQTT brokers.
const DEFAULT_PORT: u16 = 1883;

/// Number of ports tried after the first one.
const PORTS_TRIED: u16 = 100;

/// Maximum time to open the ports, which normally takes milliseconds.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Larger than the gateway's own limit, so that this limit takes effect.
const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// Segment size of the in-memory queue of a topic. When the maximum number of segments is reached, the oldest
/// messages are dropped, even if undelivered.
const SEGMENT_BYTES: usize = 1024 * 1024;

/// A failure to start the broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    #[error(
        "port {port} of 127.0.0.1 cannot be used for the broker: {source}; choose another one with --port"
    )]
    Port { port: u16, source: io::Error },
    #[error(
        "no port of 127.0.0.1 from {from} to {to} is free for the broker; choose another one with --port"
    )]
    NoPort { from: u16, to: u16 },
    #[error("the broker does not listen on port {port} of 127.0.0.1")]
    Silent { port: u16 },
    #[error("the broker's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("cannot connect to the broker: {0}")]
    Link(Box<LinkError>),
}

/// Ports of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// MQTT 3.1.1.
    pub(crate) v4: u16,
    /// MQTT 5.
    pub(crate) v5: u16,
}

impl Ports {
    /// Chooses two free ports. The first is `wanted` (0: any), or the first free one from the default port on.
    fn choose(wanted: Option<u16>) -> Result<Self, BrokerError> {
        let first = match wanted {
            Some(port) => listen(port).map_err(|source| BrokerError::Port { port, source })?,
            None => first_free(DEFAULT_PORT)?,
        };
        let v4 = port_of(&first)?;
        // The first listener stays open, so that the ports differ.
        let second = match wanted {
            Some(0) => listen(0).map_err(|source| BrokerError::Port { port: 0, source })?,
            _ => first_free(v4.saturating_add(1))?,
        };
        Ok(Self { v4, v5: port_of(&second)? })
    }
}

fn first_free(from: u16) -> Result<TcpListener, BrokerError> {
    let last = from.saturating_add(PORTS_TRIED);
    (from..=last).find_map(|port| listen(port).ok()).ok_or(BrokerError::NoPort { from, to: last })
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(loopback(port))
}

fn port_of(listener: &TcpListener) -> io::Result<u16> {
    Ok(listener.local_addr()?.port())
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Both ends of an in-process connection to the broker.
pub(crate) type Link = (LinkTx, LinkRx);

/// The broker before its start.
pub(crate) struct EmbeddedBroker {
    broker: Broker,
    ports: Ports,
    /// Held until the ports are open, so that no other process of this program chooses them, too. Both would then use
    /// the broker of the first.
    _choosing: Option<File>,
}

impl EmbeddedBroker {
    /// Creates a broker that keeps this many mebibytes of messages per topic. See [`Ports::choose`] for `port`.
    pub(crate) fn new(port: Option<u16>, mebibytes_per_topic: usize) -> Result<Self, BrokerError> {
        let choosing = lock_of_program();
        let ports = Ports::choose(port)?;
        Ok(Self { broker: Broker::new(config(ports, mebibytes_per_topic)), ports, _choosing: choosing })
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// Connects an in-process client.
    pub(crate) fn link(&mut self, client_id: &str) -> Result<Link, BrokerError> {
        self.broker.link(client_id).map_err(|error| BrokerError::Link(error.into()))
    }

    /// Opens the ports. The broker runs until the process ends.
    pub(crate) fn start(self) -> Result<(), BrokerError> {
        let mut broker = self.broker;
        thread::Builder::new().name("embedded-broker".to_owned()).spawn(move || {
            if let Err(error) = broker.start() {
                log::error!("The embedded broker failed: {error}");
            }
        })?;
        [self.ports.v4, self.ports.v5].into_iter().try_for_each(wait_until_open)
    }
}

/// Waits for the lock that the processes of this program share. None if it is held for too long, or where the file
/// system has no locks.
fn lock_of_program() -> Option<File> {
    let program = File::open(env::current_exe().ok()?).ok()?;
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        match program.try_lock() {
            Ok(()) => return Some(program),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
}

/// Polls the port, because the broker does not report when it listens.
fn wait_until_open(port: u16) -> Result<(), BrokerError> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    while TcpStream::connect(loopback(port)).is_err() {
        if Instant::now() >= deadline {
            return Err(BrokerError::Silent { port });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn config(ports: Ports, segments: usize) -> Config {
    let listener = |name: &str, port| {
        let settings = ServerSettings {
            name: name.to_owned(),
            listen: loopback(port),
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 5_000,
                max_payload_size: MAX_PAYLOAD_BYTES,
                max_inflight_count: 100,
                auth: None,
                external_auth: None,
                dynamic_filters: true,
            },
        };
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: segments,
            ..RouterConfig::default()
        },
        v4: listener("embedded-mqtt-3.1.1", ports.v4),
        v5: listener("embedded-mqtt-5", ports.v5),
        ..Config::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn free_ports_differ() {
        let ports = Ports::choose(Some(0)).unwrap();
        assert!(ports.v4 > 0 && ports.v5 > 0 && ports.v4 != ports.v5, "{ports:?}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = listen(0).unwrap();
        let port = port_of(&taken).unwrap();
        let error = Ports::choose(Some(port)).unwrap_err();
        assert!(error.to_string().contains(&format!("port {port} ")), "{error}");
    }

    #[test]
    fn range_without_a_free_port_is_named() {
        let _taken = listen(u16::MAX);
        let error = first_free(u16::MAX).unwrap_err();
        assert!(error.to_string().contains("from 65535 to 65535"), "{error}");
    }

    #[test]
    fn brokers_that_start_at_once_have_ports_of_their_own() {
        let start = |_| {
            thread::spawn(|| {
                let broker = EmbeddedBroker::new(None, 1).unwrap();
                let ports = broker.ports();
                broker.start().unwrap();
                [ports.v4, ports.v5]
            })
        };
        let starting: Vec<_> = (0..4).map(start).collect();
        let ports: HashSet<u16> = starting.into_iter().flat_map(|broker| broker.join().unwrap()).collect();
        assert_eq!(ports.len(), 8, "{ports:?}");
    }

    #[test]
    fn taken_ports_are_skipped() {
        let taken = listen(0).unwrap();
        let port = port_of(&taken).unwrap();
        assert!(port_of(&first_free(port).unwrap()).unwrap() > port);
    }
}

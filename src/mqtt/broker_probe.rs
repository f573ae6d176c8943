//! Probes a broker without MQTT: TCP, and TLS if configured.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::tls_probe;
use crate::domain::broker::Broker;

/// Short, because the probe runs only after a failed connection attempt.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a TCP connection and closes it. Fails with the error of the last address.
pub(super) fn probe_tcp(host: &str, port: u16) -> io::Result<()> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Returns why the broker is unreachable, as far as TCP and TLS show. Blocks for some seconds at most, apart from the
/// DNS lookup.
pub(super) fn probe(server: &Broker) -> Result<(), String> {
    probe_tcp(&server.host, server.port).map_err(|error| error.to_string())?;
    match &server.tls {
        Some(files) => tls_probe::handshake(server, files).map(|_| ()),
        None => Ok(()),
    }
}

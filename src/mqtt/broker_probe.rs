//! Does anybody listen there at all, and what is wrong with TLS?

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::server::BrokerServer;
use super::tls_probe;

/// Short, for it runs only where an attempt to connect has just failed.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a TCP connection and closes it. The error is that of the last address tried.
pub(super) fn somebody_listens(host: &str, port: u16) -> io::Result<()> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Why the broker cannot be reached, as far as can be told without MQTT. Takes some seconds at most, but for the
/// look-up of the name.
pub(super) fn look(server: &BrokerServer) -> Result<(), String> {
    somebody_listens(&server.host, server.port).map_err(|error| error.to_string())?;
    match &server.tls {
        Some(files) => tls_probe::handshake(server, files).map(|_| ()),
        None => Ok(()),
    }
}

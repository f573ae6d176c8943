//! TCP connections that block, with a short timeout.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Short, because connections are opened here only after paho has failed.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a TCP connection. Fails with the error of the last address.
pub(super) fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => error = e,
        }
    }
    Err(error)
}

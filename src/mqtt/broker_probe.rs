//! Asks the operating system what paho does not tell: does anybody listen there at all?

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

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

//! Loopback ports.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// For servers that speak first.
pub fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

//! Loopback ports.

use std::net::{SocketAddr, TcpListener, TcpStream};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

//! Loopback ports.

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A port that was free a moment ago. It is below those of outgoing connections, one of which could take it meanwhile.
pub fn free_port() -> u16 {
    let any = || 10_000 + u16::try_from(RandomState::new().hash_one(0) % 20_000).unwrap();
    iter::repeat_with(any).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
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

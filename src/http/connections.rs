//! Limits on the number and age of connections.
//!
//! The HTTP server closes idle connections and those with an incomplete head. It would wait forever for a client that
//! does not read its response. Every connection is therefore closed at a maximum age, and the oldest ones earlier if
//! too many are open. A new probe is thus always served. The connection limit of the HTTP server alone would make
//! the probe wait for older connections.
//!
//! A connection with a token may last longer: its requests may take long, and events have no end. The operating system
//! closes it if its client does not read.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::Extensions;
use rustix::net::sockopt::set_tcp_user_timeout;

/// Maximum age of a connection.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);

/// Maximum open connections. A further one closes the oldest.
const MAX_KEPT: u16 = 128;

/// Maximum time for which a client accepts no data, in milliseconds.
const STALLED_TIMEOUT_MS: u32 = 60_000;

/// Maximum connections with a token. A further one ends as those without.
const MAX_TRUSTED: usize = 64;

/// Maximum accepted connections, including those being closed in favour of newer ones.
pub(super) const MAX_CONNECTIONS: u16 = 2 * MAX_KEPT;

/// All open connections, by id.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Sockets by id, oldest first.
    sockets: BTreeMap<u64, OpenSocket>,
}

#[derive(Debug)]
struct OpenSocket {
    since: Instant,
    socket: TcpStream,
    is_trusted: bool,
}

/// Guard held by a connection. Dropping it unregisters the connection.
pub(super) struct ConnectionGuard {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// Registers a new connection.
    pub(super) fn register(&self, connection: &dyn Any, data: &mut Extensions) {
        let socket = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
        // A response is sent in pieces, which must not wait for acknowledgements. A failure only makes it slower.
        let _ = socket.map(|socket| socket.set_nodelay(true));
        // A failure leaves such a client to the other limits.
        let _ = socket.map(|socket| set_tcp_user_timeout(socket, STALLED_TIMEOUT_MS));
        // The timeouts of the HTTP server still apply to a connection that cannot be registered.
        let Some(Ok(socket)) = socket.map(|socket| socket.as_fd().try_clone_to_owned()) else { return };
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let socket = TcpStream::from(socket);
        open.sockets.insert(number, OpenSocket { since: Instant::now(), socket, is_trusted: false });
        open.close_oldest_beyond(usize::from(MAX_KEPT));
        drop(open);
        data.insert(ConnectionGuard { connections: self.clone(), number });
    }

    /// Closes all connections that are older than the maximum age at `now`.
    pub(super) fn close_expired(&self, now: Instant) {
        for OpenSocket { since, socket, .. } in self.open().untrusted() {
            if now.saturating_duration_since(*since) > MAX_AGE {
                close(socket);
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn close_oldest_beyond(&self, kept: usize) {
        let too_many = self.sockets.len().saturating_sub(kept);
        self.untrusted().take(too_many).for_each(|open| close(&open.socket));
    }

    fn untrusted(&self) -> impl Iterator<Item = &OpenSocket> {
        self.sockets.values().filter(|open| !open.is_trusted)
    }
}

fn close(socket: &TcpStream) {
    // The peer may have closed the connection already.
    let _ = socket.shutdown(Shutdown::Both);
}

/// Trusts a connection during the check of its token, which takes long if the database does, and afterwards if the
/// check succeeds.
pub(super) async fn trust_if<T, E>(
    connection: Option<&ConnectionGuard>,
    check: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if let Some(connection) = connection {
        connection.trust();
    }
    let checked = check.await;
    if let Some(connection) = connection.filter(|_| checked.is_err()) {
        connection.distrust();
    }
    checked
}

impl ConnectionGuard {
    /// Lets the connection become older.
    fn trust(&self) {
        let mut open = self.connections.open();
        let trusted = open.sockets.values().filter(|open| open.is_trusted).count();
        if let Some(socket) = open.sockets.get_mut(&self.number).filter(|_| trusted < MAX_TRUSTED) {
            socket.is_trusted = true;
        }
    }

    fn distrust(&self) {
        if let Some(socket) = self.connections.open().sockets.get_mut(&self.number) {
            socket.is_trusted = false;
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open().sockets.remove(&self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn expired_connection_is_closed_and_unregistered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        let connections = Connections::default();
        let mut data = Extensions::new();
        actix_web::rt::System::new().block_on(async {
            let server = actix_web::rt::net::TcpStream::from_std(server).unwrap();
            connections.register(&server, &mut data);
            connections.close_expired(Instant::now());
            connections.close_expired(Instant::now() + MAX_AGE + Duration::from_secs(1));
        });
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(data);
        assert!(connections.open().sockets.is_empty());
    }

    /// Whether a connection is open after its maximum age, during the check of its token and after it.
    fn is_open_at_check(checked: Result<(), ()>) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        let connections = Connections::default();
        let mut data = Extensions::new();
        actix_web::rt::System::new().block_on(async {
            let server = actix_web::rt::net::TcpStream::from_std(server).unwrap();
            connections.register(&server, &mut data);
            let mut is_open = || {
                connections.close_expired(Instant::now() + MAX_AGE + Duration::from_secs(1));
                connections.open().close_oldest_beyond(0);
                client.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            };
            let mut during = false;
            let check = async {
                during = is_open();
                checked
            };
            assert_eq!(trust_if(data.get::<ConnectionGuard>(), check).await, checked);
            (during, is_open())
        })
    }

    #[test]
    fn connection_lasts_while_its_token_is_checked() {
        assert_eq!(is_open_at_check(Ok(())), (true, true));
        assert_eq!(is_open_at_check(Err(())), (true, false));
    }

    #[test]
    fn excess_connection_closes_only_the_oldest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connections = Connections::default();
        let mut data: Vec<Extensions> = Vec::new();
        let mut clients = Vec::new();
        actix_web::rt::System::new().block_on(async {
            for _ in 0..=MAX_KEPT {
                clients.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
                let server = listener.accept().unwrap().0;
                server.set_nonblocking(true).unwrap();
                let server = actix_web::rt::net::TcpStream::from_std(server).unwrap();
                let mut own = Extensions::new();
                connections.register(&server, &mut own);
                data.push(own);
            }
        });
        let ended = |client: &mut TcpStream| {
            client.set_nonblocking(true).unwrap();
            client.read(&mut [0]).is_ok_and(|read| read == 0)
        };
        let ended: Vec<bool> = clients.iter_mut().map(ended).collect();
        assert!(ended[0] && !ended[1..].contains(&true), "{ended:?}");
    }
}

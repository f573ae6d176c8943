//! The connections that there are, so that none lives for long, and who comes now is served.
//!
//! The server closes those that send nothing, or not a whole head in time. It would wait for ever
//! for one that does not read its answer: so every connection is shut down at a certain age, and the
//! oldest before that when there are too many. A probe that comes last is answered first; behind the server's own
//! bound on connections it would wait for those that came before.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::Extensions;

/// How long a connection may live.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);

/// So many are kept; a newer one ends the oldest.
const MAX_KEPT: u16 = 128;

/// Connections at a time, those included that are being ended in favour of newer ones; more are not accepted meanwhile.
pub(super) const MAX_CONNECTIONS: u16 = 2 * MAX_KEPT;

/// All connections, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// In the order in which they came.
    sockets: BTreeMap<u64, (Instant, TcpStream)>,
}

/// Held by a connection as long as it lives.
struct Entry {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// Notes a new connection.
    pub(super) fn register(&self, connection: &dyn Any, data: &mut Extensions) {
        let socket = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
        // An answer goes out in pieces, and none shall wait until the peer has acknowledged the one before: without it an
        // answer is only slower.
        let _ = socket.map(|socket| socket.set_nodelay(true));
        // One that cannot be noted is closed by the server in its own time.
        let Some(Ok(socket)) = socket.map(|socket| socket.as_fd().try_clone_to_owned()) else { return };
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.sockets.insert(number, (Instant::now(), TcpStream::from(socket)));
        open.close_oldest_beyond(usize::from(MAX_KEPT));
        drop(open);
        data.insert(Entry { connections: self.clone(), number });
    }

    /// Shuts down whatever was there at `now` for longer than its time.
    pub(super) fn close_expired(&self, now: Instant) {
        for (since, socket) in self.open().sockets.values() {
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
        self.sockets.values().take(too_many).for_each(|(_, socket)| close(socket));
    }
}

fn close(socket: &TcpStream) {
    // Its peer may have been quicker.
    let _ = socket.shutdown(Shutdown::Both);
}

impl Drop for Entry {
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
    fn an_old_connection_is_ended_and_one_that_is_over_is_forgotten() {
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

    #[test]
    fn one_too_many_ends_the_oldest_and_no_other() {
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

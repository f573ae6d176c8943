//! An HTTP server on a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use actix_web::dev::{Server, ServerHandle};

/// The server and its thread.
#[derive(Debug)]
pub(crate) struct HttpThread {
    address: SocketAddr,
    server: ServerHandle,
    thread: JoinHandle<()>,
}

impl HttpThread {
    /// Starts the server that `serve` makes to listen at `listener`, on a thread of this name.
    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        serve: impl FnOnce(TcpListener) -> io::Result<Server> + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (hand_out, server) = channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = actix_web::rt::System::new().block_on(async move {
                let server = serve(listener)?;
                // Who started it waits for it.
                let _ = hand_out.send(server.handle());
                server.await
            });
            if let Err(error) = outcome {
                log::error!("The HTTP server {name} failed: {error}");
            }
        })?;
        let server = server.recv().map_err(|_| io::Error::other("its server did not start"))?;
        Ok(Self { address, server, thread })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server and waits for its thread.
    pub(crate) fn end(self) {
        // The order is given at once; its future would only tell when it is carried out.
        drop(self.server.stop(true));
        let _ = self.thread.join();
    }
}

//! HTTP server on a dedicated thread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use actix_web::dev::{Server, ServerHandle};
#[cfg(feature = "tools")]
use actix_web::{App, HttpServer, web::ServiceConfig};

/// Time for open requests to complete at shutdown, in seconds.
#[cfg(feature = "tools")]
const SHUTDOWN_S: u64 = 1;

/// A running HTTP server and its thread.
#[derive(Debug)]
pub(crate) struct HttpThread {
    address: SocketAddr,
    server: ServerHandle,
    thread: JoinHandle<()>,
}

impl HttpThread {
    /// Starts a thread called `name`, and runs the server that `serve` creates for `listener`.
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
                // The receiver waits for the handle, so sending cannot fail.
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

    /// Starts a thread called `name` that serves the routes of `configure`.
    #[cfg(feature = "tools")]
    pub(crate) fn start_routes(
        name: &'static str,
        listener: TcpListener,
        configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        Self::start(name, listener, |listener| {
            let server = HttpServer::new(move || App::new().configure(configure.clone()));
            // The process handles the signals.
            Ok(server.workers(1).disable_signals().shutdown_timeout(SHUTDOWN_S).listen(listener)?.run())
        })
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server and waits for its thread.
    pub(crate) fn end(self) {
        // The call itself stops the server. Its future would only report completion.
        drop(self.server.stop(true));
        let _ = self.thread.join();
    }
}

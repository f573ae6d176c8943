//! The way to an origin: how a connection to it is made.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::{AnswerStream, Wire};

/// Where a connection goes, and what it goes through.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For `https`.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Route {
    /// Makes a connection.
    pub(super) async fn connect(&self) -> io::Result<AnswerStream> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A request goes out in pieces, and none shall wait until the one before is acknowledged. Without it a post is
        // only slower.
        let _ = socket.set_nodelay(true);
        let wire: Box<dyn Wire> = match &self.tls {
            Some(config) => Box::new(with_tls(self.host.clone(), Arc::clone(config), socket).await?),
            None => Box::new(socket),
        };
        Ok(AnswerStream::new(wire))
    }
}

async fn with_tls<W: Wire>(host: String, config: Arc<ClientConfig>, wire: W) -> io::Result<impl Wire> {
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, wire).await
}

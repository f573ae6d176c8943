//! Connects to an origin, directly or through a proxy.
//!
//! ```text
//!  http                TCP ─▶ endpoint
//!  https               TCP ─▶ TLS ─▶ endpoint
//!  http by a proxy     TCP ─▶ proxy, which receives the whole URL
//!  https by a proxy    TCP ─▶ proxy ─▶ CONNECT ─▶ TLS ─▶ endpoint
//! ```

use std::io;
use std::sync::Arc;

use awc::http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::answer::HeadReader;
use super::dial::{System, check_behind_proxy, dial};
use super::stream::{AnswerStream, Wire};
use crate::domain::posting::address_guard::EndpointNetworks;

/// Buffer size for reading a proxy's response.
const PIECE_BYTES: usize = 1024;

/// The destination of a connection and the proxy on the way.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) endpoint: Hop,
    pub(super) proxy: Option<Hop>,
    /// The header `Proxy-Authorization` for CONNECT.
    pub(super) proxy_authorization: Option<String>,
    /// The networks in which the endpoint may be.
    pub(super) networks: Arc<EndpointNetworks>,
}

/// One end of a connection.
#[derive(Clone)]
pub(super) struct Hop {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS configuration, if this hop uses TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Route {
    /// Makes a connection.
    pub(super) async fn connect(&self) -> io::Result<AnswerStream> {
        let endpoint = &self.endpoint;
        let wire = match &self.proxy {
            None => endpoint.secure(endpoint.open(&self.networks).await?).await?,
            Some(proxy) => {
                check_behind_proxy(&self.networks, &endpoint.host)?;
                let wire = self.reach(proxy).await.map_err(|error| proxy_error(proxy, &error))?;
                endpoint.secure(wire).await?
            }
        };
        Ok(AnswerStream::new(wire))
    }

    /// Connects to the proxy and, for `https`, through it to the endpoint.
    async fn reach(&self, proxy: &Hop) -> io::Result<Box<dyn Wire>> {
        let mut wire = proxy.secure(proxy.open(&EndpointNetworks::All).await?).await?;
        if self.endpoint.tls.is_some() {
            self.ask_for_tunnel(&mut wire).await?;
        }
        Ok(wire)
    }

    async fn ask_for_tunnel(&self, wire: &mut Box<dyn Wire>) -> io::Result<()> {
        let Hop { host, port, .. } = &self.endpoint;
        let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authorization = self.proxy_authorization.as_deref().unwrap_or_default();
        let authorization = match authorization {
            "" => String::new(),
            words => format!("Proxy-Authorization: {words}\r\n"),
        };
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n");
        wire.write_all(request.as_bytes()).await?;
        wire.flush().await?;
        let mut reader = HeadReader::default();
        loop {
            let mut piece = [0; PIECE_BYTES];
            let count = wire.read(&mut piece).await?;
            let mut bytes = piece.get(..count).filter(|bytes| !bytes.is_empty()).ok_or_else(closed)?;
            if let Some(head) = reader.read(&mut bytes).map_err(io::Error::other)? {
                let is_open = StatusCode::from_u16(head.status).is_ok_and(|status| status.is_success());
                // An endpoint sends nothing before the TLS handshake, so further bytes are an error.
                return if is_open && bytes.is_empty() { Ok(()) } else { Err(refused(head.status)) };
            }
        }
    }
}

impl Hop {
    async fn open(&self, networks: &EndpointNetworks) -> io::Result<Box<dyn Wire>> {
        dial(&System, networks, &self.host, self.port).await
    }

    async fn secure(&self, wire: Box<dyn Wire>) -> io::Result<Box<dyn Wire>> {
        let Some(config) = &self.tls else {
            return Ok(wire);
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, wire).await?))
    }
}

fn proxy_error(proxy: &Hop, error: &io::Error) -> io::Error {
    io::Error::other(format!("proxy {}:{}: {error}", proxy.host, proxy.port))
}

fn closed() -> io::Error {
    io::Error::other("it closed the connection without an answer to CONNECT")
}

fn refused(status: u16) -> io::Error {
    io::Error::other(format!("it answered CONNECT with HTTP status {status}"))
}

//! The way to an origin: how a connection to it is made.
//!
//! ```text
//!  http                TCP ─▶ endpoint
//!  https               TCP ─▶ TLS ─▶ endpoint
//!  http by a proxy     TCP ─▶ proxy, which is asked for the whole URL
//!  https by a proxy    TCP ─▶ proxy ─▶ CONNECT ─▶ TLS ─▶ endpoint
//! ```

use std::io;
use std::sync::Arc;

use awc::http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::HeadReader;
use super::stream::{AnswerStream, Wire};

/// Bytes of a proxy's answer that are read at a time.
const PIECE_BYTES: usize = 1024;

/// Where a connection goes, and what it goes through.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) endpoint: Hop,
    pub(super) proxy: Option<Hop>,
    /// What is said to the proxy on behalf of the user, for CONNECT.
    pub(super) proxy_authorization: Option<String>,
}

/// One end of a connection.
#[derive(Clone)]
pub(super) struct Hop {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Where it is spoken to by TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Route {
    /// Makes a connection.
    pub(super) async fn connect(&self) -> io::Result<AnswerStream> {
        let endpoint = &self.endpoint;
        let wire = match &self.proxy {
            None => endpoint.secure(endpoint.open().await?).await?,
            Some(proxy) => {
                let wire = self.reach(proxy).await.map_err(|error| of_proxy(proxy, &error))?;
                endpoint.secure(wire).await?
            }
        };
        Ok(AnswerStream::new(wire))
    }

    /// Connects to the proxy; for `https`, by it to the endpoint.
    async fn reach(&self, proxy: &Hop) -> io::Result<Box<dyn Wire>> {
        let mut wire = proxy.secure(proxy.open().await?).await?;
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
                // The endpoint says nothing before it was greeted.
                return if is_open && bytes.is_empty() { Ok(()) } else { Err(refused(head.status)) };
            }
        }
    }
}

impl Hop {
    async fn open(&self) -> io::Result<Box<dyn Wire>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A request goes out in pieces, and none shall wait until the one before is acknowledged. Without it a post is
        // only slower.
        let _ = socket.set_nodelay(true);
        Ok(Box::new(socket))
    }

    async fn secure(&self, wire: Box<dyn Wire>) -> io::Result<Box<dyn Wire>> {
        let Some(config) = &self.tls else {
            return Ok(wire);
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, wire).await?))
    }
}

fn of_proxy(proxy: &Hop, error: &io::Error) -> io::Error {
    io::Error::other(format!("proxy {}:{}: {error}", proxy.host, proxy.port))
}

fn closed() -> io::Error {
    io::Error::other("it closed the connection without an answer to CONNECT")
}

fn refused(status: u16) -> io::Error {
    io::Error::other(format!("it answered CONNECT with HTTP status {status}"))
}

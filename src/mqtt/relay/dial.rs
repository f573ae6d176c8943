//! Connects to the broker: TCP, and TLS with rustls.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::tls_probe::{client_config, handshake, server_name};
use crate::domain::broker::{Broker, TlsFiles};

/// Timeout per address and for the TLS handshake. The sum with CONNACK stays below the timeout of paho.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Plain or encrypted connection to a broker.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Connects, or returns the cause of the failure.
pub(super) async fn dial(server: &Broker) -> Result<Box<dyn Stream>, String> {
    let stream = connect(&server.host, server.port).await.map_err(|error| error.to_string())?;
    // Acknowledgements are small, and the broker waits for them.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    match &server.tls {
        None => Ok(Box::new(stream)),
        Some(files) => encrypt(stream, server, files).await,
    }
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut error = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => error = e,
            Err(_) => error = io::Error::new(ErrorKind::TimedOut, "connection timed out"),
        }
    }
    Err(error)
}

async fn encrypt(stream: TcpStream, server: &Broker, files: &TlsFiles) -> Result<Box<dyn Stream>, String> {
    let material = files.read(Utc::now().timestamp()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(client_config(material)?));
    let name: ServerName<'static> = server_name(server)?;
    match timeout(TIMEOUT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(explain(server, &error)),
        Err(_) => Err(explain(server, &io::Error::from(ErrorKind::TimedOut))),
    }
}

/// Repeats the handshake step by step, which shows the cause more precisely than `error`.
pub(super) fn explain(server: &Broker, error: &io::Error) -> String {
    let Some(files) = &server.tls else { return error.to_string() };
    handshake(server, files).err().unwrap_or_else(|| format!("the TLS connection failed: {error}"))
}

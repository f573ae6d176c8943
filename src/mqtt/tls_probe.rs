//! TLS client configuration, and a handshake that explains failures.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, ProtocolVersion, RootCertStore,
};

use super::certificate::{Certificate, format_time};
use super::tcp::{self, TIMEOUT};
use super::tls_files::TlsMaterial;
use crate::domain::broker::{Broker, TlsFiles};

/// Wait for a late alert: a TLS 1.3 handshake ends before the broker has verified the client certificate.
const ALERT_WAIT: Duration = Duration::from_secs(1);

/// Performs a handshake with the broker. Returns its certificate, or the cause of the failure.
pub(super) fn handshake(server: &Broker, files: &TlsFiles) -> Result<Certificate, String> {
    let material = files.read(Utc::now().timestamp()).map_err(|error| error.to_string())?;
    let has_certificate = material.client.is_some();
    let config = client_config(material)?;
    let name = server_name(server)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut stream = tcp::connect(&server.host, server.port)
        .and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        })
        .map_err(|error| error.to_string())?;
    let outcome =
        shake_hands(&mut connection, &mut stream).and_then(|()| await_alert(&mut connection, &mut stream));
    let own = connection.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
    let certificate = own.map(|der| Certificate::parse(der));
    match outcome {
        Ok(()) => certificate.unwrap_or_else(|| Err("the broker showed no certificate".to_owned())),
        Err(error) => Err(explain(&error, server, files, has_certificate, certificate.is_some())),
    }
}

/// Returns the name that the certificate of the broker must contain.
pub(super) fn server_name(server: &Broker) -> Result<ServerName<'static>, String> {
    ServerName::try_from(server.host.clone()).map_err(|_| {
        format!("{:?} is neither a host name nor an address, so no certificate can match it", server.host)
    })
}

/// Builds the configuration from trusted authorities and the client certificate.
pub(super) fn client_config(material: TlsMaterial) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if material.authorities.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(
                "ca_file is NULL, and this system has no root certificates: set ca_file, or install \
                        ca-certificates"
                    .to_owned(),
            );
        }
    } else {
        roots.add_parsable_certificates(material.authorities);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match material.client {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("unusable client certificate or key: {error}")),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Handshakes step by step with a deadline. The loop of the library has none, so a slow peer could block it.
fn shake_hands(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        while connection.wants_write() {
            connection.write_tls(stream)?;
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        if deadline <= Instant::now() {
            return Err(ErrorKind::TimedOut.into());
        }
        receive(connection, stream)?;
    }
}

/// Reads and processes the received bytes.
fn receive(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    if connection.read_tls(stream)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let taken = connection.process_new_packets();
    if taken.is_err() {
        // Sends the alert that explains the error to the peer, if possible.
        let _ = connection.write_tls(stream);
    }
    taken.map(|_| ()).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Waits for a session ticket, which signals success, or for an alert. A timeout is no refusal.
fn await_alert(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + ALERT_WAIT;
    stream.set_read_timeout(Some(ALERT_WAIT))?;
    while connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && connection.tls13_tickets_received() == 0
        && Instant::now() < deadline
    {
        match receive(connection, stream) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn explain(
    error: &io::Error,
    server: &Broker,
    files: &TlsFiles,
    has_certificate: bool,
    was_shown_one: bool,
) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(problem)) => describe_certificate_error(problem, &server.host, files),
        Some(Error::AlertReceived(alert)) => describe_alert(*alert, has_certificate),
        Some(Error::InvalidMessage(_)) => describe_missing_tls(server.port),
        Some(other) => format!("the TLS handshake failed: {other}"),
        None if is_end(error) && was_shown_one => {
            describe_refusal("it closed the connection", has_certificate)
        }
        None if is_end(error) => describe_missing_tls(server.port),
        None => format!("the TLS handshake failed: {error}"),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn describe_missing_tls(port: u16) -> String {
    format!(
        "the server does not speak TLS: set `tls` to false, or `port` ({port}) to the one with TLS, usually 8883"
    )
}

fn describe_certificate_error(problem: &CertificateError, host: &str, files: &TlsFiles) -> String {
    match problem {
        CertificateError::Expired => "the broker's certificate has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            let at = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            format!("the broker's certificate has expired on {}", format_time(at))
        }
        // For a bad signature, the issuer has the name of a known authority but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "wrong CA: the broker's certificate is not issued by any of the certificate authorities {}",
            files.trusted()
        ),
        CertificateError::NotValidForName => {
            format!("wrong name: the broker's certificate is not for {host}")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| strip_kind(name)).collect();
            format!("wrong name: the broker's certificate is not for {host} but for {}", names.join(", "))
        }
        other => format!("the broker's certificate is not accepted: {other}"),
    }
}

/// Strips the type from `DnsName("a.example")` and `IpAddress(::1)`.
fn strip_kind(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn describe_alert(alert: AlertDescription, has_certificate: bool) -> String {
    let said = format!("alert {alert:?}");
    match alert {
        // TLS 1.2 sends this for a missing certificate, among other causes.
        AlertDescription::HandshakeFailure => format!(
            "the broker ended the TLS handshake: {said}; it may require {} client certificate",
            if has_certificate { "another" } else { "a" }
        ),
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => describe_refusal(&said, has_certificate),
        _ => format!("the broker ended the TLS handshake: {said}"),
    }
}

fn describe_refusal(said: &str, has_certificate: bool) -> String {
    if has_certificate {
        format!("the broker refused the client certificate: {said}")
    } else {
        format!("the broker requires a client certificate, and client_cert_file is NULL: {said}")
    }
}

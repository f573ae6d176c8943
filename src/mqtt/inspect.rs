//! Describes the certificates of a connection for `check`.

use chrono::Utc;

use super::certificate::{Certificate, format_time};
use super::tls_probe::handshake;
use crate::domain::broker::Broker;

/// Remaining validity that triggers a warning: 30 days, in seconds.
const WARNING_SECONDS: i64 = 30 * 24 * 3600;

/// Certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Owner, names and end of validity.
    pub description: String,
    /// Whether the certificate expires within 30 days.
    pub expires_soon: bool,
}

/// Returns the certificate of the broker and, if configured, the client certificate. Without TLS the list is empty.
///
/// Blocks for some seconds at most. Fails with the cause of a failed handshake.
pub fn certificates(server: &Broker) -> Result<Vec<CertificateSummary>, String> {
    let Some(files) = &server.tls else { return Ok(Vec::new()) };
    let now = Utc::now().timestamp();
    let theirs = handshake(server, files)?;
    let mut found =
        vec![summarize(&format!("its certificate is for {}", theirs.listed_names()), &theirs, now)];
    let material = files.read(now).map_err(|error| error.to_string())?;
    if let Some(own) = material.client.as_ref().and_then(|(chain, _)| chain.first()) {
        found.push(summarize("the client certificate is", &Certificate::parse(own)?, now));
    }
    Ok(found)
}

fn summarize(what: &str, certificate: &Certificate, now: i64) -> CertificateSummary {
    CertificateSummary {
        description: format!("{what} valid until {}", format_time(certificate.not_after)),
        expires_soon: certificate.not_after - now < WARNING_SECONDS,
    }
}

//! What the certificates of a connection say, for people: for `check`.

use chrono::Utc;

use super::certificate::{Certificate, moment};
use super::server::BrokerServer;
use super::tls_probe::handshake;

/// Time to get a new certificate in, seconds: 30 days.
const SOON_SECONDS: i64 = 30 * 24 * 3600;

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Whose it is, for whom, and until when.
    pub description: String,
    /// It ends within 30 days.
    pub ends_soon: bool,
}

/// The certificates of the connection to this broker: its own and, where there is one, ours. None without TLS.
///
/// Takes some seconds at most, and blocks. Fails with the reason for which a handshake does.
pub fn certificates(server: &BrokerServer) -> Result<Vec<InUse>, String> {
    let Some(files) = &server.tls else { return Ok(Vec::new()) };
    let now = Utc::now().timestamp();
    let theirs = handshake(server, files)?;
    let mut found = vec![in_use(&format!("its certificate is for {}", theirs.listed_names()), &theirs, now)];
    let material = files.read(now).map_err(|error| error.to_string())?;
    if let Some(own) = material.client.as_ref().and_then(|(chain, _)| chain.first()) {
        found.push(in_use("the client certificate is", &Certificate::parse(own)?, now));
    }
    Ok(found)
}

fn in_use(what: &str, certificate: &Certificate, now: i64) -> InUse {
    InUse {
        description: format!("{what} valid until {}", moment(certificate.not_after)),
        ends_soon: certificate.not_after - now < SOON_SECONDS,
    }
}

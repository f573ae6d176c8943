//! Probes a broker without MQTT: TCP, and TLS if configured.

use super::{tcp, tls_probe};
use crate::domain::broker::Broker;

/// Returns why the broker is unreachable, as far as TCP and TLS show. Blocks for some seconds at most, apart from the
/// DNS lookup.
pub(super) fn probe(server: &Broker) -> Result<(), String> {
    tcp::connect(&server.host, server.port).map_err(|error| error.to_string())?;
    match &server.tls {
        Some(files) => tls_probe::handshake(server, files).map(|_| ()),
        None => Ok(()),
    }
}

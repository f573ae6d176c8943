//! TLS towards endpoints: the root certificates of the system, *ring* for the cryptography.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// The configuration of all `https` connections, read at the first of them.
#[derive(Debug, Default)]
pub(super) struct Tls {
    config: OnceCell<Arc<ClientConfig>>,
    complained: Cell<bool>,
}

impl Tls {
    /// `None` on a system without root certificates; it is looked again the next time.
    pub(super) fn config(&self) -> Option<Arc<ClientConfig>> {
        if self.config.get().is_none() {
            self.read();
        }
        self.config.get().cloned()
    }

    fn read(&self) {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            if !self.complained.replace(true) {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                log::error!(
                    "No root certificates found on this system, https endpoints cannot be reached; \
                     install ca-certificates or set SSL_CERT_FILE. {}",
                    errors.join("; ")
                );
            }
            return;
        }
        match client_config(roots) {
            // Set by nobody else: this runs on one thread.
            Ok(config) => drop(self.config.set(Arc::new(config))),
            Err(error) => log::error!("TLS cannot be set up, https endpoints cannot be reached: {error}"),
        }
    }
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // HTTP/1.1 only: a connection for each post under way, so that one that stalls holds up no other.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

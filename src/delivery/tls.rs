//! TLS for connections to endpoints: root certificates of the system or of a bundle, with *ring* as crypto provider.

mod pinned;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};

use self::pinned::PinnedOrChained;

/// The configuration of all `https` connections, loaded at the first connection.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// File or directory with trusted certificates that replace the system's.
    bundle: Option<PathBuf>,
    config: OnceCell<Arc<ClientConfig>>,
    logged: Cell<bool>,
}

impl Tls {
    /// Trusts the certificates of `bundle` if given, otherwise those of the system.
    pub(super) fn new(bundle: Option<PathBuf>) -> Self {
        Self { bundle, ..Self::default() }
    }

    /// The configuration; `None` if there are no root certificates. The next call tries again.
    pub(super) fn config(&self) -> Option<Arc<ClientConfig>> {
        if self.config.get().is_none() {
            self.read();
        }
        self.config.get().cloned()
    }

    fn read(&self) {
        let found = self.bundle.as_deref().map_or_else(load_native_certs, certificates_at);
        match client_config(&found) {
            // The cell is still empty, because this code runs on one thread.
            Ok(config) => drop(self.config.set(Arc::new(config))),
            Err(error) if !self.logged.replace(true) => self.log_missing(&*error, &found),
            Err(_) => {}
        }
    }

    fn log_missing(&self, error: &dyn std::error::Error, found: &CertificateResult) {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let place = match &self.bundle {
            Some(path) => format!(
                "in {}; see REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and that it is PEM",
                path.display()
            ),
            None => "on this system; install ca-certificates or set SSL_CERT_FILE".to_owned(),
        };
        log::error!(
            "No usable root certificates {place}. Endpoints with https cannot be reached: {error}. {}",
            errors.join("; ")
        );
    }
}

fn certificates_at(path: &Path) -> CertificateResult {
    if path.is_dir() {
        load_certs_from_paths(None, Some(path))
    } else {
        load_certs_from_paths(Some(path), None)
    }
}

fn client_config(found: &CertificateResult) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs.iter().cloned());
    let chains =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedOrChained::new(chains, found.certs.clone())))
        .with_no_client_auth();
    // HTTP/1.1 only: with one connection per post, a stalled post delays no other.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

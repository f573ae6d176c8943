//! TLS for connections to endpoints: root certificates of the system or of a bundle, with *ring* as crypto provider.

mod endpoint_verifier;

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use thiserror::Error;

use self::endpoint_verifier::{CertificateProof, EndpointVerifier};

/// The configuration of `https` connections. The root certificates are loaded at the first connection.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// File or directory with trusted certificates that replace the system's.
    bundle: Option<PathBuf>,
    roots: OnceCell<Roots>,
    logged: Cell<bool>,
}

/// The root certificates, with the configuration of connections that need nothing else.
#[derive(Debug)]
struct Roots {
    verifier: Arc<EndpointVerifier>,
    config: Arc<ClientConfig>,
}

/// The proof that an endpoint must give.
pub(super) enum EndpointTrust {
    /// The root certificates.
    Roots,
    /// These authorities, in place of the root certificates.
    Authorities(Vec<CertificateDer<'static>>),
    /// This hash of its certificate, in place of all other checks.
    Pinned([u8; 32]),
}

/// A certificate for clients with its chain, and its key.
pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// No TLS configuration can be made.
#[derive(Debug, Error)]
pub(super) enum TlsError {
    /// There are no root certificates.
    #[error("no usable root certificates")]
    NoRoots,
    /// The authorities of a flow are not usable.
    #[error("has no usable certificate: {0}")]
    Authorities(Box<dyn std::error::Error + Send + Sync>),
    /// The client certificate is not usable.
    #[error("cert_file and key_file cannot be used: {0}")]
    Identity(rustls::Error),
}

impl Tls {
    /// Trusts the certificates of `bundle` if given, otherwise the system's.
    pub(super) fn new(bundle: Option<PathBuf>) -> Self {
        Self { bundle, ..Self::default() }
    }

    /// The configuration of flows without TLS options; `None` if there are no root certificates. The next call tries
    /// again.
    pub(super) fn config(&self) -> Option<Arc<ClientConfig>> {
        self.roots().map(|roots| Arc::clone(&roots.config))
    }

    /// The configuration of a flow.
    pub(super) fn flow_config(
        &self,
        trust: EndpointTrust,
        client: Option<ClientIdentity>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = match trust {
            EndpointTrust::Roots => Arc::clone(&self.roots().ok_or(TlsError::NoRoots)?.verifier),
            EndpointTrust::Authorities(trusted) => {
                Arc::new(verifier(&trusted).map_err(TlsError::Authorities)?)
            }
            EndpointTrust::Pinned(sha256) => {
                Arc::new(EndpointVerifier::new(CertificateProof::Sha256(sha256)))
            }
        };
        client_config(verifier, client).map(Arc::new).map_err(TlsError::Identity)
    }

    fn roots(&self) -> Option<&Roots> {
        if self.roots.get().is_none() {
            self.read();
        }
        self.roots.get()
    }

    fn read(&self) {
        match self.find() {
            // The cell is still empty, because this code runs on one thread.
            Ok(roots) => drop(self.roots.set(roots)),
            Err(problem) if !self.logged.replace(true) => {
                log::error!("Endpoints with https cannot be reached. {problem}");
            }
            Err(_) => {}
        }
    }

    /// Reads the root certificates.
    ///
    /// # Errors
    /// Why there are none, and the remedy.
    fn find(&self) -> Result<Roots, String> {
        let found = self.bundle.as_deref().map_or_else(load_native_certs, certificates_at);
        Roots::new(&found.certs).map_err(|error| {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let place = match &self.bundle {
                Some(path) => format!(
                    "in {}; see REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, and that it is PEM",
                    path.display()
                ),
                None => "on this system; install ca-certificates or set SSL_CERT_FILE".to_owned(),
            };
            format!("No usable root certificates {place}: {error}. {}", errors.join("; "))
        })
    }

    /// Checks that there are root certificates. The text of the error has a remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        self.find().map(drop)
    }
}

fn certificates_at(path: &Path) -> CertificateResult {
    if path.is_dir() {
        load_certs_from_paths(None, Some(path))
    } else {
        load_certs_from_paths(Some(path), None)
    }
}

impl Roots {
    fn new(trusted: &[CertificateDer<'static>]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let verifier = Arc::new(verifier(trusted)?);
        let config = Arc::new(client_config(Arc::clone(&verifier), None)?);
        Ok(Self { verifier, config })
    }
}

fn verifier(
    trusted: &[CertificateDer<'static>],
) -> Result<EndpointVerifier, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(ring::default_provider());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    Ok(EndpointVerifier::new(CertificateProof::Trusted { chains, trusted: trusted.to_vec() }))
}

fn client_config(
    verifier: Arc<EndpointVerifier>,
    client: Option<ClientIdentity>,
) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match client {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    };
    // HTTP/1.1 only: with one connection per post, a stalled post delays no other.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! Certificates and private keys in PEM format.

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

/// A text without usable PEM. Never contains any of the text.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// No object of the required kind.
    #[error("contains no {wanted} in PEM format{hint}")]
    Missing {
        /// Required kind of object.
        wanted: &'static str,
        /// Possible remedy.
        hint: &'static str,
    },
    /// The objects cannot be parsed.
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// Marks an encrypted key, in its first line or its headers.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Returns the certificates of `text`, at least one.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(damaged)?;
    if found.is_empty() { Err(no_certificate()) } else { Ok(found) }
}

/// Returns the first private key of `text`.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let missing = |hint| PemError::Missing { wanted: "private key", hint };
    // A service cannot prompt for a passphrase.
    if text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(missing(": it is encrypted, and nobody is there to tell the pass phrase; decrypt it"));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => missing(""),
        error => damaged(error),
    })
}

/// Whether `key` is certainly not that of the first certificate. Other errors mean an unsupported kind of key, which
/// the handshake reports.
pub(crate) fn is_other_key(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> bool {
    let certified = CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &ring::default_provider());
    matches!(certified, Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)))
}

pub(crate) fn no_certificate() -> PemError {
    PemError::Missing { wanted: "certificate", hint: "" }
}

/// Describes an error that may quote the text without its quotation.
fn damaged(error: pem::Error) -> PemError {
    PemError::Damaged(match error {
        pem::Error::Base64Decode(_) => "it is not base64".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "an END line is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        error => error.to_string(),
    })
}

//! The option `tls` of a flow, with its files read.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use sha2::{Digest, Sha256};

use super::PostError;
use crate::credentials::read_secret_file;
use crate::delivery::tls::{EndpointTrust, Tls, TlsError};
use crate::domain::posting::options::TlsOptions;
use crate::domain::redaction::shown_path;
use crate::pem;
use crate::settings::CredentialSettings;

/// Maximum file size, 16 times the CA bundle of a system.
const MAX_BYTES: u64 = 4 << 20;

/// Identifies TLS options by the content of their files. Equal options may share connections.
pub(super) type TlsId = [u8; 32];

/// The TLS configuration of the connections of a flow.
#[derive(Clone)]
pub(super) struct FlowTls {
    pub(super) id: TlsId,
    pub(super) config: Arc<ClientConfig>,
}

impl FlowTls {
    /// Reads the files of `options`. Returns `None` without such options, and `known` if nothing has changed.
    pub(super) fn read(
        options: &TlsOptions,
        known: Option<&Self>,
        allowed: &CredentialSettings,
        tls: &Tls,
    ) -> Result<Option<Self>, PostError> {
        let files = [
            read("ca_file", options.ca_file.as_deref(), allowed)?,
            read("cert_file", options.cert_file.as_deref(), allowed)?,
            read("key_file", options.key_file.as_deref(), allowed)?,
        ];
        let pinned = options.pinned();
        if pinned.is_none() && files.iter().all(Option::is_none) {
            return Ok(None);
        }
        let id = id(&files, pinned);
        if let Some(known) = known.filter(|known| known.id == id) {
            return Ok(Some(known.clone()));
        }
        let [ca, cert, key] = files;
        let trust = match (pinned, ca) {
            (Some(sha256), _) => EndpointTrust::Pinned(sha256),
            (None, Some(ca)) => EndpointTrust::Authorities(certificates("ca_file", &ca)?),
            (None, None) => EndpointTrust::Roots,
        };
        let client = match (cert, key) {
            (Some(cert), Some(key)) => {
                let chain = certificates("cert_file", &cert)?;
                let key = pem::private_key(&key).map_err(|problem| unusable("key_file", &problem))?;
                if pem::is_other_key(&chain, &key) {
                    return Err(unusable("key_file", &"is not the key of the certificate in cert_file"));
                }
                Some((chain, key))
            }
            _ => None,
        };
        let config = tls.flow_config(trust, client).map_err(|error| match error {
            TlsError::NoRoots => PostError::NoCertificates,
            TlsError::Authorities(_) => unusable("ca_file", &error),
            TlsError::Identity(_) => {
                PostError::Options { path: "tls".to_owned(), problem: error.to_string() }
            }
        })?;
        Ok(Some(Self { id, config }))
    }
}

fn certificates(
    option: &str,
    text: &[u8],
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, PostError> {
    pem::certificates(text).map_err(|problem| unusable(option, &problem))
}

fn read(
    option: &str,
    path: Option<&str>,
    allowed: &CredentialSettings,
) -> Result<Option<Vec<u8>>, PostError> {
    let Some(path) = path else { return Ok(None) };
    let content = read_secret_file(Path::new(path), allowed, MAX_BYTES);
    content.map(Some).map_err(|problem| unusable(option, &format!("{} {problem}", shown_path(path))))
}

fn unusable(option: &str, problem: &impl ToString) -> PostError {
    PostError::Options { path: format!("tls.{option}"), problem: problem.to_string() }
}

fn id(files: &[Option<Vec<u8>>], pinned: Option<[u8; 32]>) -> TlsId {
    let pinned = pinned.map(Vec::from);
    let mut hash = Sha256::new();
    for part in files.iter().chain([&pinned]) {
        let part = part.as_deref();
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{env, fs};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn configuration_is_kept_until_a_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let allowed =
            CredentialSettings { dir: directory.path().to_owned(), ..CredentialSettings::default() };
        let file = directory.path().join("ca");
        let write = || {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            fs::write(&file, certificate.pem()).unwrap();
        };
        let options = TlsOptions { ca_file: Some(file.display().to_string()), ..TlsOptions::default() };
        let read = |known: Option<&FlowTls>| {
            FlowTls::read(&options, known, &allowed, &Tls::default()).unwrap().unwrap()
        };
        write();
        let first = read(None);
        let second = read(Some(&first));
        assert!(Arc::ptr_eq(&first.config, &second.config));
        write();
        let third = read(Some(&second));
        assert!(third.id != second.id && !Arc::ptr_eq(&third.config, &second.config));
    }
    #[test]
    fn errors_hide_what_is_no_path() {
        let allowed = CredentialSettings::default();
        let error = |text: &str| {
            let options = TlsOptions { ca_file: Some(text.to_owned()), ..TlsOptions::default() };
            FlowTls::read(&options, None, &allowed, &Tls::default()).err().unwrap().to_string()
        };
        let hidden = error("-----BEGIN PRIVATE KEY-----\ns3cret");
        assert!(hidden.starts_with("options.delivery.tls.ca_file: *** cannot be read"), "{hidden}");
        assert!(error("/no/such/ca.pem").contains("/no/such/ca.pem cannot be read"));
    }

    #[test]
    fn relative_paths_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let allowed =
            CredentialSettings { dir: directory.path().to_owned(), ..CredentialSettings::default() };
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        fs::write(directory.path().join("ca"), certificate.pem()).unwrap();
        let to_root = "../".repeat(env::current_dir().unwrap().components().count());
        let relative = format!("{to_root}{}/ca", directory.path().display());
        let options = TlsOptions { ca_file: Some(relative), ..TlsOptions::default() };
        assert!(FlowTls::read(&options, None, &allowed, &Tls::default()).unwrap().is_some());
    }
}

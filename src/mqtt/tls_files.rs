//! TLS files, validated before use. Every error names its file.

use std::io;
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Certificate, format_time};
use crate::domain::broker::TlsFiles;
use crate::domain::redaction::shown_path;
use crate::files::read_regular;
use crate::pem::{self, PemError};

/// Parsed content of the files.
#[derive(Debug, Default)]
pub(super) struct TlsMaterial {
    /// Empty without `ca_file`.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Maximum file size, 16 times the CA bundle of a system.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Error in a TLS file.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// The file does not exist or is not readable.
    #[error("{column} {path} cannot be read: {source}")]
    Unreadable {
        /// Column of the table.
        column: &'static str,
        /// Path, as it may be shown.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file has no usable certificate or key.
    #[error("{column} {path} {problem}")]
    Content {
        /// Column of the table.
        column: &'static str,
        /// Path.
        path: String,
        /// Description of the problem.
        problem: PemError,
    },
    /// The certificate is expired or not yet valid.
    #[error("the certificate in {column} {path} {problem} {at}")]
    NotValid {
        /// Column of the table.
        column: &'static str,
        /// Path.
        path: String,
        /// "has expired on" or its counterpart for a certificate that is not yet valid.
        problem: &'static str,
        /// Start or end of the validity.
        at: String,
    },
    /// The private key does not match the certificate.
    #[error("the key in {key_path} does not match the certificate in client_cert_file {cert_path}")]
    OtherKey {
        /// Path of the key.
        key_path: String,
        /// Path of the certificate.
        cert_path: String,
    },
}

const CA: &str = "ca_file";
const CERT: &str = "client_cert_file";
const KEY: &str = "client_key_file";

impl TlsFiles {
    /// Reads and validates all files. `now` is in seconds since 1970.
    pub(super) fn read(&self, now: i64) -> Result<TlsMaterial, TlsFileError> {
        let authorities = match &self.ca_file {
            Some(path) => authorities(path, now)?,
            None => Vec::new(),
        };
        let client = match &self.client_cert_file {
            Some(path) => Some(client(path, self.client_key_file.as_deref(), now)?),
            None => None,
        };
        Ok(TlsMaterial { authorities, client })
    }

    /// The reason why the files cannot be used at `now`, in seconds since 1970.
    pub(crate) fn problem(&self, now: i64) -> Option<TlsFileError> {
        self.read(now).err()
    }

    /// Describes the source of the authorities for error messages.
    pub(super) fn trusted(&self) -> String {
        self.ca_file
            .as_ref()
            .map_or_else(|| "of this system (ca_file is NULL)".to_owned(), |path| format!("in {path}"))
    }
}

/// Reads the trusted authorities. One valid certificate is enough, because bundles keep expired ones.
fn authorities(path: &str, now: i64) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found = certificates(CA, path)?;
    let mut expired = None;
    for der in &found {
        match check_time(CA, path, der, now) {
            Ok(()) => return Ok(found),
            Err(error) => expired = expired.or(Some(error)),
        }
    }
    Err(expired.unwrap_or_else(|| unusable(CA, path)(pem::no_certificate())))
}

fn client(
    path: &str,
    key_path: Option<&str>,
    now: i64,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsFileError> {
    let chain = certificates(CERT, path)?;
    if let Some(own) = chain.first() {
        check_time(CERT, path, own, now)?;
    }
    let key = match key_path {
        Some(key_path) => key(KEY, key_path)?,
        None => key(CERT, path)?,
    };
    if pem::is_other_key(&chain, &key) {
        let key_path = key_path.unwrap_or(path).to_owned();
        return Err(TlsFileError::OtherKey { key_path, cert_path: path.to_owned() });
    }
    Ok((chain, key))
}

fn certificates(column: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    pem::certificates(&read(column, path)?).map_err(unusable(column, path))
}

fn key(column: &'static str, path: &str) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    pem::private_key(&read(column, path)?).map_err(unusable(column, path))
}

fn read(column: &'static str, path: &str) -> Result<Vec<u8>, TlsFileError> {
    read_regular(Path::new(path), MAX_BYTES).map_err(|source| TlsFileError::Unreadable {
        column,
        path: shown_path(path).to_owned(),
        source,
    })
}

fn check_time(
    column: &'static str,
    path: &str,
    der: &CertificateDer<'_>,
    now: i64,
) -> Result<(), TlsFileError> {
    let certificate = Certificate::parse(der).map_err(PemError::Damaged).map_err(unusable(column, path))?;
    let wrong =
        |problem, at| TlsFileError::NotValid { column, path: path.to_owned(), problem, at: format_time(at) };
    if certificate.not_after < now {
        return Err(wrong("has expired on", certificate.not_after));
    }
    if now < certificate.not_before {
        return Err(wrong("is not valid before", certificate.not_before));
    }
    Ok(())
}

fn unusable(column: &'static str, path: &str) -> impl FnOnce(PemError) -> TlsFileError {
    let path = path.to_owned();
    move |problem| TlsFileError::Content { column, path, problem }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    /// Time at which the certificates of these tests are valid.
    const NOW: i64 = 1_700_000_000;

    struct Files {
        directory: TempDir,
        names: TlsFiles,
    }

    fn pair(years: (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["device".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files() -> Files {
        let directory = tempfile::tempdir().unwrap();
        let name = |name: &str| Some(directory.path().join(name).display().to_string());
        let names =
            TlsFiles { ca_file: name("ca"), client_cert_file: name("cert"), client_key_file: name("key") };
        let files = Files { directory, names };
        let (cert, key) = pair((2000, 2100));
        files.write("ca", &pair((2000, 2100)).0);
        files.write("cert", &cert);
        files.write("key", &key);
        files
    }

    impl Files {
        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn error(&self) -> String {
            self.names.read(NOW).unwrap_err().to_string()
        }
    }

    #[test]
    fn valid_files_are_read() {
        let files = files();
        let read = files.names.read(NOW).unwrap();
        assert_eq!(read.authorities.len(), 1);
        assert!(read.client.is_some());
        let none = TlsFiles { ca_file: None, client_cert_file: None, client_key_file: None };
        assert!(none.read(NOW).unwrap().client.is_none());
    }

    #[test]
    fn key_may_share_the_certificate_file() {
        let mut files = files();
        files.names.client_key_file = None;
        assert!(files.error().contains("client_cert_file") && files.error().contains("no private key"));
        let (cert, key) = pair((2000, 2100));
        files.write("cert", &format!("{cert}{key}"));
        files.names.read(NOW).unwrap();
    }

    #[test]
    fn errors_name_the_file() {
        for (name, column) in [("ca", "ca_file"), ("cert", "client_cert_file"), ("key", "client_key_file")] {
            let files = files();
            files.write(name, "no PEM at all");
            let error = files.error();
            assert!(error.contains(column) && error.contains("in PEM format"), "{error}");
            let path = files.directory.path().join(name);
            fs::remove_file(&path).unwrap();
            let error = files.error();
            assert!(error.contains(column) && error.contains("No such file"), "{error}");
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
            let error = files.error();
            assert!(error.contains(column) && error.contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn errors_hide_what_is_no_path() {
        let mut files = files();
        files.names.client_key_file = Some("-----BEGIN PRIVATE KEY-----\ns3cret".to_owned());
        let error = files.error();
        assert!(error.starts_with("client_key_file *** cannot be read"), "{error}");
    }

    #[test]
    fn truncated_certificates_are_damaged() {
        let files = files();
        files.write("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(
            files.error().contains("ca_file") && files.error().contains("is damaged"),
            "{}",
            files.error()
        );
    }

    #[test]
    fn foreign_keys_are_detected() {
        let files = files();
        files.write("key", &pair((2000, 2100)).1);
        assert!(files.error().contains("does not match the certificate"), "{}", files.error());
    }

    #[test]
    fn encrypted_keys_are_refused() {
        let files = files();
        let key = fs::read_to_string(files.directory.path().join("key")).unwrap();
        files.write("key", &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
        assert!(files.error().contains("it is encrypted"), "{}", files.error());
    }

    #[test]
    fn invalid_dates_are_reported() {
        let files = files();
        let (cert, key) = pair((2000, 2010));
        files.write("cert", &cert);
        files.write("key", &key);
        assert!(files.error().contains("has expired on 2010-01-01"), "{}", files.error());
        files.write("cert", &pair((2090, 2100)).0);
        assert!(files.error().contains("is not valid before 2090-01-01"), "{}", files.error());
    }

    #[test]
    fn bundles_need_one_valid_authority() {
        let files = files();
        let (old, new) = (pair((2000, 2010)).0, pair((2000, 2100)).0);
        files.write("ca", &format!("{old}{new}"));
        files.names.read(NOW).unwrap();
        files.write("ca", &old);
        assert!(
            files.error().contains("ca_file") && files.error().contains("has expired"),
            "{}",
            files.error()
        );
    }
}

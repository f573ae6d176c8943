//! TLS settings of database connections, from the `DB_SSL_` settings or the options of `DATABASE_URL`.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::catalogue::{DATABASE_URL, DB_SSL_CA, DB_SSL_CERT, DB_SSL_KEY, DB_SSL_MODE, Spec};
use super::reader::{InvalidSetting, SettingsReader};

named_enum! {
    /// TLS mode of a database connection.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum TlsMode {
        /// No TLS.
        Disable = "disable",
        /// TLS if the server offers it.
        #[default]
        Prefer = "prefer",
        /// TLS without verification.
        Require = "require",
        /// TLS with a verified certificate, for any host name.
        VerifyCa = "verify-ca",
        /// TLS with a verified certificate and host name.
        VerifyFull = "verify-full",
    }
}

impl TlsMode {
    /// Parses the name of a mode in `PostgreSQL` (`verify-full`) or `MySQL` (`VERIFY_IDENTITY`).
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" => Some(Self::Disable),
            "prefer" | "preferred" => Some(Self::Prefer),
            "require" | "required" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" | "verify-identity" => Some(Self::VerifyFull),
            _ => None,
        }
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// TLS settings of database connections. The files are read for each connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseTls {
    /// None if not set.
    pub(super) mode: Option<TlsMode>,
    /// PEM file with the trusted certificate authorities.
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with the client certificate.
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub(crate) key: Option<PathBuf>,
}

impl DatabaseTls {
    /// Returns the mode, or the default.
    #[must_use]
    pub fn mode(&self) -> TlsMode {
        self.mode.unwrap_or_default()
    }

    /// Returns a copy with another mode.
    pub(crate) fn with_mode(&self, mode: TlsMode) -> Self {
        Self { mode: Some(mode), ..self.clone() }
    }
}

/// A TLS parameter, with its names in the settings and in a URL.
struct Part {
    spec: &'static Spec,
    in_url: &'static str,
}

const MODE: Part = Part { spec: &DB_SSL_MODE, in_url: "sslmode" };
const CA: Part = Part { spec: &DB_SSL_CA, in_url: "sslrootcert" };
const CERT: Part = Part { spec: &DB_SSL_CERT, in_url: "sslcert" };
const KEY: Part = Part { spec: &DB_SSL_KEY, in_url: "sslkey" };

/// Reads the TLS settings, which the options of a URL replace. The files are checked, so that a wrong one is reported
/// at startup.
pub(super) fn read(
    reader: &mut SettingsReader<'_>,
    in_url: Option<DatabaseTls>,
) -> Result<DatabaseTls, InvalidSetting> {
    let mode = match in_url.as_ref().and_then(|in_url| in_url.mode) {
        Some(mode) if reader.is_default(&DB_SSL_MODE) => {
            reader.show(&DB_SSL_MODE, Some(mode.as_str().to_owned()), DATABASE_URL.name);
            Ok(None)
        }
        _ => reader.word_if_set(&DB_SSL_MODE).map(|word| word.as_deref().and_then(TlsMode::parse)),
    };
    let ca = reader.path_if_set(&DB_SSL_CA);
    let cert = reader.path_if_set(&DB_SSL_CERT);
    let key = reader.path_if_set(&DB_SSL_KEY);
    let set = DatabaseTls { mode: mode?, ca: ca?, cert: cert?, key: key? };
    let has_url = in_url.is_some();
    let in_url = in_url.unwrap_or_default();
    let tls = DatabaseTls {
        mode: one_of(reader, &MODE, set.mode, in_url.mode)?,
        ca: one_of(reader, &CA, set.ca, in_url.ca)?,
        cert: one_of(reader, &CERT, set.cert, in_url.cert)?,
        key: one_of(reader, &KEY, set.key, in_url.key)?,
    };
    match problem(reader, &tls) {
        None => Ok(tls),
        Some((part, expected)) if has_url && !reader.is_set(part.spec) => {
            let origin = reader.origin(&DATABASE_URL);
            let expected = format!("in its option `{}` (or in {}) {expected}", part.in_url, part.spec.name);
            Err(reader.refuse_secret(&DATABASE_URL, &origin, expected))
        }
        Some((part, expected)) => Err(reader.refuse_setting(part.spec, expected)),
    }
}

fn one_of<T>(
    reader: &mut SettingsReader<'_>,
    part: &Part,
    set: Option<T>,
    in_url: Option<T>,
) -> Result<Option<T>, InvalidSetting> {
    if set.is_some() && in_url.is_some() {
        let expected = format!("to be unset, because DATABASE_URL has `{}`", part.in_url);
        return Err(reader.refuse_setting(part.spec, expected));
    }
    Ok(set.or(in_url))
}

/// Returns the first invalid parameter, with a description of a valid value.
fn problem(reader: &SettingsReader<'_>, tls: &DatabaseTls) -> Option<(Part, String)> {
    let mode = tls.mode();
    let word = mode.as_str();
    match (&tls.ca, &tls.cert, &tls.key) {
        (None, ..) if mode.verifies() => Some((
            CA,
            format!("a file with the certificate authorities of the server, because the mode is {word}"),
        )),
        (Some(_), ..) if !mode.verifies() => Some((
            CA,
            format!("nothing: the mode {word} verifies no certificate, unlike verify-ca and verify-full"),
        )),
        (_, Some(_), _) | (_, _, Some(_)) if mode == TlsMode::Disable => Some((
            if tls.cert.is_some() { CERT } else { KEY },
            "nothing, because the mode is disable".to_owned(),
        )),
        (_, Some(_), None) => Some((KEY, "a file with the key, because there is a certificate".to_owned())),
        (_, None, Some(_)) => Some((CERT, "a file with the certificate, because there is a key".to_owned())),
        (ca, cert, key) => {
            let ca = ca.as_deref().and_then(|path| problem_of_ca(reader, path));
            let client = || problem_of_client(reader, cert.as_deref()?, key.as_deref()?);
            ca.or_else(client)
        }
    }
}

fn problem_of_ca(reader: &SettingsReader<'_>, path: &Path) -> Option<(Part, String)> {
    const EXPECTED: &str = "a file with the certificate authorities of the server";
    let usable = certificates(reader, path).and_then(|found| {
        let mut store = RootCertStore::empty();
        found.into_iter().try_for_each(|der| store.add(der)).map_err(|error| error.to_string())
    });
    usable.err().map(|reason| (CA, wrong(EXPECTED, path, &reason)))
}

fn problem_of_client(reader: &SettingsReader<'_>, cert: &Path, key: &Path) -> Option<(Part, String)> {
    let chain = match certificates(reader, cert) {
        Ok(chain) => chain,
        Err(reason) => return Some((CERT, wrong("a file with a certificate", cert, &reason))),
    };
    let usable = reader.file(key).and_then(|pem| {
        let der = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| "it holds no key in PEM format without a password".to_owned())?;
        CertifiedKey::from_der(chain, der, &ring::default_provider()).map_err(|error| error.to_string())
    });
    let expected = format!("a file with the key to the certificate in {}", cert.display());
    usable.err().map(|reason| (KEY, wrong(&expected, key, &reason)))
}

fn certificates(reader: &SettingsReader<'_>, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = reader.file(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it holds no certificate in PEM format".to_owned()) } else { Ok(found) }
}

fn wrong(expected: &str, path: &Path, reason: &str) -> String {
    format!("{expected} ({}: {reason})", path.display())
}

//! User names and passwords, given in the table or by reference.
//!
//! | in the table | means |
//! | --- | --- |
//! | `file:/run/secrets/password` | content of this file below `CREDENTIALS_DIR`, without trailing line breaks |
//! | `env:MQTT_PASSWORD` | value of this environment variable, whose name begins with `CREDENTIALS_ENV_PREFIX` |
//! | `plain:file:/…`, `plain:env:…`, `plain:plain:…` | remainder, taken literally although it looks like a reference |
//! | anything else | the text itself |

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::domain::credential::{Credential, CredentialSource};
use crate::files::read_regular;
use crate::settings::CredentialSettings;

/// MQTT stores the length of a password in 16 bits.
const MAX_BYTES: u64 = 65_535;

/// Error while reading a credential. Never contains the value.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file may not be used.
    #[error("{reference} {problem} (to use this text as the value, write plain:{reference})")]
    File {
        /// Reference in the table.
        reference: String,
        /// Reason.
        problem: SecretFileError,
    },
    /// The variable may not be read.
    #[error(
        "{reference} is refused: only variables that begin with {prefix} (CREDENTIALS_ENV_PREFIX) and are no settings \
         of the gateway are read. Rename the variable, or set CREDENTIALS_ENV_PREFIX \
         (to use this text as the value, write plain:{reference})"
    )]
    ForbiddenVariable {
        /// Reference in the table.
        reference: String,
        /// Value of `CREDENTIALS_ENV_PREFIX`.
        prefix: String,
    },
    /// The variable is not set.
    #[error(
        "{reference} is not set in the environment (to use this text as the value, write plain:{reference})"
    )]
    Variable {
        /// Reference in the table.
        reference: String,
    },
    /// The value is empty or cannot be sent.
    #[error("{reference} {problem}")]
    Useless {
        /// Reference in the table.
        reference: String,
        /// Reason.
        problem: &'static str,
    },
}

/// A file to which a row refers may not be used. Does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file may not be read.
    #[error(
        "is refused: {problem}; put the file below CREDENTIALS_DIR ({}), or set CREDENTIALS_DIR to a directory that \
         contains only secrets of brokers and endpoints",
        .dir.display()
    )]
    Forbidden {
        /// Reason for the refusal.
        problem: &'static str,
        /// Value of `CREDENTIALS_DIR`.
        dir: PathBuf,
    },
}

impl Credential {
    /// Reads the current value.
    pub(super) fn read(&self, allowed: &CredentialSettings) -> Result<SecretString, CredentialError> {
        let reference = self.expose();
        let value = match CredentialSource::parse(reference) {
            CredentialSource::Literal(text) => return Ok(SecretString::from(text)),
            CredentialSource::File(path) => read_text(reference, Path::new(path), allowed)?,
            CredentialSource::Variable(name) if allowed.allows_variable(name) => env::var_os(name)
                .ok_or_else(|| CredentialError::Variable { reference: reference.to_owned() })?
                .into_string()
                .map_err(|_| useless(reference, NOT_UTF8))?,
            CredentialSource::Variable(_) => {
                let prefix = allowed.env_prefix.clone();
                return Err(CredentialError::ForbiddenVariable { reference: reference.to_owned(), prefix });
            }
        };
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(useless(reference, "is empty"));
        }
        Ok(SecretString::from(value))
    }
}

fn useless(reference: &str, problem: &'static str) -> CredentialError {
    CredentialError::Useless { reference: reference.to_owned(), problem }
}

const NOT_UTF8: &str = "is not UTF-8 text";

fn read_text(reference: &str, path: &Path, allowed: &CredentialSettings) -> Result<String, CredentialError> {
    let content = read_secret_file(path, allowed, MAX_BYTES)
        .map_err(|problem| CredentialError::File { reference: reference.to_owned(), problem })?;
    String::from_utf8(content).map_err(|_| useless(reference, NOT_UTF8))
}

/// Reads a file below `CREDENTIALS_DIR`, after links are resolved. Kubernetes mounts secrets as links within the same
/// directory.
pub(crate) fn read_secret_file(
    path: &Path,
    allowed: &CredentialSettings,
    max_bytes: u64,
) -> Result<Vec<u8>, SecretFileError> {
    let forbidden = |problem| Err(SecretFileError::Forbidden { problem, dir: allowed.dir.clone() });
    let path = path.canonicalize()?;
    // A missing directory contains no files.
    if !allowed.dir.canonicalize().is_ok_and(|dir| path.starts_with(dir)) {
        return forbidden("it is not below CREDENTIALS_DIR");
    }
    let is_same = |own: &PathBuf| own.canonicalize().is_ok_and(|own| own == path);
    if allowed.files_of_settings.iter().any(is_same) {
        return forbidden("a setting of the gateway names this file");
    }
    Ok(read_regular(&path, max_bytes)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;

    fn read_allowing(allowed: &CredentialSettings, text: &str) -> Result<String, String> {
        let value = Credential::new(text).read(allowed);
        value.map(|value| value.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    /// Allows files below `dir`, and every variable that is no setting.
    fn below(dir: &Path) -> CredentialSettings {
        CredentialSettings { dir: dir.to_owned(), env_prefix: String::new(), files_of_settings: Vec::new() }
    }

    fn read(text: &str) -> Result<String, String> {
        read_allowing(&below(Path::new("/")), text)
    }

    fn in_file(allowed: &CredentialSettings, path: &Path) -> Result<String, String> {
        read_allowing(allowed, &format!("file:{}", path.display()))
    }

    fn directory_with_secret(text: &str) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn links_within_the_directory_are_followed() {
        let (directory, secret) = directory_with_secret("word");
        // Layout of a secret mounted by Kubernetes.
        fs::create_dir(directory.path().join("..2026_11_29")).unwrap();
        fs::write(directory.path().join("..2026_11_29/mounted"), "mounted").unwrap();
        symlink("..2026_11_29", directory.path().join("..data")).unwrap();
        symlink("..data/mounted", directory.path().join("mounted")).unwrap();
        let allowed = below(directory.path());
        assert_eq!(in_file(&allowed, &directory.path().join("mounted")).unwrap(), "mounted");
        // The directory itself may be a link.
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink(directory.path(), &link).unwrap();
        assert_eq!(in_file(&below(&link), &link.join("password")).unwrap(), "word");
        assert_eq!(in_file(&below(&link), &secret).unwrap(), "word");
    }

    #[test]
    fn files_elsewhere_are_refused() {
        let (outside, secret) = directory_with_secret("hush");
        let directory = tempfile::tempdir().unwrap();
        let allowed = below(directory.path());
        let link = directory.path().join("link");
        symlink(&secret, &link).unwrap();
        let parent = directory.path().join("..").join(outside.path().file_name().unwrap()).join("password");
        let hard = ["/etc/passwd", "/proc/self/environ", "/dev/zero"].map(PathBuf::from);
        for path in [secret, link, parent].iter().chain(&hard) {
            let error = in_file(&allowed, path).unwrap_err();
            assert!(error.contains("is not below CREDENTIALS_DIR") && !error.contains("hush"), "{error}");
        }
        let nowhere = below(Path::new("/no/such/directory"));
        assert!(in_file(&nowhere, Path::new("/etc/passwd")).unwrap_err().contains("(/no/such/directory)"));
    }

    #[test]
    fn files_named_by_settings_are_refused() {
        let (directory, secret) = directory_with_secret("hush");
        let link = directory.path().join("link");
        symlink(&secret, &link).unwrap();
        let allowed = CredentialSettings { files_of_settings: vec![link], ..below(directory.path()) };
        let error = in_file(&allowed, &secret).unwrap_err();
        assert!(error.contains("a setting of the gateway names this file"), "{error}");
    }

    #[test]
    fn fifos_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = in_file(&below(directory.path()), &fifo).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn only_prefixed_variables_are_read() {
        let allowed = CredentialSettings { env_prefix: "PA".to_owned(), ..below(Path::new("/")) };
        // `PATH` is set in every environment.
        assert_eq!(read_allowing(&allowed, "env:PATH").unwrap(), env::var("PATH").unwrap());
        let error = read_allowing(&allowed, "env:HOME").unwrap_err();
        assert!(error.contains("env:HOME is refused: only variables that begin with PA"), "{error}");
        for setting in ["env:DATABASE_URL", "env:DB_PASSWORD", "env:MQTT_CLIENT_ID", "env:db_password"] {
            assert!(read(setting).unwrap_err().contains("is refused"), "{setting}");
        }
    }

    #[test]
    fn files_are_read_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reference = format!("file:{}", file.path().display());
        fs::write(file.path(), "first word\n").unwrap();
        assert_eq!(read(&reference).unwrap(), "first word");
        fs::write(file.path(), "second\r\n").unwrap();
        assert_eq!(read(&reference).unwrap(), "second");
    }

    #[test]
    fn errors_name_the_reference() {
        let error = read("file:/no/such/file").unwrap_err();
        assert!(error.contains("file:/no/such/file cannot be read"), "{error}");
        let error = read("env:NO_SUCH_VARIABLE_HERE").unwrap_err();
        assert!(error.contains("env:NO_SUCH_VARIABLE_HERE is not set"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\n").unwrap();
        assert!(read(&format!("file:{}", file.path().display())).unwrap_err().ends_with("is empty"));
        assert!(read("file:/dev/zero").unwrap_err().contains("not a regular file"));
        fs::write(file.path(), "x".repeat(65_536)).unwrap();
        assert!(
            in_file(&below(Path::new("/")), file.path()).unwrap_err().contains("larger than 65535 bytes")
        );
    }

    #[test]
    fn near_references_are_literal() {
        for text in ["file:relative", "file:", "env:", "env:1", "env:a b", "plain:", "plain:x", "FILE:/x"] {
            assert_eq!(read(text).unwrap(), text);
        }
        assert_eq!(read("plain:file:/no/such/file").unwrap(), "file:/no/such/file");
        assert_eq!(read("plain:env:HOME").unwrap(), "env:HOME");
        assert_eq!(read("plain:plain:file:/x").unwrap(), "plain:file:/x");
    }

    #[test]
    fn debug_output_hides_credentials() {
        assert!(!format!("{:?}", Credential::new("hush")).contains("hush"));
    }

    proptest! {
        #[test]
        fn every_text_has_a_literal_form(text in "(plain:|file:/|env:|x|:|A|/){0,6}") {
            let plain = matches!(CredentialSource::parse(&text), CredentialSource::Literal(itself) if itself == text);
            let written = if plain { text.clone() } else { format!("plain:{text}") };
            prop_assert_eq!(read(&written).unwrap(), text);
        }
    }
}

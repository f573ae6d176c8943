//! User names and passwords that stand where the table says, or in the table itself.
//!
//! | in the table | means |
//! | --- | --- |
//! | `file:/run/secrets/password` | what is in this file, without line ends at its end |
//! | `env:MQTT_PASSWORD` | what this environment variable holds |
//! | `plain:file:/…`, `plain:env:…`, `plain:plain:…` | the rest itself, which begins like a reference |
//! | anything else | itself |
//!
//! Only `file:` with an absolute path and `env:` with what can be a name are references, so that hardly any password
//! of before is taken for one.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

/// A user name or password, or the reference to it.
#[derive(Clone)]
pub struct Credential(SecretString);

/// MQTT counts the bytes of a password with 16 bits.
const MOST_BYTES: u64 = 65_535;

/// Why there is no user name or password. Never shows what was read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error(
        "{reference} cannot be read: {source} (a value that only looks like this is written plain:{reference})"
    )]
    File {
        /// As in the table.
        reference: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is no such variable.
    #[error(
        "{reference} is not set in the environment (a value that only looks like this is written plain:{reference})"
    )]
    Variable {
        /// As in the table.
        reference: String,
    },
    /// Nothing is there, or not what can be sent.
    #[error("{reference} {problem}")]
    Useless {
        /// As in the table.
        reference: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

enum Source<'a> {
    Itself(&'a str),
    File(&'a str),
    Variable(&'a str),
}

impl Credential {
    /// From what stands in the table.
    #[must_use]
    pub fn new(text: impl Into<SecretString>) -> Credential {
        Credential(text.into())
    }

    /// The value as of now.
    pub(super) fn read(&self) -> Result<SecretString, CredentialError> {
        let reference = self.0.expose_secret();
        let value = match Source::of(reference) {
            Source::Itself(text) => return Ok(SecretString::from(text)),
            Source::File(path) => read_file(Path::new(path))
                .map_err(|source| CredentialError::File { reference: reference.to_owned(), source })?,
            Source::Variable(name) => env::var_os(name)
                .ok_or_else(|| CredentialError::Variable { reference: reference.to_owned() })?
                .into_string()
                .map_err(|_| useless(reference, "is not UTF-8 text"))?,
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

/// Not more than could be sent: the path may lead anywhere.
fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > MOST_BYTES) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than a password can be"));
    }
    Ok(text)
}

impl Source<'_> {
    fn of(text: &str) -> Source<'_> {
        match text.strip_prefix("plain:") {
            Some(rest) if rest.starts_with("plain:") || !matches!(Source::of(rest), Source::Itself(_)) => {
                return Source::Itself(rest);
            }
            _ => {}
        }
        match (text.strip_prefix("file:"), text.strip_prefix("env:")) {
            (Some(path), _) if path.starts_with('/') => Source::File(path),
            (_, Some(name)) if is_name(name) => Source::Variable(name),
            _ => Source::Itself(text),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Equal when the table says the same.
impl PartialEq for Credential {
    fn eq(&self, other: &Credential) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential([hidden])")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let value = Credential::new(text).read();
        value.map(|value| value.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_read_anew_each_time_without_its_last_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reference = format!("file:{}", file.path().display());
        fs::write(file.path(), "first word\n").unwrap();
        assert_eq!(read(&reference).unwrap(), "first word");
        fs::write(file.path(), "second\r\n").unwrap();
        assert_eq!(read(&reference).unwrap(), "second");
    }

    #[test]
    fn a_reference_to_nothing_says_which() {
        let error = read("file:/no/such/file").unwrap_err();
        assert!(error.contains("file:/no/such/file cannot be read"), "{error}");
        let error = read("env:NO_SUCH_VARIABLE_HERE").unwrap_err();
        assert!(error.contains("env:NO_SUCH_VARIABLE_HERE is not set"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\n").unwrap();
        assert!(read(&format!("file:{}", file.path().display())).unwrap_err().ends_with("is empty"));
        assert!(read("file:/dev/zero").unwrap_err().contains("longer"));
    }

    #[test]
    fn a_variable_is_read() {
        // Whatever runs this has it.
        assert_eq!(read("env:PATH").unwrap(), env::var("PATH").unwrap());
    }

    #[test]
    fn what_only_looks_like_a_reference_is_itself() {
        for text in ["file:relative", "file:", "env:", "env:1", "env:a b", "plain:", "plain:x", "FILE:/x"] {
            assert_eq!(read(text).unwrap(), text);
        }
        assert_eq!(read("plain:file:/no/such/file").unwrap(), "file:/no/such/file");
        assert_eq!(read("plain:env:HOME").unwrap(), "env:HOME");
        assert_eq!(read("plain:plain:file:/x").unwrap(), "plain:file:/x");
    }

    #[test]
    fn debug_output_hides_it() {
        assert!(!format!("{:?}", Credential::new("hush")).contains("hush"));
    }

    proptest! {
        #[test]
        fn every_text_can_be_written_so_that_it_is_itself(text in "(plain:|file:/|env:|x|:|A|/){0,6}") {
            let plain = matches!(Source::of(&text), Source::Itself(itself) if itself == text);
            let written = if plain { text.clone() } else { format!("plain:{text}") };
            prop_assert_eq!(read(&written).unwrap(), text);
        }
    }
}

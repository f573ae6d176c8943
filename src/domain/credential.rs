//! Secrets and references to them, as the tables have them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A user name, a password or another secret, or a reference to it (`file:/…`, `env:…`), as in the table.
#[derive(Clone, Default)]
pub struct Credential(SecretString);

impl Credential {
    /// Creates a credential from the text in the table.
    #[must_use]
    pub fn new(text: impl Into<SecretString>) -> Credential {
        Credential(text.into())
    }

    /// Returns the text in the table.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Where the value of a credential is.
///
/// Only `file:` with an absolute path and `env:` with a valid name are references. So hardly any existing password is
/// mistaken for one.
pub(crate) enum CredentialSource<'a> {
    /// The text itself.
    Literal(&'a str),
    /// The file with this path.
    File(&'a str),
    /// The environment variable with this name.
    Variable(&'a str),
}

impl CredentialSource<'_> {
    /// Parses the text in the table.
    pub(crate) fn parse(text: &str) -> CredentialSource<'_> {
        match text.strip_prefix("plain:") {
            Some(rest) if rest.starts_with("plain:") || is_reference(rest) => {
                return CredentialSource::Literal(rest);
            }
            _ => {}
        }
        match (text.strip_prefix("file:"), text.strip_prefix("env:")) {
            (Some(path), _) if path.starts_with('/') => CredentialSource::File(path),
            (_, Some(name)) if is_name(name) => CredentialSource::Variable(name),
            _ => CredentialSource::Literal(text),
        }
    }
}

/// Whether the text refers to a secret and is none itself.
pub(crate) fn is_reference(text: &str) -> bool {
    !matches!(CredentialSource::parse(text), CredentialSource::Literal(_))
}

fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Compares the text of the table, not the values.
impl PartialEq for Credential {
    fn eq(&self, other: &Credential) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential([hidden])")
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Credential {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Credential".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }
}

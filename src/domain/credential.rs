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

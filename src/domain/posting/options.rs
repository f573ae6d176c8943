//! The options of a flow's posts: the object `delivery` in `flows.options`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use super::super::credential::Credential;
use super::super::redaction::HIDDEN;

/// How the messages of a flow are posted. The defaults apply to a flow without options.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct DeliveryOptions {
    /// HTTP method.
    pub method: PostMethod,
    /// Additional headers. A value may be a `file:` or `env:` reference.
    pub headers: BTreeMap<String, Credential>,
    /// Authentication. User and password of the URL are used if it is missing.
    pub auth: Option<Auth>,
    /// TLS of an `https` endpoint.
    pub tls: TlsOptions,
    /// Secrets of Standard Webhooks, `whsec_…` or a `file:` or `env:` reference. Each adds a signature.
    pub signing_secrets: Vec<Credential>,
    /// Form of the request.
    pub format: PostFormat,
    /// Time limit of one post in seconds. `HTTP_TIMEOUT_SECONDS` if it is missing.
    #[schemars(range(min = 0.001, max = 86_400))]
    pub timeout_seconds: Option<f64>,
    /// Maximum number of posts per second.
    #[schemars(range(min = 0.001, max = 1_000_000))]
    pub rate_per_second: Option<f64>,
    /// Order of the posts.
    pub order: PostOrder,
    /// Maximum number of posts at the same time, with the order `none`. 8 if it is missing.
    #[schemars(range(min = 1, max = 64))]
    pub max_in_flight: Option<u32>,
    /// Several messages in one post. One message per post if it is missing.
    pub batch: Option<BatchOptions>,
    /// Answers that accept the message. By default `2xx`.
    pub success: Vec<StatusPattern>,
    /// Answers that reject the content of the message, which becomes a dead letter. By default 400, 413, 415 and 422.
    pub message_fault: Vec<StatusPattern>,
    /// Answers of an endpoint that is not available: the flow waits. By default all others.
    pub endpoint_fault: Vec<StatusPattern>,
}

/// The timeout is the only number, and it is never NaN.
impl Eq for DeliveryOptions {}

/// Posts of a flow at the same time, with the order `none`.
const DEFAULT_IN_FLIGHT: u32 = 8;

/// Stands for a secret of Standard Webhooks: 32 zero bytes.
const PLACEHOLDER_KEY: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

impl DeliveryOptions {
    /// Maximum number of posts at the same time.
    #[must_use]
    pub fn max_posts_in_flight(&self) -> usize {
        match self.order {
            PostOrder::Strict => 1,
            PostOrder::None => self.max_in_flight.unwrap_or(DEFAULT_IN_FLIGHT) as usize,
        }
    }

    /// The same with placeholders for secrets and files, for a request that is shown and never sent.
    #[must_use]
    pub fn with_placeholders(&self) -> Self {
        let hidden = || Credential::new(HIDDEN.to_owned());
        let signing = |_: &Credential| Credential::new(PLACEHOLDER_KEY.to_owned());
        Self {
            headers: self.headers.keys().map(|name| (name.clone(), hidden())).collect(),
            auth: self.auth.as_ref().map(|_| Auth::Bearer { token: hidden() }),
            tls: TlsOptions::default(),
            signing_secrets: self.signing_secrets.iter().map(signing).collect(),
            ..self.clone()
        }
    }
}

/// HTTP method of a post.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PostMethod {
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
}

/// Form of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PostFormat {
    /// The payload.
    #[default]
    Json,
    /// `CloudEvents` 1.0: in binary mode, or a batch.
    CloudEvents,
}

/// Order of the posts of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PostOrder {
    /// By sequence number, one after the other.
    #[default]
    Strict,
    /// Any order, several at the same time.
    None,
}

/// Several messages in one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    /// Maximum number of messages.
    #[schemars(range(min = 1, max = 512))]
    pub max_messages: usize,
    /// Maximum bytes of all payloads, unless a single message has more.
    #[serde(default = "BatchOptions::default_max_bytes")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_bytes: usize,
    /// Maximum time in milliseconds that a message waits for others.
    #[serde(default)]
    #[schemars(range(min = 0, max = 60_000))]
    pub max_delay_ms: u64,
}

impl BatchOptions {
    const fn default_max_bytes() -> usize {
        1 << 20
    }
}

/// Authentication at an endpoint. The texts may be `file:` or `env:` references.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "lowercase",
    deny_unknown_fields,
    expecting = "an object with the member type: bearer, basic or oauth2"
)]
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer {
        /// The token.
        token: Credential,
    },
    /// `Authorization: Basic …`
    Basic {
        /// The user name.
        username: Credential,
        /// The password.
        #[serde(default)]
        password: Credential,
    },
    /// `OAuth` 2.0 with client credentials.
    OAuth2 {
        /// Where tokens are issued: http or https.
        token_url: String,
        /// The client.
        client_id: Credential,
        /// Its secret.
        client_secret: Credential,
        /// The requested scopes, separated by blanks.
        scope: Option<String>,
        /// The audience, where the token endpoint needs one.
        audience: Option<String>,
    },
}

/// TLS of an `https` endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct TlsOptions {
    /// PEM file below `CREDENTIALS_DIR` with the certificate authorities of the endpoint, in place of all others.
    pub ca_file: Option<String>,
    /// PEM file below `CREDENTIALS_DIR` with a client certificate.
    pub cert_file: Option<String>,
    /// PEM file below `CREDENTIALS_DIR` with the key of `cert_file`.
    pub key_file: Option<String>,
    /// SHA-256 of the endpoint's certificate in hexadecimal digits, in place of all other checks.
    pub pinned_sha256: Option<String>,
}

impl TlsOptions {
    /// The bytes of `pinned_sha256`; `None` if it is missing or unusable.
    #[must_use]
    pub fn pinned(&self) -> Option<[u8; 32]> {
        let digits: Vec<u32> = self
            .pinned_sha256
            .as_ref()?
            .chars()
            .filter(|character| *character != ':')
            .map(|digit| digit.to_digit(16))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(high * 16 + low).ok(),
                _ => None,
            })
            .collect::<Option<_>>()?;
        bytes.try_into().ok()
    }
}

/// A status such as `404`, or a class such as `4xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPattern {
    /// One status.
    Status(u16),
    /// The first digit of a class.
    Class(u16),
}

impl FromStr for StatusPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
            let class = class.parse().map_err(drop)?;
            return if (1..=5).contains(&class) { Ok(Self::Class(class)) } else { Err(()) };
        }
        Some(text)
            .filter(|text| text.len() == 3)
            .and_then(|text| text.parse().ok())
            .map(Self::Status)
            .ok_or(())
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = StatusPattern;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an HTTP status such as 404, or a class such as \"4xx\"")
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<StatusPattern, E> {
                self.visit_str(&status.to_string())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StatusPattern, E> {
                text.parse().map_err(|()| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An HTTP status such as 404, or a class such as \"4xx\".",
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 999},
                {"type": "string", "pattern": "^([1-5][xX]{2}|[0-9]{3})$"}
            ]
        })
    }
}

//! The options of a flow: the JSON object in `flows.options`.

mod help;

use std::sync::Arc;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use thiserror::Error;

use super::flow::FLOW_ACTION_POST_ENDPOINT;
use super::posting::answers::AnswerRules;
use super::posting::options::{Auth, DeliveryOptions, PostOrder, TlsOptions};
use super::posting::origin::Origin;

pub use self::help::OptionHelp;

/// Everything about a flow that has no column of its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct FlowOptions {
    /// How messages are posted.
    pub delivery: DeliveryOptions,
    /// Whether a flow with the action `STORE_DB` also posts its messages, with the same sequence numbers.
    pub also_post: bool,
}

/// The options of a flow as its messages share them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedOptions {
    /// The options of posts; `None` for the defaults.
    pub delivery: Option<Arc<DeliveryOptions>>,
    /// Whether a stored message is also posted.
    pub also_post: bool,
}

/// The value of `flows.options` cannot be used. The text never shows a value of the options, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("options{}{path}: {problem}", if path.is_empty() { "" } else { "." })]
pub struct UnusableOptions {
    /// The names that lead to the culprit, separated by dots. Empty for the whole value.
    pub path: String,
    /// The problem, and the expected value.
    pub problem: String,
}

impl FlowOptions {
    /// Parses `flows.options` of a flow with this `flows.action`.
    pub fn parse_for(action: &str, text: Option<&str>) -> Result<FlowOptions, UnusableOptions> {
        let options = Self::parse(text)?;
        if options.also_post && action == FLOW_ACTION_POST_ENDPOINT {
            return Err(UnusableOptions {
                path: "also_post".to_owned(),
                problem: "is for flows with the action STORE_DB; a flow with the action POST_ENDPOINT posts without it"
                    .to_owned(),
            });
        }
        Ok(options)
    }

    /// Parses `flows.options`. NULL and blank texts are the defaults.
    pub fn parse(text: Option<&str>) -> Result<FlowOptions, UnusableOptions> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::default()) };
        // serde would accept the values of a struct without their names.
        if text.trim_start().starts_with('[') {
            let problem = "expected an object, found an array".to_owned();
            return Err(UnusableOptions { path: String::new(), problem });
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let options: Option<FlowOptions> =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                let path = error.path().to_string();
                let path = if path == "." { String::new() } else { path };
                UnusableOptions { path, problem: without_values(&error.into_inner().to_string()) }
            })?;
        deserializer
            .end()
            .map_err(|error| UnusableOptions { path: String::new(), problem: error.to_string() })?;
        let options = options.unwrap_or_default();
        options.delivery.check()?;
        Ok(options)
    }

    /// The options of posts; `None` for the defaults.
    #[must_use]
    pub fn delivery(self) -> Option<Arc<DeliveryOptions>> {
        (self.delivery != DeliveryOptions::default()).then(|| Arc::new(self.delivery))
    }

    /// The options as the messages of the flow share them.
    #[must_use]
    pub fn shared(self) -> SharedOptions {
        let also_post = self.also_post;
        SharedOptions { delivery: self.delivery(), also_post }
    }

    /// The JSON Schema of the options.
    #[must_use]
    pub fn schema() -> Schema {
        schema_for!(FlowOptions)
    }
}

/// Headers that the gateway sets itself, or that would change how the request is read.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Prefixes of such headers.
const RESERVED_PREFIXES: &[&str] = &["ce-", "webhook-", "x-gateway-"];

impl DeliveryOptions {
    /// The rules for the status of an answer.
    pub fn answer_rules(&self) -> Result<AnswerRules, UnusableOptions> {
        AnswerRules::new(&self.success, &self.message_fault, &self.endpoint_fault).map_err(|pattern| {
            let problem = format!("{pattern} is in two of success, message_fault and endpoint_fault");
            UnusableOptions { path: "delivery".to_owned(), problem }
        })
    }

    /// Checks the rules that the types do not express.
    fn check(&self) -> Result<(), UnusableOptions> {
        self.answer_rules()?;
        for name in self.headers.keys() {
            require(is_header_name(name), &format!("headers.{name}"), "is no name of an HTTP header")?;
            let authorizes = self.auth.is_some() && name.eq_ignore_ascii_case("authorization");
            require(!authorizes, &format!("headers.{name}"), "is set by auth")?;
            require(!is_reserved(name), &format!("headers.{name}"), "is set by the gateway")?;
        }
        let within = |value: Option<f64>, max: f64| value.is_none_or(|value| (0.001..=max).contains(&value));
        require(within(self.timeout_seconds, 86_400.0), "timeout_seconds", "is not from 0.001 to 86400")?;
        require(within(self.rate_per_second, 1e6), "rate_per_second", "is not from 0.001 to 1000000")?;
        let in_flight = self.max_in_flight;
        require(in_flight.is_none_or(|max| (1..=64).contains(&max)), "max_in_flight", "is not from 1 to 64")?;
        let is_parallel = self.order == PostOrder::None;
        require(in_flight.is_none() || is_parallel, "max_in_flight", "needs \"order\": \"none\"")?;
        if let Some(Auth::OAuth2 { token_url, .. }) = &self.auth {
            require(Origin::of(token_url).is_some(), "auth.token_url", "is no http or https URL")?;
        }
        let TlsOptions { ca_file, cert_file, key_file, pinned_sha256 } = &self.tls;
        require(cert_file.is_some() || key_file.is_none(), "tls.key_file", "needs cert_file")?;
        require(key_file.is_some() || cert_file.is_none(), "tls.cert_file", "needs key_file")?;
        let is_usable = pinned_sha256.is_none() || self.tls.pinned().is_some();
        require(is_usable, "tls.pinned_sha256", "is not 64 hexadecimal digits")?;
        let is_alone = ca_file.is_none() || pinned_sha256.is_none();
        require(is_alone, "tls.pinned_sha256", "takes the place of ca_file; leave one of them out")?;
        if let Some(batch) = self.batch {
            require((1..=512).contains(&batch.max_messages), "batch.max_messages", "is not from 1 to 512")?;
            require((1..=1 << 20).contains(&batch.max_bytes), "batch.max_bytes", "is not from 1 to 1048576")?;
            require(batch.max_delay_ms <= 60_000, "batch.max_delay_ms", "is not from 0 to 60000")?;
        }
        Ok(())
    }
}

fn require(holds: bool, path: &str, problem: &str) -> Result<(), UnusableOptions> {
    if holds {
        return Ok(());
    }
    Err(UnusableOptions { path: format!("delivery.{path}"), problem: problem.to_owned() })
}

/// Whether `name` is a token of HTTP.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Where serde quotes a value: the text before and after it, and the text that takes their place.
const QUOTED_VALUES: &[(&str, &str, &str)] = &[
    ("string \"", "\", expected ", "a string"),
    ("integer `", "`, expected ", "an integer"),
    ("floating point `", "`, expected ", "a floating point number"),
    ("boolean `", "`, expected ", "a boolean"),
    ("unknown variant `", "`, expected ", "unknown value"),
];

/// Removes the values that serde quotes, because a secret may stand in the wrong place.
fn without_values(problem: &str) -> String {
    let errors = ["invalid type: ", "invalid value: "];
    let error = errors.into_iter().find(|error| problem.starts_with(error)).unwrap_or_default();
    let found = problem.strip_prefix(error).unwrap_or(problem);
    for (start, end, instead) in QUOTED_VALUES {
        // The value may contain the text that ends it, so the last one counts.
        if let Some((_, expected)) = found.strip_prefix(start).and_then(|rest| rest.rsplit_once(end)) {
            return format!("{error}{instead}, expected {expected}");
        }
    }
    problem.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::posting::options::{PostFormat, PostMethod};
    use super::*;

    fn parse(text: &str) -> Result<FlowOptions, String> {
        FlowOptions::parse(Some(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_options_are_the_defaults() {
        let defaults = Ok(FlowOptions::default());
        assert_eq!(FlowOptions::parse(None), defaults);
        for text in ["", "  ", "null", "{}", r#"{"delivery": {}}"#] {
            assert_eq!(FlowOptions::parse(Some(text)), defaults, "{text}");
        }
    }

    #[test]
    fn all_options_are_read() {
        let options = parse(
            r#"{"delivery": {"method": "PUT", "headers": {"X-Site": "plant-4"},
                "auth": {"type": "bearer", "token": "file:/run/secrets/token"}, "format": "cloudevents",
                "signing_secrets": ["env:MQTT_S"], "timeout_seconds": 2.5, "success": ["2xx", 409],
                "message_fault": ["4XX"], "endpoint_fault": [404], "rate_per_second": 100, "order": "none",
                "max_in_flight": 8, "batch": {"max_messages": 10},
                "tls": {"ca_file": "/c", "cert_file": "/a", "key_file": "/k"}}}"#,
        )
        .unwrap();
        let delivery = options.delivery;
        assert_eq!((delivery.method, delivery.format), (PostMethod::Put, PostFormat::CloudEvents));
        assert_eq!(delivery.headers["X-Site"].expose(), "plant-4");
        assert!(
            matches!(&delivery.auth, Some(Auth::Bearer { token }) if token.expose() == "file:/run/secrets/token")
        );
        assert_eq!((delivery.timeout_seconds, delivery.signing_secrets.len()), (Some(2.5), 1));
        assert_eq!((delivery.rate_per_second, delivery.max_posts_in_flight()), (Some(100.0), 8));
        assert_eq!(delivery.batch.map(|batch| (batch.max_messages, batch.max_bytes)), Some((10, 1 << 20)));
    }

    #[test]
    fn errors_name_the_option() {
        for (text, error) in [
            (
                r#"{"x": 1}"#,
                "options.x: unknown field `x`, expected `delivery` or `also_post` at line 1 column 4",
            ),
            (r#"{"also_post": 1}"#, "options.also_post: invalid type: an integer, expected a boolean"),
            (r#"{"also_post": "yes"}"#, "options.also_post: invalid type: a string, expected a boolean"),
            (" [1]", "options: expected an object, found an array"),
            (r#"{"delivery": {"method": "GET"}}"#, "options.delivery.method: unknown value, expected"),
            (
                r#"{"delivery": {"success": ["2xy"]}}"#,
                "options.delivery.success[0]: invalid value: a string, expected an HTTP",
            ),
            (
                r#"{"delivery": {"success": [99]}}"#,
                "options.delivery.success[0]: invalid value: a string, expected an HTTP",
            ),
            (
                r#"{"delivery": {"success": ["2xx"], "message_fault": ["2xx"]}}"#,
                "options.delivery: 2xx is in two of",
            ),
            (
                r#"{"delivery": {"headers": {"a b": "c"}}}"#,
                "options.delivery.headers.a b: is no name of an HTTP header",
            ),
            (
                r#"{"delivery": {"headers": {"Host": "c"}}}"#,
                "options.delivery.headers.Host: is set by the gateway",
            ),
            (
                r#"{"delivery": {"headers": {"X-Gateway-Flow": "c"}}}"#,
                "options.delivery.headers.X-Gateway-Flow: is set",
            ),
            (
                r#"{"delivery": {"timeout_seconds": 0}}"#,
                "options.delivery.timeout_seconds: is not from 0.001 to 86400",
            ),
            (
                r#"{"delivery": {"max_in_flight": 2}}"#,
                r#"options.delivery.max_in_flight: needs "order": "none""#,
            ),
            (
                r#"{"delivery": {"batch": {"max_messages": 0}}}"#,
                "options.delivery.batch.max_messages: is not from 1",
            ),
            (
                r#"{"delivery": {"auth": {"type": "basic"}}}"#,
                "options.delivery.auth: missing field `username`",
            ),
            (
                r#"{"delivery": {"auth": "Bearer x"}}"#,
                "options.delivery.auth: invalid type: a string, expected an object with the member type: bearer, basic or oauth2",
            ),
            (
                r#"{"delivery": {"tls": {"key_file": "/k"}}}"#,
                "options.delivery.tls.key_file: needs cert_file",
            ),
            (
                r#"{"delivery": {"tls": {"cert_file": "/a"}}}"#,
                "options.delivery.tls.cert_file: needs key_file",
            ),
            (
                r#"{"delivery": {"tls": {"pinned_sha256": "ab"}}}"#,
                "options.delivery.tls.pinned_sha256: is not 64 hexadecimal digits",
            ),
            (
                &format!(
                    r#"{{"delivery": {{"tls": {{"ca_file": "/c", "pinned_sha256": "{}"}}}}}}"#,
                    "a".repeat(64)
                ),
                "options.delivery.tls.pinned_sha256: takes the place of ca_file",
            ),
            (
                r#"{"delivery": {"batch": {"max_messages": 0}}}"#,
                "options.delivery.batch.max_messages: is not from 1 to 512",
            ),
            (
                r#"{"delivery": {"batch": {"max_messages": 1, "max_bytes": 1048577}}}"#,
                "options.delivery.batch.max_bytes: is not from 1 to 1048576",
            ),
            (
                r#"{"delivery": {"batch": {"max_messages": 1, "max_delay_ms": 60001}}}"#,
                "options.delivery.batch.max_delay_ms: is not from 0 to 60000",
            ),
            (
                r#"{"delivery": {"batch": {"max_bytes": 1}}}"#,
                "options.delivery.batch: missing field `max_messages`",
            ),
            (r#"{"delivery": 1}"#, "options.delivery: invalid type: an integer, expected an object"),
            (r#"{"delivery": {}"#, "options"),
            ("{} x", "options: trailing characters"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }

    #[test]
    fn only_a_flow_that_stores_also_posts() {
        let parse = |action, text| FlowOptions::parse_for(action, Some(text));
        let also = r#"{"also_post": true}"#;
        assert!(parse("STORE_DB", also).is_ok_and(|options| options.shared().also_post));
        assert!(parse("POST_ENDPOINT", r#"{"also_post": false}"#).is_ok());
        let error = parse("POST_ENDPOINT", also).unwrap_err().to_string();
        assert!(error.starts_with("options.also_post: is for flows with the action STORE_DB"), "{error}");
        assert!(parse("MAIL", also).is_ok(), "the action itself is at fault");
    }

    #[test]
    fn errors_hide_values() {
        for text in [
            r#"{"delivery": {"auth": "s3cret \", expected x"}}"#,
            r#"{"delivery": {"auth": {"type": "s3cret"}}}"#,
            r#"{"delivery": {"method": "s3cret`, expected "}}"#,
            r#"{"delivery": {"timeout_seconds": "s3cret"}}"#,
            r#"{"delivery": {"success": ["s3cret"]}}"#,
            r#""s3cret""#,
        ] {
            let found = parse(text).unwrap_err();
            assert!(!found.contains("s3cret"), "{text}: {found}");
        }
        for (text, kind) in [
            (r#"{"delivery": {"auth": {"type": "bearer", "token": 48151623}}}"#, "an integer"),
            (r#"{"delivery": {"headers": {"X-Key": -48151623}}}"#, "an integer"),
            (r#"{"delivery": {"signing_secrets": [48151623.5]}}"#, "a floating point number"),
            (r#"{"delivery": {"batch": {"max_messages": 48151623.5}}}"#, "a floating point number"),
            (r#"{"delivery": {"max_in_flight": 481516230000}}"#, "an integer"),
            (r#"{"delivery": {"headers": {"X-Key": true}}}"#, "a boolean"),
            (r#"{"delivery": {"method": "string \"a\", expected 48151623"}}"#, "unknown value"),
            ("48151623", "an integer"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(&format!("{kind}, expected ")), "{text}: {found}");
            assert!(!found.contains("48151623") && !found.contains("`true`"), "{text}: {found}");
        }
        let options = parse(r#"{"delivery": {"signing_secrets": ["s3cret"]}}"#).unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn pinned_hash_may_have_colons() {
        let pinned = |text: &str| {
            let options = parse(&format!(r#"{{"delivery": {{"tls": {{"pinned_sha256": "{text}"}}}}}}"#));
            options.map(|options| options.delivery.tls.pinned().unwrap())
        };
        let expected = [[0xab, 0x01]; 16].concat();
        assert_eq!(pinned(&"ab01".repeat(16)).unwrap().as_slice(), expected);
        assert_eq!(pinned(["AB:01"; 16].join(":").as_str()).unwrap().as_slice(), expected);
        for text in ["a".repeat(63), "a".repeat(65), "g".repeat(64), "+a".repeat(32)] {
            assert!(pinned(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn schema_knows_every_option() {
        let schema = FlowOptions::schema();
        let properties = &schema.pointer("/$defs/DeliveryOptions/properties").unwrap();
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 14, "{names:?}");
        assert_eq!(schema.pointer("/additionalProperties").unwrap(), false);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}

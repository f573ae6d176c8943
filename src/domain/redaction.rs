//! URLs and options as they are shown to operators: without the secrets in them.

use serde_json::Value;
use url::Url;

use super::credential::is_reference;

/// Replaces a secret.
pub(crate) const HIDDEN: &str = "***";

/// Members of `delivery` that hold no secrets.
const PUBLIC_DELIVERY: &[&str] = &[
    "batch",
    "endpoint_fault",
    "format",
    "max_in_flight",
    "message_fault",
    "method",
    "order",
    "rate_per_second",
    "success",
    "timeout_seconds",
];

/// Options with the path of a file.
const TLS_FILES: &[&str] = &["ca_file", "cert_file", "key_file"];

/// A secret as it is shown: a reference as it is, because the place of a secret is no secret. Any other text is hidden.
#[must_use]
pub fn shown_secret(text: &str) -> &str {
    if is_reference(text) { text } else { HIDDEN }
}

/// The path of a file as it is shown. Somebody may have written the file's content there, so only a text that begins
/// with `/` is shown.
#[must_use]
pub fn shown_path(text: &str) -> &str {
    if text.trim().is_empty() || text.starts_with('/') { text } else { HIDDEN }
}

/// A URL without user, password and the values of its query. A text that is no URL is hidden.
#[must_use]
pub fn shown_url(text: &str) -> String {
    let Some(mut url) = Url::parse(text.trim()).ok().filter(Url::has_host) else {
        return format!("{HIDDEN} (not a URL)");
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let cleared = url.set_username(if has_user { HIDDEN } else { "" }).and(url.set_password(None));
    if cleared.is_err() {
        return HIDDEN.to_owned();
    }
    let query = url.query().map(|query| query.split('&').map(without_value).collect::<Vec<_>>().join("&"));
    url.set_query(query.as_deref());
    url.set_fragment(None);
    url.into()
}

fn without_value(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    }
}

/// The options of a flow with every value hidden that may be a secret. Values of unknown members are hidden, since a
/// misspelt name does not make a secret public. A text that is not JSON is hidden.
#[must_use]
pub fn shown_options(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(mut options) => {
            hide(&mut options, &mut Vec::new());
            options
        }
        Err(_) => Value::String(HIDDEN.to_owned()),
    }
}

fn hide(value: &mut Value, path: &mut Vec<String>) {
    if is_public(path) {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                path.push(name.clone());
                hide(member, path);
                path.pop();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, path)),
        Value::String(text) if names_tls_file(path) => *value = Value::String(shown_path(text).to_owned()),
        Value::String(text) => *value = Value::String(shown_secret(text).to_owned()),
        Value::Number(_) => *value = Value::String(HIDDEN.to_owned()),
        Value::Bool(_) | Value::Null => {}
    }
}

fn names_tls_file(path: &[String]) -> bool {
    matches!(path, [delivery, tls, name]
        if delivery == "delivery" && tls == "tls" && TLS_FILES.contains(&name.as_str()))
}

pub(super) fn is_public(path: &[String]) -> bool {
    match path {
        [delivery, name] if delivery == "delivery" => PUBLIC_DELIVERY.contains(&name.as_str()),
        [delivery, group, name] if delivery == "delivery" => match group.as_str() {
            "auth" => name == "type",
            "tls" => name == "pinned_sha256",
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn user_password_and_query_values_are_hidden() {
        let url = "https://me:s3cret@example.com:8443/hook?token=s3cret&s3cret#s3cret";
        assert_eq!(shown_url(url), "https://***@example.com:8443/hook?token=***&***");
        assert_eq!(shown_url("http://127.0.0.1:8080/in"), "http://127.0.0.1:8080/in");
        for text in ["me:s3cret at nowhere", "s3cret", "", "http://me:s3cret@h:99999/"] {
            assert_eq!(shown_url(text), "*** (not a URL)");
        }
    }

    #[test]
    fn near_references_are_hidden() {
        for text in ["file:relative", "file:", "env:", "env:1", "env:a b", "plain:file:/x", "plain:env:X"] {
            assert_eq!(shown_secret(text), "***", "{text}");
        }
        for text in ["file:/x", "env:X"] {
            assert_eq!(shown_secret(text), text);
        }
    }

    #[test]
    fn secrets_in_options_are_hidden_and_references_are_not() {
        let text = r#"{"also_post": true, "secret": 7, "delivery": {
            "method": "PUT", "success": ["2xx"], "batch": {"max_messages": 3}, "headres": {"X-Key": "s3cret"},
            "headers": {"X-Key": "s3cret", "X-Ref": "env:MQTT_KEY"}, "signing_secrets": ["s3cret", "file:/run/s"],
            "tls": {"ca_file": "/run/ca.pem", "key_file": "s3cret", "key": "/s3cret", "pinned_sha256": "00"},
            "auth": {"type": "basic", "username": "me", "password": "plain:env:s3cret"}}}"#;
        assert_eq!(
            shown_options(text),
            json!({"also_post": true, "secret": "***", "delivery": {
                "method": "PUT", "success": ["2xx"], "batch": {"max_messages": 3}, "headres": {"X-Key": "***"},
                "headers": {"X-Key": "***", "X-Ref": "env:MQTT_KEY"}, "signing_secrets": ["***", "file:/run/s"],
                "tls": {"ca_file": "/run/ca.pem", "key_file": "***", "key": "***", "pinned_sha256": "00"},
                "auth": {"type": "basic", "username": "***", "password": "***"}}})
        );
        assert_eq!(shown_options("{\"a\": \"s3cret"), json!("***"));
    }
}

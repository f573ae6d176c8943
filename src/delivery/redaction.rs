//! Removes secrets from URLs that are shown.

use url::Url;

const HIDDEN: &str = "***";

/// `url` without possible secrets: user name, password, path (webhook paths often are secrets), and query values. Text
/// that is no `http` or `https` URL is hidden entirely.
#[must_use]
pub fn redacted(url: &str) -> String {
    let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.and_then(without_secrets).unwrap_or_else(|| "(not a URL)".to_owned())
}

fn without_secrets(mut url: Url) -> Option<String> {
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    if url.path() != "/" {
        url.set_path(HIDDEN);
    }
    let query = url.query().map(|query| query.split('&').map(without_value).collect::<Vec<_>>().join("&"));
    url.set_query(query.as_deref());
    url.set_fragment(None);
    Some(url.into())
}

fn without_value(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}={HIDDEN}"),
        // Without a name it may be a bare token.
        None => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_password_path_and_query_values_are_hidden() {
        let url = "https://me:s3cret@example.com:8443/services/T0/s3cret?token=abc&x=1&bare#frag";
        assert_eq!(redacted(url), "https://example.com:8443/***?token=***&x=***&***");
    }

    #[test]
    fn plain_url_is_unchanged() {
        assert_eq!(redacted("http://127.0.0.1:8080/"), "http://127.0.0.1:8080/");
        assert_eq!(redacted("http://127.0.0.1:8080"), "http://127.0.0.1:8080/");
    }

    #[test]
    fn invalid_urls_are_hidden() {
        for text in ["me:s3cret at nowhere", "s3cret", "", "ftp://me:s3cret@host/", "http://:s3cret"] {
            assert_eq!(redacted(text), "(not a URL)");
        }
    }
}

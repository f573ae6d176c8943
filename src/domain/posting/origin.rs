//! The origin of an endpoint: scheme, host and port, which several flows may share.

use std::fmt;
use std::sync::Arc;

use url::Url;

/// An origin in its only spelling: lower case, without a default port, user, path or query. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// The origin of `url`; `None` if it is no `http` or `https` URL.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        Self::of_url(&Url::parse(url).ok()?)
    }

    /// The origin of a parsed URL; `None` if it is neither `http` nor `https`.
    #[must_use]
    pub fn of_url(url: &Url) -> Option<Self> {
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        is_http.then(|| Self(url.origin().ascii_serialization().into()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<String> {
        Origin::of(url).map(|origin| origin.to_string())
    }

    #[test]
    fn spellings_of_an_origin_are_equal() {
        for url in ["http://example.com/in", "HTTP://Example.COM:80/?a=1#b", "http://me:s3cret@example.com"] {
            assert_eq!(origin(url).unwrap(), "http://example.com", "{url}");
        }
        for url in ["https://[::1]/", "https://[0:0:0:0:0:0:0:1]:443/", "https://u@[::0001]"] {
            assert_eq!(origin(url).unwrap(), "https://[::1]", "{url}");
        }
        assert_eq!(Origin::of("http://127.1:8080/"), Origin::of("http://2130706433:8080/x"));
        assert_eq!(origin("http://b\u{fc}cher.example").unwrap(), "http://xn--bcher-kva.example");
    }

    #[test]
    fn scheme_host_and_port_tell_origins_apart() {
        let urls =
            ["http://h/", "https://h/", "http://h:443/", "https://h:80/", "http://g/", "http://[::1]/"];
        let origins: std::collections::HashSet<_> = urls.iter().map(|url| Origin::of(url).unwrap()).collect();
        assert_eq!(origins.len(), urls.len());
    }

    #[test]
    fn other_texts_have_no_origin() {
        for text in ["", "h", "ftp://h/", "file:///h", "data:h", "http://", "http://:80/"] {
            assert_eq!(origin(text), None, "{text}");
        }
    }
}

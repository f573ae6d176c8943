//! Decides which redirects are followed, and with which credentials.
//!
//! 307 and 308 request the same POST at another address. Most clients follow 301, 302 and 303 with a GET without a
//! body, whose success proves nothing about the message. These are failures, and so is a redirect from https to http.

use awc::http::StatusCode;
use url::Url;

use super::PostError;
use crate::domain::redaction::HIDDEN;

/// Maximum number of redirects per post.
pub(super) const MAX_REDIRECTS: usize = 5;

/// The URL to which the response with this `status` and `Location` redirects; `None` if it is no redirect. Errors hide
/// what is known of `endpoint`, the URL of the flow.
pub(super) fn next(
    endpoint: &Url,
    from: &Url,
    status: StatusCode,
    location: Option<&str>,
) -> Result<Option<Url>, PostError> {
    let Some(location) = location.filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)) else {
        return Ok(None);
    };
    let refused = |to: Option<&Url>, reason| {
        let to = to.map_or_else(|| "no usable URL".to_owned(), |to| shown(to, endpoint));
        Err(PostError::Redirect { status: status.as_u16(), to, reason })
    };
    let to = from.join(location).ok().filter(|to| matches!(to.scheme(), "http" | "https") && to.has_host());
    let Some(to) = to else {
        return refused(None, "set endpoint_url to where the endpoint is");
    };
    if !matches!(status.as_u16(), 307 | 308) {
        return refused(
            Some(&to),
            "only 307 and 308 are followed, set endpoint_url to where the endpoint is",
        );
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return refused(Some(&to), "https is not left for http");
    }
    Ok(Some(to))
}

/// Whether the credentials of `from` are sent to `to`, by the rule of the Python service's HTTP client: to the same
/// origin, and from http to https on the same host.
pub(super) fn keeps_credentials(from: &Url, to: &Url) -> bool {
    let standard = |url: &Url| url.port().is_none();
    from.origin() == to.origin()
        || (from.host() == to.host()
            && (from.scheme(), to.scheme()) == ("http", "https")
            && standard(from)
            && standard(to))
}

/// Scheme, host and path; user, query and fragment may hold secrets. So may the path of a webhook, therefore its parts
/// are hidden wherever they occur.
pub(super) fn shown(url: &Url, endpoint: &Url) -> String {
    let is_secret = |part: &str| !part.is_empty() && endpoint.path().split('/').any(|known| known == part);
    let path: Vec<&str> =
        url.path().split('/').map(|part| if is_secret(part) { HIDDEN } else { part }).collect();
    format!("{}{}", url.origin().ascii_serialization(), path.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn led(from: &str, status: u16, location: &str) -> Result<Option<String>, String> {
        let status = StatusCode::from_u16(status).unwrap();
        let from = Url::parse(from).unwrap();
        let next = next(&from, &from, status, Some(location));
        next.map(|url| url.map(String::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn redirects_307_and_308_are_followed() {
        for status in [307, 308] {
            assert_eq!(led("http://h/hook", status, "/hook/"), Ok(Some("http://h/hook/".to_owned())));
            assert_eq!(led("http://h/a", status, "https://o:1/b?c"), Ok(Some("https://o:1/b?c".to_owned())));
        }
        assert_eq!(led("http://h/", 200, "/x"), Ok(None));
        assert_eq!(led("http://h/", 304, "/x"), Ok(None));
    }

    #[test]
    fn rejected_redirects_show_no_secret() {
        for status in [301, 302, 303] {
            let error = led("http://h/", status, "https://me:s3cret@o/login?next=s3cret#s3cret").unwrap_err();
            assert!(error.contains("https://o/login") && !error.contains("s3cret"), "{error}");
            let error =
                led("http://h/services/s3cret", status, "https://o:8443/v2/services/s3cret/").unwrap_err();
            assert!(error.contains("https://o:8443/v2/***/***/") && !error.contains("s3cret"), "{error}");
        }
        let downgrade = led("https://h/", 307, "http://h/x?s3cret").unwrap_err();
        assert!(downgrade.contains("http://h/x") && !downgrade.contains("s3cret"), "{downgrade}");
        for location in ["ftp://h/s3cret", "http://:s3cret", "data:s3cret"] {
            let error = led("http://h/", 308, location).unwrap_err();
            assert!(error.contains("no usable URL") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let keeps = |from, to| keeps_credentials(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(keeps("http://h/a", "http://h/b") && keeps("http://h/", "https://h/"));
        for (from, to) in [
            ("http://h/", "http://o/"),
            ("http://h/", "http://h:81/"),
            ("http://h:81/", "https://h/"),
            ("https://h/", "https://h.o/"),
        ] {
            assert!(!keeps(from, to), "{from} {to}");
        }
    }
}

//! A flow: its topic filter, and the action on its messages.

use thiserror::Error;
use url::Url;

use super::message::FlowId;

/// Value of `flows.action`: a row of `data` for each key of the payload.
pub const FLOW_ACTION_STORE_DB: &str = "STORE_DB";
/// Value of `flows.action`: the payload is posted to the flow's endpoint.
pub const FLOW_ACTION_POST_ENDPOINT: &str = "POST_ENDPOINT";

/// A flow as used for routing. Schema and counter are read from the locked row during processing. Action and URL are
/// also checked then, so that a flow with an invalid value still receives its messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Primary key.
    pub id: FlowId,
    /// Its unique name.
    pub code: String,
    /// Topic filter, unparsed.
    pub topic: String,
    /// Action, unparsed; see [`Action::parse`].
    pub action: String,
    /// URL, unparsed; see [`endpoint_url`].
    pub endpoint_url: Option<String>,
}

/// The action of a flow on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// [`FLOW_ACTION_STORE_DB`]
    StoreDb,
    /// [`FLOW_ACTION_POST_ENDPOINT`]
    PostEndpoint,
}

impl Action {
    /// Parses `flows.action`. Letter case and blanks are significant.
    pub fn parse(action: &str) -> Result<Action, UnknownAction> {
        match action {
            FLOW_ACTION_STORE_DB => Ok(Action::StoreDb),
            FLOW_ACTION_POST_ENDPOINT => Ok(Action::PostEndpoint),
            _ => Err(UnknownAction(action.to_owned())),
        }
    }

    /// The value of `flows.action`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::StoreDb => FLOW_ACTION_STORE_DB,
            Action::PostEndpoint => FLOW_ACTION_POST_ENDPOINT,
        }
    }
}

/// The value of `flows.action` is not a known action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown action {0:?}, expected {FLOW_ACTION_STORE_DB} or {FLOW_ACTION_POST_ENDPOINT}")]
pub struct UnknownAction(pub String);

/// Parses `flows.endpoint_url`: http or https, with a host.
pub fn endpoint_url(url: Option<&str>) -> Result<Url, EndpointError> {
    let text = url.map(str::trim).filter(|text| !text.is_empty()).ok_or(EndpointError::Missing)?;
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EndpointError::Scheme(url.scheme().to_owned()));
    }
    // The stored URL is percent-encoded, which can triple its length.
    if url.as_str().len() > MAX_URL_BYTES {
        return Err(EndpointError::TooLong { bytes: url.as_str().len() });
    }
    Ok(url)
}

/// Size of the column `outbox.url`. A percent-encoded URL is ASCII.
const MAX_URL_BYTES: usize = 500;

/// An unusable `flows.endpoint_url`. The texts never contain the URL, which may include credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// NULL or blank.
    #[error("the flow has no endpoint_url")]
    Missing,
    /// Not a URL with a host.
    #[error("endpoint_url is not a URL: {0}")]
    NotAUrl(#[from] url::ParseError),
    /// Another protocol.
    #[error("endpoint_url must begin with http:// or https://, found scheme {0:?}")]
    Scheme(String),
    /// Too long after percent-encoding.
    #[error("endpoint_url has {bytes} bytes after percent-encoding, {MAX_URL_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_case_sensitive() {
        for action in [Action::StoreDb, Action::PostEndpoint] {
            assert_eq!(Action::parse(action.as_str()), Ok(action));
        }
        for unknown in ["", "store_db", " STORE_DB", "DELETE"] {
            assert_eq!(Action::parse(unknown), Err(UnknownAction(unknown.to_owned())));
        }
    }

    #[test]
    fn endpoint_is_http_with_a_host() {
        for good in ["http://h", "https://user:pw@h:8443/p?q=1", "HTTP://[::1]:80/", " http://h/x "] {
            assert!(endpoint_url(Some(good)).is_ok_and(|url| url.has_host()), "{good}");
        }
        for missing in [None, Some(""), Some("  ")] {
            assert_eq!(endpoint_url(missing), Err(EndpointError::Missing));
        }
        for scheme in ["ftp", "file", "unix"] {
            let url = format!("{scheme}://h/x");
            assert_eq!(endpoint_url(Some(&url)), Err(EndpointError::Scheme(scheme.to_owned())));
        }
        for bad in ["h/x", "http://", "http:///", "https://?q", "//h/x", "http://h:99999"] {
            assert!(matches!(endpoint_url(Some(bad)), Err(EndpointError::NotAUrl(_))), "{bad}");
        }
    }

    #[test]
    fn endpoint_errors_hide_the_url() {
        let error = endpoint_url(Some("http://user:secret@h:99999/")).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn long_escaped_urls_are_rejected() {
        let of_spaces = |count| format!("http://h/{}", " a".repeat(count));
        assert!(endpoint_url(Some(&of_spaces(100))).is_ok());
        let too_long = of_spaces(130);
        assert!(too_long.len() < MAX_URL_BYTES);
        assert!(matches!(endpoint_url(Some(&too_long)), Err(EndpointError::TooLong { bytes: 529 })));
    }
}

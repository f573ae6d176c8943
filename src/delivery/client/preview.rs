//! The request of a post as operators see it: without its secrets, and without sending it.

use std::sync::Arc;

use awc::Client;
use awc::http::header::{self, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::origins::request_to;
use super::prepared::Authorization;
use super::request::{PostRequest, WEBHOOK_SIGNATURE};
use super::{EndpointClients, PostError, unix_time};
use crate::domain::outbox::OutboxItem;
use crate::domain::redaction::{HIDDEN, shown_url};

/// Headers that hold secrets wherever their values come from.
const SECRET_HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION];

/// The request of a post. Values of secret headers are hidden, and so are signatures, and user and query values of the
/// URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostPreview {
    /// The HTTP method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The headers, by name.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl EndpointClients {
    /// The request that [`post`](Self::post) would send first for this message. No token is fetched for it.
    ///
    /// # Errors
    /// The options or the URL cannot be used here, so nothing would be sent.
    pub fn preview(&self, item: &Arc<OutboxItem>) -> Result<PostPreview, PostError> {
        let options = self.options.get(item.destination.options.as_ref(), Instant::now().into_std())?;
        let target = self.targets.get_or_parse(&item.destination.url)?;
        let request = PostRequest::new(item, std::slice::from_ref(item), &options, unix_time());
        // Any client will do, because it sends nothing.
        let sent = request_to(&target, &options.method, &Client::new());
        let sent = request.add_headers(&target, sent);
        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), shown_header(name, value));
        let mut headers: Vec<(String, String)> = sent.headers().iter().map(shown).collect();
        if matches!(options.authorization, Authorization::OAuth(_)) {
            headers.push((header::AUTHORIZATION.to_string(), HIDDEN.to_owned()));
        }
        headers.sort();
        Ok(PostPreview {
            method: options.method.to_string(),
            url: shown_url(&item.destination.url),
            headers,
            body: request.body.to_vec(),
        })
    }
}

fn shown_header(name: &HeaderName, value: &HeaderValue) -> String {
    if value.is_sensitive() || SECRET_HEADERS.contains(name) {
        return HIDDEN.to_owned();
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    if name == WEBHOOK_SIGNATURE { without_signatures(&text) } else { text.into_owned() }
}

/// Hides each signature, because with it the endpoint would accept the request from any sender.
fn without_signatures(header: &str) -> String {
    header.split(' ').map(|_| format!("v1,{HIDDEN}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signature_is_hidden() {
        assert_eq!(without_signatures("v1,c2lnbmVk v1,YWdhaW4="), "v1,*** v1,***");
    }
}

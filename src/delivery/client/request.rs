//! The request of a post. It is the same on every hop of a redirect, except for the secrets.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::ClientRequest;
use awc::http::header::{self, HeaderName, HeaderValue};

use super::prepared::{Authorization, PreparedOptions};
use super::targets::PostTarget;
use crate::domain::outbox::OutboxItem;
use crate::domain::posting::batch::{batch_body, batch_key};
use crate::domain::posting::cloud_events::{BATCH_CONTENT_TYPE, EventAttributes};
use crate::domain::posting::options::PostFormat;
use crate::domain::posting::percent::header_text;
use crate::domain::posting::signature::signature_header;

const JSON: &str = "application/json";
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The idempotency key under the name of Standard Webhooks.
static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// Time of the attempt in seconds since 1970, by Standard Webhooks.
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures of Standard Webhooks.
pub(super) static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
static FLOW: HeaderName = HeaderName::from_static("x-gateway-flow");
static MESSAGE_ID: HeaderName = HeaderName::from_static("x-gateway-message-id");
static TOPIC: HeaderName = HeaderName::from_static("x-gateway-topic");

/// A message or a batch, with the headers that describe it.
pub(super) struct PostRequest<'p> {
    pub(super) options: &'p PreparedOptions,
    pub(super) body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The header `Authorization`, in place of the user of the URL.
    pub(super) authorization: Option<HeaderValue>,
    /// No redirect has led to another origin yet.
    pub(super) keeps_secrets: bool,
}

impl<'p> PostRequest<'p> {
    /// Creates the request for messages of a flow. `first` is one of `items`.
    pub(super) fn new(
        first: &OutboxItem,
        items: &[Arc<OutboxItem>],
        options: &'p PreparedOptions,
        now: Duration,
    ) -> Self {
        let mut headers = Vec::with_capacity(16);
        let (key, content_type, body) = match items {
            [item] if !options.is_batch => {
                if options.format == PostFormat::CloudEvents {
                    let attributes = EventAttributes::new(item).into_headers();
                    headers
                        .extend(attributes.map(|(name, text)| (HeaderName::from_static(name), value(text))));
                }
                headers.push((MESSAGE_ID.clone(), item.message_id.into()));
                headers.push((TOPIC.clone(), value(header_text(&item.topic))));
                (item.key.to_string(), JSON, Bytes::from_owner(PostBody(Arc::clone(item))))
            }
            _ => {
                let content_type = match options.format {
                    PostFormat::Json => JSON,
                    PostFormat::CloudEvents => BATCH_CONTENT_TYPE,
                };
                (batch_key(items), content_type, batch_body(items, options.format).into())
            }
        };
        if !options.signing_keys.is_empty() {
            let signature = signature_header(&options.signing_keys, &key, now.as_secs(), &body);
            headers.push((WEBHOOK_SIGNATURE.clone(), value(signature)));
        }
        let key = value(key);
        headers.extend([
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (WEBHOOK_TIMESTAMP.clone(), now.as_secs().into()),
            (FLOW.clone(), value(header_text(&first.flow_code))),
            (WEBHOOK_ID.clone(), key.clone()),
            (IDEMPOTENCY_KEY.clone(), key),
        ]);
        let authorization = match &options.authorization {
            Authorization::Header(words) => Some(words.clone()),
            Authorization::OfUrl | Authorization::OAuth(_) => None,
        };
        Self { options, body, headers, authorization, keeps_secrets: true }
    }

    /// Adds the headers to a request for `target`.
    pub(super) fn add_headers(&self, target: &PostTarget, mut sent: ClientRequest) -> ClientRequest {
        for (name, value) in &self.headers {
            sent.headers_mut().insert(name.clone(), value.clone());
        }
        match (&self.authorization, &target.user) {
            (Some(words), _) if self.keeps_secrets => {
                sent = sent.insert_header((header::AUTHORIZATION, words.clone()));
            }
            (None, Some((name, password))) => {
                sent = sent.basic_auth(name, password.as_deref().unwrap_or_default());
            }
            _ => {}
        }
        for (name, value) in self.options.headers.iter().filter(|_| self.keeps_secrets) {
            sent.headers_mut().insert(name.clone(), value.clone());
        }
        sent
    }
}

/// A header of a text that was made for headers, without a copy.
fn value(text: String) -> HeaderValue {
    // Such a text is ASCII without control characters, so this cannot fail.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The payload of a message, without a copy.
struct PostBody(Arc<OutboxItem>);

impl AsRef<[u8]> for PostBody {
    fn as_ref(&self) -> &[u8] {
        self.0.payload.as_bytes()
    }
}

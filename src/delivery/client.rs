//! Posts messages to endpoints.
//!
//! An awc client limits its connections over all hosts together, and the wait for one counts towards the timeout. A
//! slow endpoint would starve the others, so each origin has its own client. The queue limits the posts in flight.
//!
//! Below awc, `route` makes the connections and `stream` hands awc normalised response heads.
//!
//! An endpoint may close an idle connection at any moment. A post sent at that moment gets no response, which is no
//! fault of endpoint or message, and the failed attempt might be the last. The post is therefore sent once more, on a
//! new connection. Sending it twice is as safe as any retry, because the idempotency key is the same.

mod answer;
mod answer_body;
mod dial;
mod error;
mod flow_tls;
mod oauth;
mod origins;
mod prepared;
mod preview;
mod redirect;
mod request;
mod route;
mod secret_header;
mod stream;
mod targets;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use awc::ClientResponse;
use awc::http::header::{self, HeaderValue};
use tokio::time::{Instant, timeout_at};

use self::answer_body::AnswerBody;
pub use self::error::{Delivered, FailedAnswer, PostError};
use self::oauth::{TokenRoute, Tokens};
use self::origins::{OriginClients, Peer};
use self::prepared::{Authorization, OptionsCache, PreparedOptions};
pub use self::preview::PostPreview;
use self::redirect::MAX_REDIRECTS;
use self::request::PostRequest;
use self::targets::{PostTarget, Targets};
use crate::delivery::tls::Tls;
use crate::domain::outbox::OutboxItem;
use crate::domain::posting::answers::AnswerMeaning;
use crate::domain::posting::options::DeliveryOptions;
use crate::domain::posting::retry_after;
use crate::settings::HttpRoute;

/// Maximum number of response bytes that are kept for operators.
const MAX_ANSWER_TEXT: usize = 2 << 10;

/// Maximum time that the body of a redirect may take; without it, its connection is not used again.
const REDIRECT_BODY_TIMEOUT: Duration = Duration::from_millis(100);

/// Posts to all endpoints. Lives on one thread.
pub struct EndpointClients {
    /// Timeout of one post, from the connect to the last byte of the response.
    timeout: Duration,
    targets: Targets,
    origins: OriginClients,
    options: OptionsCache,
    tokens: Tokens,
}

impl fmt::Debug for EndpointClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointClients").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whether posts with these options can be made by this process now: secrets and files are readable and well-formed.
///
/// # Errors
/// What is in the way. The text never contains a secret.
pub fn check_options(options: &DeliveryOptions, route: &HttpRoute) -> Result<(), PostError> {
    let tls = Tls::new(route.ca_bundle.clone());
    PreparedOptions::new(options, None, &route.credentials, &tls).map(drop)
}

/// Checks the bundle of root certificates, if one is set.
///
/// # Errors
/// Why it cannot be used, and the remedy.
pub fn check_root_certificates(route: &HttpRoute) -> Result<(), String> {
    match &route.ca_bundle {
        Some(bundle) => Tls::new(Some(bundle.clone())).check(),
        None => Ok(()),
    }
}

impl EndpointClients {
    /// Creates clients without connections; a post may take as long as `timeout`.
    #[must_use]
    pub fn new(timeout: Duration, route: &HttpRoute) -> Self {
        let tls = Rc::new(Tls::new(route.ca_bundle.clone()));
        let targets = Targets::new(route.proxies.clone());
        let origins = OriginClients::new(timeout, Rc::clone(&tls), route.networks.clone());
        let options = OptionsCache::new(route.credentials.clone(), tls);
        Self { timeout, targets, origins, options, tokens: Tokens::default() }
    }

    /// Posts messages of one flow, with the options of the first. Without the option `batch`, a single message is
    /// posted unchanged.
    ///
    /// # Errors
    /// Any outcome other than a success status. The status counts, however the rest of the answer ends.
    pub async fn post(&self, items: &[Arc<OutboxItem>]) -> Result<Delivered, PostError> {
        let first = items.first().ok_or(PostError::NoMessage)?;
        let now = Instant::now();
        let options = self.options.get(first.destination.options.as_ref(), now.into_std())?;
        let timeout = options.timeout.unwrap_or(self.timeout);
        let deadline = Deadline { at: now + timeout, timeout };
        let target = self.targets.get_or_parse(&first.destination.url)?;
        let mut request = PostRequest::new(first, items, &options, unix_time());
        let Authorization::OAuth(client) = &options.authorization else {
            return self.follow(target, &mut request, deadline).await;
        };
        let token = self.tokens.get(client, None, self.token_route(deadline)).await?;
        request.authorization = Some(token.clone());
        let outcome = self.follow(Rc::clone(&target), &mut request, deadline).await;
        if !matches!(&outcome, Err(PostError::Status(answer)) if answer.status == 401) {
            return outcome;
        }
        // The token may have been revoked.
        let token = self.tokens.get(client, Some(&token), self.token_route(deadline)).await?;
        request.authorization = Some(token);
        self.follow(target, &mut request, deadline).await
    }

    /// Sends a request, and sends it again where redirects lead.
    async fn follow(
        &self,
        mut target: Rc<PostTarget>,
        request: &mut PostRequest<'_>,
        deadline: Deadline,
    ) -> Result<Delivered, PostError> {
        let options = request.options;
        request.keeps_secrets = true;
        let endpoint = Rc::clone(&target);
        let mut redirects = 0;
        loop {
            let begin = |sent| request.add_headers(&target, sent);
            let peer = Peer { target: &target, tls: options.tls.as_ref().filter(|_| request.keeps_secrets) };
            let sent = self.origins.send(peer, &options.method, begin, &request.body);
            let sent = timeout_at(deadline.at, sent).await;
            let response = sent.map_err(|_| PostError::Timeout(deadline.timeout))??;
            let (status, headers) = (response.status(), response.headers());
            let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
            let next = match options.answers.listed(status.as_u16()) {
                Some(_) => None,
                None => redirect::next(&endpoint.url, &target.url, status, header(header::LOCATION))?,
            };
            let meaning = options.answers.meaning_of(status.as_u16());
            let is_failure = next.is_none() && meaning != AnswerMeaning::Delivered;
            let retry_after = header(header::RETRY_AFTER).filter(|_| is_failure);
            let retry_after = retry_after.and_then(|value| retry_after::parse(value, unix_time()));
            let keeps_open = keeps_open(&response);
            // The body of a redirect only matters for the reuse of its connection.
            let body_deadline = match next {
                Some(_) => deadline.at.min(Instant::now() + REDIRECT_BODY_TIMEOUT),
                None => deadline.at,
            };
            let max_kept = if is_failure { MAX_ANSWER_TEXT } else { 0 };
            let body = AnswerBody::read(response, body_deadline, max_kept).await;
            if keeps_open && body.is_whole {
                self.origins.keep(peer);
            }
            let status = status.as_u16();
            let Some(next) = next else {
                if meaning == AnswerMeaning::Delivered {
                    return Ok(Delivered { status });
                }
                let blames_message = meaning == AnswerMeaning::MessageFault;
                let text = String::from_utf8_lossy(&body.bytes).into_owned();
                return Err(PostError::Status(FailedAnswer { status, blames_message, retry_after, text }));
            };
            if redirects == MAX_REDIRECTS {
                return Err(PostError::TooManyRedirects {
                    status,
                    to: redirect::shown(&next, &endpoint.url),
                });
            }
            redirects += 1;
            request.keeps_secrets &= redirect::keeps_credentials(&target.url, &next);
            target = self.targets.redirected(&target, next)?;
        }
    }

    fn token_route(&self, deadline: Deadline) -> TokenRoute<'_> {
        TokenRoute { origins: &self.origins, targets: &self.targets, deadline: deadline.at }
    }

    /// Drops idle clients.
    pub fn drop_idle(&self) {
        self.origins.drop_idle();
    }
}

/// When a post times out, and how long it may take.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

/// Whether the endpoint keeps the connection after this answer.
fn keeps_open(response: &ClientResponse) -> bool {
    !response.headers().contains_key(header::CONNECTION)
}

/// Time since 1970.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

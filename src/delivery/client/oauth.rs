//! Access tokens by `OAuth` 2.0 with client credentials.
//!
//! A token is shared by all flows with the same client. While one post fetches it, the others wait for the result.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::http::Method;
use awc::http::header::HeaderValue;
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType};
use oauth2::{
    ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::answer_body::AnswerBody;
use super::error::PostError;
use super::origins::{OriginClients, Peer};
use super::secret_header::secret_header;
use super::targets::Targets;
use crate::domain::posting::origin::Origin;

/// Time before the end of a token at which it is replaced, at most a tenth of its life.
const MAX_MARGIN: Duration = Duration::from_secs(30);

/// Maximum number of cached tokens; when it is exceeded, the cache is cleared.
const MAX_TOKENS: usize = 1024;

/// A client of a token endpoint, with its secret read.
pub(super) struct OAuthClient {
    pub(super) token_url: Arc<str>,
    pub(super) id: SecretString,
    pub(super) secret: SecretString,
    pub(super) scope: Option<String>,
    pub(super) audience: Option<String>,
}

/// Identifies a token by everything that is sent for it. A rotated secret therefore gets a token of its own.
type TokenKey = [u8; 32];

impl OAuthClient {
    fn key(&self) -> TokenKey {
        let parts = [
            Some(&*self.token_url),
            Some(self.id.expose_secret()),
            Some(self.secret.expose_secret()),
            self.scope.as_deref(),
            self.audience.as_deref(),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        hash.finalize().into()
    }

    /// The token endpoint without parts that may be secret.
    fn shown(&self) -> String {
        Origin::of(&self.token_url).map_or_else(|| "token_url".to_owned(), |origin| origin.to_string())
    }
}

/// A token as the value of the header `Authorization`.
#[derive(Clone)]
struct BearerToken {
    header: HeaderValue,
    /// When it is replaced; never if its end is unknown.
    until: Option<Instant>,
}

/// The last outcome for a client. The mutex is held while a token is fetched.
#[derive(Default)]
struct TokenSlot {
    token: Option<BearerToken>,
    /// When the last fetch failed, and why.
    failure: Option<(Instant, String)>,
}

/// The tokens of all clients. Lives on one thread.
#[derive(Default)]
pub(super) struct Tokens(RefCell<HashMap<TokenKey, Rc<Mutex<TokenSlot>>>>);

/// The parts of a request to a token endpoint.
#[derive(Clone, Copy)]
pub(super) struct TokenRoute<'a> {
    pub(super) origins: &'a OriginClients,
    pub(super) targets: &'a Targets,
    /// When the post that needs the token times out.
    pub(super) deadline: Instant,
}

impl Tokens {
    /// Returns the header with a token of `client` other than `refused`. Fetches it if there is none.
    pub(super) async fn get(
        &self,
        client: &OAuthClient,
        refused: Option<&HeaderValue>,
        route: TokenRoute<'_>,
    ) -> Result<HeaderValue, PostError> {
        let asked = Instant::now();
        let slot = self.slot(client);
        let fetched = timeout_at(route.deadline, async {
            let mut slot = slot.lock().await;
            if let Some(token) = slot.token.as_ref().filter(|token| token.is_usable(refused)) {
                return Ok(token.header.clone());
            }
            if let Some((_, problem)) = slot.failure.as_ref().filter(|(at, _)| *at > asked) {
                return Err(problem.clone());
            }
            match fetch(client, route).await {
                Ok(token) => {
                    let header = token.header.clone();
                    *slot = TokenSlot { token: Some(token), failure: None };
                    Ok(header)
                }
                Err(problem) => {
                    *slot = TokenSlot { token: None, failure: Some((Instant::now(), problem.clone())) };
                    Err(problem)
                }
            }
        });
        let fetched = fetched.await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        fetched.map_err(|problem| PostError::Token { endpoint: client.shown(), problem })
    }

    fn slot(&self, client: &OAuthClient) -> Rc<Mutex<TokenSlot>> {
        let mut slots = self.0.borrow_mut();
        if slots.len() >= MAX_TOKENS {
            slots.clear();
        }
        Rc::clone(slots.entry(client.key()).or_default())
    }
}

impl BearerToken {
    fn is_usable(&self, refused: Option<&HeaderValue>) -> bool {
        refused != Some(&self.header) && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// Time after which a token that lives for `lifetime` is replaced.
fn use_time(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(MAX_MARGIN.min(lifetime / 10))
}

/// Fetches a token. The error never contains anything that the token endpoint wrote freely, nor a secret.
async fn fetch(client: &OAuthClient, route: TokenRoute<'_>) -> Result<BearerToken, String> {
    let url = TokenUrl::new(client.token_url.to_string()).map_err(|_| "it is no URL".to_owned())?;
    let oauth = BasicClient::new(ClientId::new(client.id.expose_secret().to_owned()))
        .set_client_secret(ClientSecret::new(client.secret.expose_secret().to_owned()))
        .set_token_uri(url);
    let mut request = oauth.exchange_client_credentials();
    for scope in client.scope.iter().flat_map(|scope| scope.split_whitespace()) {
        request = request.add_scope(Scope::new(scope.to_owned()));
    }
    if let Some(audience) = &client.audience {
        request = request.add_extra_param("audience", audience.as_str());
    }
    let status = Cell::new(None);
    let begun = Instant::now();
    let exchange = |request| exchange(client, request, route, &status);
    let answer = request.request_async(&exchange).await.map_err(|error| described(&error, status.get()))?;
    let header = format!("Bearer {}", answer.access_token().secret());
    let header = secret_header(&header).ok_or("its token is no value of an HTTP header")?;
    let until = answer.expires_in().and_then(|lifetime| begun.checked_add(use_time(lifetime)));
    Ok(BearerToken { header, until })
}

fn described(error: &RequestTokenError<PostError, BasicErrorResponse>, status: Option<u16>) -> String {
    let status = status.map_or_else(String::new, |status| format!("HTTP status {status}, "));
    match error {
        RequestTokenError::Request(error) => error.to_string(),
        RequestTokenError::ServerResponse(response) => match response.error() {
            BasicErrorResponseType::Extension(_) => format!("{status}an error code of its own"),
            code => format!("{status}{code}"),
        },
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            format!("{status}the answer is no JSON object of OAuth 2.0")
        }
    }
}

/// Sends a request by the connections of posts. Redirects are not followed.
async fn exchange(
    client: &OAuthClient,
    request: HttpRequest,
    route: TokenRoute<'_>,
    status: &Cell<Option<u16>>,
) -> Result<HttpResponse, PostError> {
    let (parts, body) = request.into_parts();
    let target = route.targets.get_or_parse(&client.token_url)?;
    let finish = |mut sent: awc::ClientRequest| {
        for (name, value) in &parts.headers {
            sent = sent.insert_header((name.as_str(), value.as_bytes()));
        }
        sent
    };
    let peer = Peer { target: &target, tls: None };
    let response = route.origins.send(peer, &Method::POST, finish, &body.into()).await?;
    let code = response.status().as_u16();
    status.set(Some(code));
    let keeps_open = super::keeps_open(&response);
    let answer = AnswerBody::read(response, route.deadline, usize::MAX).await;
    if !answer.is_whole {
        return Err(PostError::Exchange("the answer is cut off or too long".to_owned()));
    }
    if keeps_open {
        route.origins.keep(peer);
    }
    let response = oauth2::http::Response::builder().status(code).body(answer.bytes);
    response.map_err(|error| PostError::Exchange(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_before_their_end() {
        let seconds = Duration::from_secs;
        assert_eq!(use_time(seconds(3600)), seconds(3570));
        assert_eq!(use_time(seconds(100)), seconds(90));
        assert_eq!(use_time(Duration::ZERO), Duration::ZERO);
    }
}

//! Posts messages to endpoints.
//!
//! An awc client bounds its connections over all hosts together, and waiting for one counts in the
//! timeout: a slow endpoint would starve the others. So there is a client for each origin. What
//! bounds the posts in flight is the queue.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::StatusCode;
use awc::http::header;
use awc::{Client, ClientRequest, Connector};
use thiserror::Error;
use url::Url;

use super::tls::Tls;
use crate::domain::outbox::OutboxItem;

const USER_AGENT: &str = concat!("mqtt-gateway/", env!("CARGO_PKG_VERSION"));
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Origins that have a client at a time; the one that was idle for longest gives way.
const MAX_CLIENTS: usize = 256;

/// A client that was idle for longer is dropped, and with it the connections it kept: awc looks at
/// them only when it needs one.
const CLIENT_IDLE: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next post. Servers close idle ones after 2 s (gunicorn), 5 s
/// (uvicorn, node) or more; a post that meets that moment would fail for nothing.
const CONNECTION_IDLE: Duration = Duration::from_secs(1);

/// How much of an answer is read so that its connection can be used again. Nobody needs the answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A post that failed. No variant shows the URL, which may hold secrets.
#[derive(Debug, Error)]
pub enum PostError {
    /// The URL cannot be posted to.
    #[error("not a usable URL: {0}")]
    Url(#[from] url::ParseError),
    /// The URL has no host, or is neither http nor https.
    #[error("not a usable URL: http or https with a host is needed")]
    Scheme,
    /// It is an `https` URL and the system has no root certificates to verify the endpoint with.
    #[error("no https: this system has no root certificates")]
    NoCertificates,
    /// Nobody listens there, the name is unknown, the certificate is not valid …
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The endpoint closed the connection instead of answering.
    #[error("the connection was closed without an answer")]
    NoAnswer,
    /// Sending the request or reading the answer failed.
    #[error("the exchange broke off: {0}")]
    Exchange(String),
    /// The answer was announced to be longer than what came.
    #[error("the answer was cut off after {got} of {announced} bytes")]
    CutOff {
        /// Bytes of the body that came.
        got: usize,
        /// Its `Content-Length`.
        announced: usize,
    },
    /// Connect, request and answer took too long.
    #[error("no complete answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The endpoint answered, and not with success. A redirect is not followed: it would turn the
    /// POST into a GET.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The post ended in a panic.
    #[error("the post ended in a panic")]
    Panicked,
}

/// The clients of all origins. Lives on one thread.
pub struct EndpointClients {
    /// For one post, from the connect to the last byte of the answer.
    timeout: Duration,
    tls: Tls,
    clients: RefCell<HashMap<String, KnownClient>>,
}

struct KnownClient {
    client: Client,
    used: Instant,
}

impl fmt::Debug for EndpointClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointClients").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl EndpointClients {
    /// No connection yet; a post may take as long as `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, tls: Tls::default(), clients: RefCell::default() }
    }

    /// Posts the payload, byte for byte, as JSON.
    ///
    /// # Errors
    /// Whatever is not an answer with a status of success, read to its end or to 64 KiB.
    pub async fn post(&self, item: Arc<OutboxItem>) -> Result<(), PostError> {
        let url = Url::parse(&item.url)?;
        let key = item.key.to_string();
        let request = self.request(url, &key)?;
        let exchange = exchange(request, Bytes::from_owner(Body(item)));
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PostError::Timeout(self.timeout)),
        }
    }

    /// Drops the clients that nobody uses any more.
    pub fn drop_idle(&self) {
        self.clients.borrow_mut().retain(|_, known| known.used.elapsed() < CLIENT_IDLE);
    }

    fn request(&self, mut url: Url, key: &str) -> Result<ClientRequest, PostError> {
        let client = self.client(&url)?;
        let host = host_header(&url)?;
        let user = percent_decoded(url.username());
        let password = url.password().map(percent_decoded);
        url.set_username("").and(url.set_password(None)).map_err(|()| PostError::Scheme)?;
        url.set_fragment(None);
        let request = client
            .post(url.as_str())
            .insert_header((header::HOST, host))
            .insert_header((header::USER_AGENT, USER_AGENT))
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .insert_header((IDEMPOTENCY_KEY, key));
        if user.is_empty() && password.is_none() {
            return Ok(request);
        }
        Ok(request.basic_auth(user, password.unwrap_or_default()))
    }

    fn client(&self, url: &Url) -> Result<Client, PostError> {
        let origin = url.origin().ascii_serialization();
        let mut clients = self.clients.borrow_mut();
        if let Some(known) = clients.get_mut(&origin) {
            known.used = Instant::now();
            return Ok(known.client.clone());
        }
        let client = self.new_client(url.scheme())?;
        if clients.len() >= MAX_CLIENTS {
            let oldest = clients.iter().min_by_key(|(_, known)| known.used).map(|(origin, _)| origin.clone());
            oldest.and_then(|origin| clients.remove(&origin));
        }
        clients.insert(origin, KnownClient { client: client.clone(), used: Instant::now() });
        Ok(client)
    }

    fn new_client(&self, scheme: &str) -> Result<Client, PostError> {
        // Longer than a post may take: what ends it is the one timeout around everything.
        let never = self.timeout.saturating_mul(2);
        let connector = Connector::new()
            .limit(0)
            .timeout(never)
            .handshake_timeout(never)
            .conn_keep_alive(CONNECTION_IDLE);
        let connector = match scheme {
            "http" => connector,
            "https" => connector.rustls_0_23(self.tls.config().ok_or(PostError::NoCertificates)?),
            _ => return Err(PostError::Scheme),
        };
        Ok(Client::builder().connector(connector).disable_timeout().disable_redirects().finish())
    }
}

/// The payload of a message, without a copy.
struct Body(Arc<OutboxItem>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.payload.as_bytes()
    }
}

async fn exchange(request: ClientRequest, body: Bytes) -> Result<(), PostError> {
    let mut response = request.send_body(body).await.map_err(PostError::from)?;
    let status = response.status();
    if !status.is_success() {
        return Err(PostError::Status(status.as_u16()));
    }
    // A body of no bytes is announced by these, whatever the header says.
    let may_have_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let got = match response.body().limit(MAX_ANSWER_BYTES).await {
        Ok(body) => body.len(),
        // The connection goes with the response.
        Err(PayloadError::Overflow) => return Ok(()),
        Err(error) => return Err(PostError::Exchange(error.to_string())),
    };
    match announced {
        Some(announced) if may_have_body && got < announced => Err(PostError::CutOff { got, announced }),
        _ => Ok(()),
    }
}

impl From<SendRequestError> for PostError {
    fn from(error: SendRequestError) -> Self {
        match error {
            SendRequestError::Connect(ConnectError::Disconnected) => Self::NoAnswer,
            SendRequestError::Connect(error) => Self::Connect(error.to_string()),
            SendRequestError::Url(_) => Self::Scheme,
            error => Self::Exchange(error.to_string()),
        }
    }
}

/// awc leaves out the ports 80 and 443 whatever the scheme.
fn host_header(url: &Url) -> Result<String, PostError> {
    let host = url.host_str().ok_or(PostError::Scheme)?;
    Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Users write `%40` for an `@` in a password.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.first_chunk().filter(|_| *first == b'%').copied().and_then(hex_byte);
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_passwords_are_undone_and_other_percent_signs_stay() {
        assert_eq!(percent_decoded("p%40ss%3a%zz%4"), "p@ss:%zz%4");
    }

    #[test]
    fn the_host_header_names_the_port_unless_it_is_the_default() {
        let header = |url: &str| host_header(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(header("http://example.com:443/"), "example.com:443");
        assert_eq!(header("https://example.com:443/"), "example.com");
        assert_eq!(header("http://[::1]:8080/"), "[::1]:8080");
    }
}

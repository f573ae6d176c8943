//! One HTTP client per origin, with the state of its kept connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::fn_service;
use actix_web::error::ParseError;
use actix_web::web::Bytes;
use awc::error::{ConnectError as AwcConnectError, SendRequestError};
use awc::http::header::{self, HeaderValue};
use awc::http::{Method, Uri};
use awc::{Client, ClientRequest, ClientResponse, Connector};

use super::PostError;
use super::flow_tls::{FlowTls, TlsId};
use super::route::{Hop, Route};
use super::targets::{PostTarget, address};
use crate::delivery::tls::Tls;
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::posting::origin::Origin;
use crate::domain::proxies::Proxy;

/// Maximum number of origins with a client; the longest idle client is evicted.
const MAX_CLIENTS: usize = 256;

/// Idle time after which a client and its kept connections are dropped. awc checks kept connections only when it needs
/// one.
const CLIENT_IDLE: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("mqtt-gateway/", env!("CARGO_PKG_VERSION"));

/// Time for which a connection is kept for the next post. Servers close idle connections after 2 s (gunicorn), 5 s
/// (uvicorn, node) or more. A shorter time means fewer posts on a connection that is just being closed.
const CONNECTION_IDLE: Duration = Duration::from_secs(1);

/// The clients of all origins. Lives on one thread.
pub(super) struct OriginClients {
    /// A timeout that never fires, because one outer timeout covers the whole post.
    never: Duration,
    tls: Rc<Tls>,
    networks: Arc<EndpointNetworks>,
    clients: RefCell<HashMap<ClientKey, KnownClient>>,
}

/// An origin and the TLS options of a flow. Flows with other options, such as a client certificate, have another
/// client, so that they never share a connection.
type ClientKey = (Origin, Option<TlsId>);

/// The destination of a request, and the TLS options for it.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) target: &'a PostTarget,
    pub(super) tls: Option<&'a FlowTls>,
}

impl Peer<'_> {
    fn key(self) -> ClientKey {
        (self.target.origin.clone(), self.tls.map(|tls| tls.id))
    }
}

struct KnownClient {
    client: Client,
    used: Instant,
    /// Time at which a connection was last returned to the client.
    kept: Option<Instant>,
}

impl OriginClients {
    pub(super) fn new(post_timeout: Duration, tls: Rc<Tls>, networks: EndpointNetworks) -> Self {
        let networks = Arc::new(networks);
        Self { never: post_timeout.saturating_mul(2), tls, networks, clients: RefCell::default() }
    }

    /// Sends a request to `peer`, which `finish` completes with headers. Returns the head of the answer.
    pub(super) async fn send(
        &self,
        peer: Peer<'_>,
        method: &Method,
        finish: impl Fn(ClientRequest) -> ClientRequest,
        body: &Bytes,
    ) -> Result<ClientResponse, PostError> {
        let may_reuse = self.may_reuse(peer);
        let mut sent = finish(self.request(peer, method)?).send_body(body.clone()).await;
        if may_reuse && sent.as_ref().is_err_and(was_closed) {
            self.forget(peer);
            sent = finish(self.request(peer, method)?).send_body(body.clone()).await;
        }
        Ok(sent?)
    }

    fn request(&self, peer: Peer<'_>, method: &Method) -> Result<ClientRequest, PostError> {
        Ok(request_to(peer.target, method, &self.client(peer)?))
    }

    /// The client for `peer`; created if there is none.
    fn client(&self, peer: Peer<'_>) -> Result<Client, PostError> {
        let key = peer.key();
        let mut clients = self.clients.borrow_mut();
        if let Some(known) = clients.get_mut(&key) {
            known.used = Instant::now();
            return Ok(known.client.clone());
        }
        let client = self.new_client(peer)?;
        if clients.len() >= MAX_CLIENTS {
            let oldest = clients.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| clients.remove(&key));
        }
        clients.insert(key, KnownClient { client: client.clone(), used: Instant::now(), kept: None });
        Ok(client)
    }

    /// Whether a post to `peer` may use a kept connection.
    fn may_reuse(&self, peer: Peer<'_>) -> bool {
        let clients = self.clients.borrow();
        let kept = clients.get(&peer.key()).and_then(|known| known.kept);
        kept.is_some_and(|kept| kept.elapsed() <= CONNECTION_IDLE)
    }

    /// Records that a connection to `peer` is kept.
    pub(super) fn keep(&self, peer: Peer<'_>) {
        if let Some(known) = self.clients.borrow_mut().get_mut(&peer.key()) {
            known.kept = Some(Instant::now());
        }
    }

    /// Ensures that no existing connection to `peer` is reused.
    fn forget(&self, peer: Peer<'_>) {
        self.clients.borrow_mut().remove(&peer.key());
    }

    /// Drops idle clients.
    pub(super) fn drop_idle(&self) {
        self.clients.borrow_mut().retain(|_, known| known.used.elapsed() < CLIENT_IDLE);
    }

    fn route(&self, peer: Peer<'_>) -> Result<Route, PostError> {
        let Peer { target, tls } = peer;
        let roots = || self.tls.config().ok_or(PostError::NoCertificates);
        let endpoint_tls = || tls.map_or_else(roots, |tls| Ok(Arc::clone(&tls.config)));
        let proxy = target.proxy.as_ref().map(Proxy::url);
        let proxy = proxy.and_then(|url| Some((address(url)?, url.scheme() == "https")));
        let proxy = proxy.map(|((host, port), is_tls)| {
            Ok::<_, PostError>(Hop { host, port, tls: is_tls.then(roots).transpose()? })
        });
        Ok(Route {
            endpoint: Hop {
                host: target.host.clone(),
                port: target.port,
                tls: target.is_https.then(endpoint_tls).transpose()?,
            },
            proxy: proxy.transpose()?,
            proxy_authorization: target.proxy_authorization(),
            networks: Arc::clone(&self.networks),
        })
    }

    fn new_client(&self, peer: Peer<'_>) -> Result<Client, PostError> {
        let route = self.route(peer)?;
        // awc treats every origin as plain HTTP, because TLS is handled below it.
        let connect = move |info: ConnectInfo<Uri>| {
            let route = route.clone();
            async move {
                let stream = route.connect().await.map_err(ConnectError::Io)?;
                Ok::<_, ConnectError>(Connection::new(info.request().clone(), stream))
            }
        };
        let connector = Connector::new()
            .connector(fn_service(connect))
            .limit(0)
            .timeout(self.never)
            .conn_keep_alive(CONNECTION_IDLE);
        Ok(Client::builder().connector(connector).disable_timeout().disable_redirects().finish())
    }
}

/// A request with the headers that depend on nothing but `target`.
pub(super) fn request_to(target: &PostTarget, method: &Method, client: &Client) -> ClientRequest {
    let request = client
        .request(method.clone(), target.uri.clone())
        .insert_header((header::HOST, target.host_header.clone()))
        .insert_header((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    match target.proxy_authorization().filter(|_| !target.is_https) {
        Some(words) => request.insert_header((header::PROXY_AUTHORIZATION, words)),
        None => request,
    }
}

/// Whether the connection was closed before the first byte of a response.
fn was_closed(error: &SendRequestError) -> bool {
    match error {
        SendRequestError::Connect(AwcConnectError::Disconnected) => true,
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => matches!(
            error.kind(),
            ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::NotConnected
                | ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

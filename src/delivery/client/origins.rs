//! A client for each origin, and what is known of the connections it keeps.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::fn_service;
use awc::http::Uri;
use awc::{Client, Connector};

use super::PostError;
use super::route::{Hop, Route};
use super::targets::{Target, address};
use crate::delivery::tls::Tls;
use crate::domain::proxies::Proxy;

/// Origins that have a client at a time; the one that was idle for longest gives way.
const MAX_CLIENTS: usize = 256;

/// A client that was idle for longer is dropped, and with it the connections it kept: awc looks at
/// them only when it needs one.
const CLIENT_IDLE: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next post. Servers close idle ones after 2 s (gunicorn), 5 s
/// (uvicorn, node) or more; the shorter it is, the fewer posts meet that moment.
const CONNECTION_IDLE: Duration = Duration::from_secs(1);

/// The clients of all origins. Lives on one thread.
pub(super) struct Origins {
    /// Longer than a post may take: what ends it is the one timeout around everything.
    never: Duration,
    tls: Tls,
    clients: RefCell<HashMap<String, KnownClient>>,
}

struct KnownClient {
    client: Client,
    used: Instant,
    /// When it was last given back a connection.
    kept: Option<Instant>,
}

impl Origins {
    pub(super) fn new(post_timeout: Duration, tls: Tls) -> Self {
        Self { never: post_timeout.saturating_mul(2), tls, clients: RefCell::default() }
    }

    /// The client for `target`, a new one if there is none.
    pub(super) fn client(&self, target: &Target) -> Result<Client, PostError> {
        let mut clients = self.clients.borrow_mut();
        if let Some(known) = clients.get_mut(&target.origin) {
            known.used = Instant::now();
            return Ok(known.client.clone());
        }
        let client = self.new_client(target)?;
        if clients.len() >= MAX_CLIENTS {
            let oldest = clients.iter().min_by_key(|(_, known)| known.used).map(|(origin, _)| origin.clone());
            oldest.and_then(|origin| clients.remove(&origin));
        }
        clients.insert(
            target.origin.clone(),
            KnownClient { client: client.clone(), used: Instant::now(), kept: None },
        );
        Ok(client)
    }

    /// Whether a post to `target` may be sent on a connection that was used before.
    pub(super) fn may_reuse(&self, target: &Target) -> bool {
        let clients = self.clients.borrow();
        let kept = clients.get(&target.origin).and_then(|known| known.kept);
        kept.is_some_and(|kept| kept.elapsed() <= CONNECTION_IDLE)
    }

    /// A connection to the origin of `target` is kept from now on.
    pub(super) fn keep(&self, target: &Target) {
        if let Some(known) = self.clients.borrow_mut().get_mut(&target.origin) {
            known.kept = Some(Instant::now());
        }
    }

    /// No connection made so far to the origin of `target` is used again.
    pub(super) fn forget(&self, target: &Target) {
        self.clients.borrow_mut().remove(&target.origin);
    }

    /// Drops the clients that nobody uses any more.
    pub(super) fn drop_idle(&self) {
        self.clients.borrow_mut().retain(|_, known| known.used.elapsed() < CLIENT_IDLE);
    }

    fn route(&self, target: &Target) -> Result<Route, PostError> {
        let hop = |(host, port), is_tls: bool| {
            let tls = is_tls.then(|| self.tls.config().ok_or(PostError::NoCertificates)).transpose()?;
            Ok::<_, PostError>(Hop { host, port, tls })
        };
        let proxy = target.proxy.as_ref().map(Proxy::url);
        let proxy = proxy.and_then(|url| Some((address(url)?, url.scheme() == "https")));
        Ok(Route {
            endpoint: hop((target.host.clone(), target.port), target.is_https)?,
            proxy: proxy.map(|(address, is_tls)| hop(address, is_tls)).transpose()?,
            proxy_authorization: target.proxy_authorization(),
        })
    }

    fn new_client(&self, target: &Target) -> Result<Client, PostError> {
        let route = self.route(target)?;
        // awc takes every origin for plain HTTP: what it is given is the inside of a connection.
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

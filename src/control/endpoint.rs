//! The addresses of an endpoint, and whether posts may be sent to them.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::lookup_host;
use tokio::time::timeout;
use url::{Host, Url};
use utoipa::ToSchema;

use crate::settings::HttpRoute;

/// Time limit for resolving the name of an endpoint.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses that a post to an endpoint would connect to, as they are now and on this machine.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct EndpointRoute {
    /// Name or address of the endpoint.
    pub host: String,
    /// The proxy, which resolves the name itself.
    pub proxy: Option<String>,
    /// The addresses of the endpoint; none of a name behind a proxy.
    pub addresses: Vec<EndpointAddress>,
    /// Why the name has no address.
    pub problem: Option<String>,
}

/// An address of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointAddress {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Why posts to it are refused.
    pub refused: Option<String>,
}

impl EndpointRoute {
    /// Resolves the endpoint of `url` and checks its addresses by the rule of the posts.
    pub(super) async fn resolve(url: &Url, route: &HttpRoute) -> Self {
        let proxy = route.proxies.for_url(url).map(ToString::to_string);
        let host = url.host_str().unwrap_or_default().to_owned();
        let found = match url.host() {
            Some(Host::Ipv4(address)) => Ok(vec![address.into()]),
            Some(Host::Ipv6(address)) => Ok(vec![address.into()]),
            Some(Host::Domain(name)) if proxy.is_none() => {
                addresses(name, url.port_or_known_default().unwrap_or(80)).await
            }
            Some(Host::Domain(_)) | None => Ok(Vec::new()),
        };
        let (addresses, problem) = match found {
            Ok(addresses) => (addresses, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        let checked = |address: IpAddr| {
            let refused = route.networks.check(address).err().map(|refused| refused.to_string());
            EndpointAddress { address, refused }
        };
        Self { host, proxy, addresses: addresses.into_iter().map(checked).collect(), problem }
    }

    /// Whether each address is refused, so that no post can be sent.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.addresses.is_empty() && self.addresses.iter().all(|address| address.refused.is_some())
    }
}

async fn addresses(name: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    match timeout(RESOLVE_TIMEOUT, lookup_host((name, port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            addresses.dedup();
            Ok(addresses)
        }
        Ok(Err(error)) => Err(format!("the name {name} has no address here: {error}")),
        Err(_) => Err(format!("the name {name} was not resolved within {} s", RESOLVE_TIMEOUT.as_secs())),
    }
}

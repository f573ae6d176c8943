//! Parses the URL of a request once and caches the result.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use awc::http::Uri;
use awc::http::header::HeaderValue;
use awc::http::uri::{PathAndQuery, Scheme};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::PostError;
use super::redirect::keeps_credentials;
use crate::domain::posting::origin::Origin;
use crate::domain::proxies::{Proxies, Proxy};

/// Maximum number of cached URLs; when it is exceeded, the cache is cleared.
const MAX_TARGETS: usize = 1024;

/// The destination of a post.
pub(super) struct PostTarget {
    /// The URL, without user and fragment.
    pub(super) url: Url,
    /// Scheme, host and port, which identify a connection.
    pub(super) origin: Origin,
    pub(super) is_https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The URI for awc, always with the scheme http: TLS is handled below awc.
    pub(super) uri: Uri,
    /// The header `Host`.
    pub(super) host_header: HeaderValue,
    /// Name and password, if the URL contains one of them.
    pub(super) user: Option<User>,
    /// The proxy, if one is used.
    pub(super) proxy: Option<Proxy>,
}

/// Name and password of a URL, unescaped.
pub(super) type User = (String, Option<String>);

impl PostTarget {
    fn new(mut url: Url, proxies: &Proxies) -> Result<Self, PostError> {
        let is_https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(PostError::Scheme),
        };
        let (host, port) = address(&url).ok_or(PostError::Scheme)?;
        let host_header = HeaderValue::try_from(host_header(&url)?).map_err(|_| PostError::Scheme)?;
        let user = user(&url);
        url.set_username("").and(url.set_password(None)).map_err(|()| PostError::Scheme)?;
        url.set_fragment(None);
        let proxy = proxies.for_url(&url).cloned();
        let is_for_proxy = proxy.is_some() && !is_https;
        let uri = request_uri(&url, is_for_proxy).ok_or(PostError::Scheme)?;
        let origin = Origin::of_url(&url).ok_or(PostError::Scheme)?;
        Ok(Self { url, origin, is_https, host, port, uri, host_header, user, proxy })
    }
}

impl PostTarget {
    /// The header `Proxy-Authorization` for the user of the proxy.
    pub(super) fn proxy_authorization(&self) -> Option<String> {
        let (name, password) = user(self.proxy.as_ref()?.url())?;
        let words = format!("{name}:{}", password.unwrap_or_default());
        Some(format!("Basic {}", BASE64_STANDARD.encode(words)))
    }
}

/// Host without brackets, and port.
pub(super) fn address(url: &Url) -> Option<(String, u16)> {
    let host = match url.host()? {
        Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    };
    Some((host, url.port_or_known_default()?))
}

/// Name and password, if the URL contains one of them. An `@` in a password is written as `%40`.
pub(super) fn user(url: &Url) -> Option<User> {
    let (name, password) = (percent_decoded(url.username()), url.password().map(percent_decoded));
    (!name.is_empty() || password.is_some()).then_some((name, password))
}

/// The request URI for awc, which writes its path into the request. A proxy needs the whole URL there.
fn request_uri(url: &Url, is_for_proxy: bool) -> Option<Uri> {
    let mut parts = Uri::try_from(url.as_str()).ok()?.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    if is_for_proxy {
        parts.path_and_query = Some(PathAndQuery::try_from(url.as_str()).ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// The targets of the URLs that were posted to. Lives on one thread.
#[derive(Default)]
pub(super) struct Targets {
    proxies: Proxies,
    known: RefCell<HashMap<Arc<str>, Rc<PostTarget>>>,
}

impl Targets {
    pub(super) fn new(proxies: Proxies) -> Self {
        Self { proxies, known: RefCell::default() }
    }

    /// The target of a redirect from `from`. User and password in the location are ignored.
    pub(super) fn redirected(&self, from: &PostTarget, to: Url) -> Result<Rc<PostTarget>, PostError> {
        let user = from.user.clone().filter(|_| keeps_credentials(&from.url, &to));
        Ok(Rc::new(PostTarget { user, ..PostTarget::new(to, &self.proxies)? }))
    }

    /// The target of `url`.
    pub(super) fn get_or_parse(&self, url: &Arc<str>) -> Result<Rc<PostTarget>, PostError> {
        let mut known = self.known.borrow_mut();
        if let Some(target) = known.get(url) {
            return Ok(Rc::clone(target));
        }
        let target = Rc::new(PostTarget::new(Url::parse(url)?, &self.proxies)?);
        if known.len() >= MAX_TARGETS {
            known.clear();
        }
        known.insert(Arc::clone(url), Rc::clone(&target));
        Ok(target)
    }
}

/// The header `Host`. awc would omit the ports 80 and 443 for any scheme.
fn host_header(url: &Url) -> Result<String, PostError> {
    let host = url.host_str().ok_or(PostError::Scheme)?;
    Ok(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Decodes `%XX`. A percent sign without two hexadecimal digits is kept.
fn percent_decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_password_escapes_are_decoded() {
        assert_eq!(percent_decoded("p%40ss%3a%zz%4"), "p@ss:%zz%4");
    }

    #[test]
    fn host_header_omits_the_default_port() {
        let header = |url: &str| host_header(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(header("http://example.com:443/"), "example.com:443");
        assert_eq!(header("https://example.com:443/"), "example.com");
        assert_eq!(header("http://[::1]:8080/"), "[::1]:8080");
    }

    #[test]
    fn address_excludes_user_and_fragment() {
        let target =
            Targets::default().get_or_parse(&"http://me:p%40ss@example.com/in?a=1#here".into()).unwrap();
        assert_eq!(target.uri.to_string(), "http://example.com/in?a=1");
        assert_eq!(target.user, Some(("me".to_owned(), Some("p@ss".to_owned()))));
        assert_eq!(target.origin.to_string(), "http://example.com");
    }

    #[test]
    fn remembered_urls_are_bounded() {
        let targets = Targets::default();
        for number in 0..=MAX_TARGETS {
            targets.get_or_parse(&format!("http://localhost/{number}").into()).unwrap();
        }
        assert!(targets.known.borrow().len() <= MAX_TARGETS);
    }
}

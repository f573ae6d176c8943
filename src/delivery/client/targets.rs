//! What a URL says of the request, read once and not again for each message.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use awc::http::Uri;
use awc::http::header::HeaderValue;
use awc::http::uri::Scheme;
use url::{Host, Url};

use super::PostError;
use super::redirect::keeps_credentials;

/// URLs that are remembered; when there are more, all are read anew.
const MAX_TARGETS: usize = 1024;

/// Where a post goes.
pub(super) struct Target {
    /// The URL, without user and fragment.
    pub(super) url: Url,
    /// Scheme, host and port: what a connection is for.
    pub(super) origin: String,
    pub(super) is_https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What awc is asked for: it knows no https, which is made below it.
    pub(super) uri: Uri,
    /// The header `Host`.
    pub(super) host_header: HeaderValue,
    /// Name and password, if the URL has one of them.
    pub(super) user: Option<(String, Option<String>)>,
}

impl Target {
    fn read(url: &str) -> Result<Self, PostError> {
        Self::new(Url::parse(url)?)
    }

    fn new(mut url: Url) -> Result<Self, PostError> {
        let is_https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(PostError::Scheme),
        };
        let host = match url.host().ok_or(PostError::Scheme)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port_or_known_default().ok_or(PostError::Scheme)?;
        let host_header = HeaderValue::try_from(host_header(&url)?).map_err(|_| PostError::Scheme)?;
        let (name, password) = (percent_decoded(url.username()), url.password().map(percent_decoded));
        let user = (!name.is_empty() || password.is_some()).then_some((name, password));
        url.set_username("").and(url.set_password(None)).map_err(|()| PostError::Scheme)?;
        url.set_fragment(None);
        let mut parts = Uri::try_from(url.as_str()).map_err(|_| PostError::Scheme)?.into_parts();
        parts.scheme = Some(Scheme::HTTP);
        let uri = Uri::from_parts(parts).map_err(|_| PostError::Scheme)?;
        let origin = url.origin().ascii_serialization();
        Ok(Self { url, origin, is_https, host, port, uri, host_header, user })
    }

    /// Where a redirect leads. What user and password it names itself does not count.
    pub(super) fn redirected(&self, to: Url) -> Result<Self, PostError> {
        let user = self.user.clone().filter(|_| keeps_credentials(&self.url, &to));
        Ok(Self { user, ..Self::new(to)? })
    }
}

/// The targets of the URLs that were posted to. Lives on one thread.
#[derive(Default)]
pub(super) struct Targets {
    known: RefCell<HashMap<Arc<str>, Rc<Target>>>,
}

impl Targets {
    /// What `url` says.
    pub(super) fn of(&self, url: &Arc<str>) -> Result<Rc<Target>, PostError> {
        let mut known = self.known.borrow_mut();
        if let Some(target) = known.get(url) {
            return Ok(Rc::clone(target));
        }
        let target = Rc::new(Target::read(url)?);
        if known.len() >= MAX_TARGETS {
            known.clear();
        }
        known.insert(Arc::clone(url), Rc::clone(&target));
        Ok(target)
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

    #[test]
    fn user_and_fragment_are_no_part_of_the_address() {
        let target = Target::read("http://me:p%40ss@example.com/in?a=1#here").unwrap();
        assert_eq!(target.uri.to_string(), "http://example.com/in?a=1");
        assert_eq!(target.user, Some(("me".to_owned(), Some("p@ss".to_owned()))));
        assert_eq!(target.origin, "http://example.com");
    }

    #[test]
    fn however_many_urls_there_are_few_are_remembered() {
        let targets = Targets::default();
        for number in 0..=MAX_TARGETS {
            targets.of(&format!("http://localhost/{number}").into()).unwrap();
        }
        assert!(targets.known.borrow().len() <= MAX_TARGETS);
    }
}

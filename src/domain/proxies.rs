//! Proxy selection for HTTP endpoints, by the rules of Python's `requests`, which the former service used.

use std::fmt;

use url::{Host, Url};

/// The proxies, and the hosts without a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Proxy of `http` endpoints.
    pub http: Option<Proxy>,
    /// Proxy of `https` endpoints.
    pub https: Option<Proxy>,
    /// Proxy of schemes without a proxy of their own.
    pub all: Option<Proxy>,
    /// Hosts without a proxy.
    pub bypass: Bypass,
}

impl Proxies {
    /// Returns the proxy for `url`, or `None` for a direct connection.
    #[must_use]
    pub fn for_url(&self, url: &Url) -> Option<&Proxy> {
        let of_scheme = if url.scheme() == "https" { &self.https } else { &self.http };
        of_scheme.as_ref().or(self.all.as_ref()).filter(|_| !self.bypass.covers(url))
    }
}

/// The URL of a proxy. User and password are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

impl Proxy {
    /// Parses `http://user:password@host:port`. `https` selects TLS to the proxy; the default scheme is `http`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).map(Self)
    }

    /// The whole URL, with user and password.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Hosts without a proxy: the entries of `NO_PROXY`, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bypass(Vec<String>);

impl Bypass {
    /// Parses comma-separated names, addresses and networks.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.to_lowercase().replace(char::is_whitespace, "");
        Self(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host() else {
            return false;
        };
        let name = match host {
            Host::Ipv6(address) => address.to_string(),
            _ => host.to_string(),
        };
        let with_port = url.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        self.0.iter().any(|entry| {
            let domain = entry.trim_start_matches('.');
            let is_below = |name: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            let is_named = |name: &str| name == domain || is_below(name);
            entry == "*" || is_named(&name) || is_named(&with_port) || contains(entry, &host)
        })
    }
}

/// Whether `network`, such as `10.0.0.0/8`, contains the host.
fn contains<S>(network: &str, host: &Host<S>) -> bool {
    let (Some((base, bits)), Host::Ipv4(address)) = (network.split_once('/'), host) else {
        return false;
    };
    let (Ok(Host::Ipv4(base)), Ok(bits)) = (Host::parse(base), bits.parse::<u32>()) else {
        return false;
    };
    let mask = |address: u32| 32_u32.checked_sub(bits).and_then(|shift| address.checked_shr(shift));
    (1..=32).contains(&bits) && mask(u32::from(base)) == mask(u32::from(*address))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn covers(bypass: &str, url: &str) -> bool {
        Bypass::parse(bypass).covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn proxy_is_selected_by_scheme() {
        let proxy = |text| Proxy::parse(text);
        let proxies = Proxies { http: proxy("h:1"), all: proxy("http://a:2"), ..Proxies::default() };
        let of = |url: &str| proxies.for_url(&Url::parse(url).unwrap()).map(ToString::to_string);
        assert_eq!(of("http://x/").as_deref(), Some("http://h:1"));
        assert_eq!(of("https://x/").as_deref(), Some("http://a:2"));
        assert_eq!(Proxies::default().for_url(&Url::parse("http://x/").unwrap()), None);
    }

    #[test]
    fn proxy_hides_its_credentials() {
        let proxy = Proxy::parse("http://me:s3cret@proxy:3128/").unwrap();
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        assert!(!format!("{proxy:?}").contains("s3cret"));
        for bad in ["socks5://h:1", "http://", "", "h:99999"] {
            assert_eq!(Proxy::parse(bad), None, "{bad}");
        }
    }

    /// Expected values are those of `requests.utils.should_bypass_proxies`.
    #[test]
    fn bypass_matches_python_requests() {
        for (bypass, url) in [
            ("*", "http://anything/"),
            ("Example.COM", "http://example.com/"),
            ("example.com", "http://a.example.com:8080/"),
            (".example.com", "http://example.com/"),
            ("a, example.com:8080", "http://example.com:8080/"),
            ("10.0.0.0/8", "http://10.1.2.3:80/"),
            ("127.0.0.1", "http://127.0.0.1:31034/"),
            ("::1", "http://[::1]:80/"),
        ] {
            assert!(covers(bypass, url), "{bypass} {url}");
        }
        for (bypass, url) in [
            ("", "http://example.com/"),
            ("ple.com", "http://example.com/"),
            (",", "http://example.com/"),
            ("example.com", "http://example.com.evil/"),
            ("example.com:8081", "http://example.com:8080/"),
            ("10.0.0.0/8", "http://11.1.2.3/"),
            ("10.0.0.0/33", "http://10.1.2.3/"),
            ("10.0.0.0/0", "http://10.1.2.3/"),
            ("7.0.0.1", "http://127.0.0.1/"),
        ] {
            assert!(!covers(bypass, url), "{bypass} {url}");
        }
    }
}

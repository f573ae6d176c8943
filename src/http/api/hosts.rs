//! Names under which the API may be called.
//!
//! A page of another site may have its name resolved to the address of the gateway. Browsers send that name in `Host`,
//! and the site in `Origin`. So both are checked.

use std::net::IpAddr;

/// Whether the header `Host` names an address, `localhost` or one of `hosts`.
pub(super) fn is_own_host(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host).to_lowercase();
    let name = name.trim_end_matches('.');
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || name == "localhost" || hosts.iter().any(|own| own == name)
}

/// Whether the header `Origin` names the host of the request.
pub(super) fn is_own_origin(origin: &str, host: &str) -> bool {
    [("http://", ":80"), ("https://", ":443")].iter().any(|(scheme, port)| {
        let rest = origin.strip_prefix(scheme);
        let plain = |text: &str| text.strip_suffix(port).unwrap_or(text).to_lowercase();
        rest.is_some_and(|rest| plain(rest) == plain(host))
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_own() {
        let hosts = ["gateway.example".to_owned()];
        for own in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.0.0.7:80",
            "localhost",
            "LocalHost:8080",
            "gateway.example",
            "Gateway.Example:443",
            "gateway.example.",
        ] {
            assert!(is_own_host(own, &hosts), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "gateway.example.evil.example",
            "user@127.0.0.1",
            "127.0.0.1:80:80",
        ] {
            assert!(!is_own_host(foreign, &hosts), "{foreign}");
        }
    }

    #[test]
    fn only_the_own_host_is_an_own_origin() {
        for origin in
            ["http://gateway.example:8080", "https://gateway.example:8080", "http://Gateway.example:8080"]
        {
            assert!(is_own_origin(origin, "gateway.example:8080"), "{origin}");
        }
        assert!(is_own_origin("https://gateway.example", "gateway.example:443"));
        for origin in
            ["null", "http://evil.example", "http://gateway.example", "gateway.example:8080", "file://"]
        {
            assert!(!is_own_origin(origin, "gateway.example:8080"), "{origin}");
        }
    }
}

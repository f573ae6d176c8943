//! Lists of hosts: `a`, `a:3306,b:3307`, `[::1]:3306,db`.

use std::net::Ipv6Addr;

use super::servers::{ServerAddress, Servers};

/// Reason why a host list is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostListError {
    /// An element without a host.
    NoHost,
    /// An invalid port.
    Port,
}

/// Parses a host list. An element without a port gets `default_port`.
pub(super) fn parse(list: &str, default_port: u16) -> Result<Servers, HostListError> {
    let addresses: Result<Vec<_>, _> =
        list.split(',').map(|server| address(server.trim(), default_port)).collect();
    Servers::new(addresses?).ok_or(HostListError::NoHost)
}

fn address(server: &str, default_port: u16) -> Result<ServerAddress, HostListError> {
    let (host, port) = host_and_port(server, default_port).ok_or(HostListError::Port)?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(HostListError::NoHost);
    }
    Ok(ServerAddress { host: host.to_owned(), port })
}

/// Parses `host`, `host:port`, `::1`, `[::1]` or `[::1]:port`; none if the port is invalid.
pub(super) fn host_and_port(server: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match server.strip_prefix('[').and_then(|server| server.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        // An IPv6 address without brackets cannot have a port.
        None if server.parse::<Ipv6Addr>().is_ok() => (server, ""),
        None => server.split_once(':').unwrap_or((server, "")),
    };
    if port.is_empty() {
        return Some((host, default_port));
    }
    port.parse().ok().filter(|port| *port > 0).map(|port| (host, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_optional() {
        for (list, expected) in [
            ("db", "db:3306"),
            ("db:3307", "db:3307"),
            ("a,b", "a:3306,b:3306"),
            ("a:1, b:2 ,c", "a:1,b:2,c:3306"),
            ("::1", "[::1]:3306"),
            ("[::1],[fe80::2]:7", "[::1]:3306,[fe80::2]:7"),
        ] {
            assert_eq!(parse(list, 3306).unwrap().to_string(), expected, "{list}");
        }
    }

    #[test]
    fn invalid_lists_are_rejected() {
        for list in ["", ",", "a,,b", "a,", "a b", ":3306"] {
            assert_eq!(parse(list, 3306).err(), Some(HostListError::NoHost), "{list}");
        }
        for list in ["a:0", "a:x,b", "a,b:65536", "[::1]:no", "a:1:2"] {
            assert_eq!(parse(list, 3306).err(), Some(HostListError::Port), "{list}");
        }
    }

    #[test]
    fn clones_share_the_server_in_use() {
        let servers = parse("a,b,c", 1).unwrap();
        let clone = servers.clone();
        assert_eq!(servers.by_preference().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(servers.switch_to(1).unwrap().host, "a");
        assert_eq!(clone.by_preference().collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(clone.switch_to(1), None);
    }
}

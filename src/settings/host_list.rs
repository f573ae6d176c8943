//! Lists of hosts: `a`, `a:3306,b:3307`, `[::1]:3306,db`.

use std::net::Ipv6Addr;

use super::servers::{ServerAddress, Servers};

/// Why a text is no list of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostListError {
    /// An element without a host.
    NoHost,
    /// A port that is none.
    Port,
}

/// Reads the list; an element without a port has `default_port`.
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

/// `host`, `host:port`, `::1`, `[::1]` or `[::1]:port`; none for a port that is none.
pub(super) fn host_and_port(server: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match server.strip_prefix('[').and_then(|server| server.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        // An IPv6 address without brackets has no place for a port.
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
    fn hosts_are_read_with_and_without_ports() {
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
    fn wrong_lists_are_refused() {
        for list in ["", ",", "a,,b", "a,", "a b", ":3306"] {
            assert_eq!(parse(list, 3306).err(), Some(HostListError::NoHost), "{list}");
        }
        for list in ["a:0", "a:x,b", "a,b:65536", "[::1]:no", "a:1:2"] {
            assert_eq!(parse(list, 3306).err(), Some(HostListError::Port), "{list}");
        }
    }

    #[test]
    fn the_server_in_use_is_tried_first_and_clones_agree_on_it() {
        let servers = parse("a,b,c", 1).unwrap();
        let clone = servers.clone();
        assert_eq!(servers.by_preference().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(servers.switch_to(1).unwrap().host, "a");
        assert_eq!(clone.by_preference().collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(clone.switch_to(1), None);
    }
}

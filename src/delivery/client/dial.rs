//! Connects to a host at an address that posts may be sent to.
//!
//! The address of the connection is checked, not that of an earlier lookup, because a name may have another address a
//! moment later.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};

use super::stream::Wire;
use crate::domain::posting::address_guard::EndpointNetworks;

/// Name resolution and connections. Tests replace it, so that they connect to no refused address.
pub(super) trait Network {
    /// Returns the addresses of a host.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
    /// Connects to an address.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>>;
}

/// The network of the operating system.
pub(super) struct System;

impl Network for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
        let socket = TcpStream::connect(address).await?;
        // A request is written in pieces, which must not wait for the acknowledgement of earlier ones. A failure here
        // only slows the post down.
        let _ = socket.set_nodelay(true);
        Ok(Box::new(socket))
    }
}

/// Connects to the first address of `host` that is allowed and reachable.
pub(super) async fn dial(
    network: &impl Network,
    allowed: &EndpointNetworks,
    host: &str,
    port: u16,
) -> io::Result<Box<dyn Wire>> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in network.resolve(host, port).await? {
        if let Err(refused) = allowed.check(address.ip()) {
            failure = io::Error::new(io::ErrorKind::PermissionDenied, refused);
            continue;
        }
        match network.connect(address).await {
            Ok(wire) => return Ok(wire),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Checks a host that a proxy connects to. Only an address can be checked here: the proxy resolves names.
pub(super) fn check_behind_proxy(allowed: &EndpointNetworks, host: &str) -> io::Result<()> {
    match host.parse::<IpAddr>() {
        Ok(address) => {
            allowed.check(address).map_err(|refused| io::Error::new(io::ErrorKind::PermissionDenied, refused))
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::cell::RefCell;

    use url::Url;

    use super::super::targets::address;
    use super::*;

    /// Resolves literal addresses as the system does and all names to `answers`. Records connections.
    #[derive(Default)]
    struct Fake {
        answers: RefCell<Vec<Vec<IpAddr>>>,
        connected: RefCell<Vec<IpAddr>>,
    }

    impl Network for Fake {
        async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            let found = match host.parse() {
                Ok(address) => vec![address],
                Err(_) => self.answers.borrow_mut().pop().unwrap_or_default(),
            };
            Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        }

        async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
            self.connected.borrow_mut().push(address.ip());
            Ok(Box::new(tokio::io::duplex(1).0))
        }
    }

    fn connect(network: &Fake, url: &str) -> Result<(), String> {
        let (host, port) = address(&Url::parse(url).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dialled = runtime.block_on(dial(network, &EndpointNetworks::All, &host, port));
        dialled.map(drop).map_err(|error| error.to_string())
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn no_spelling_of_a_refused_address_is_dialled() {
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "169.254.43518",
            "169.16689662",
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "0251.0376.0251.0376",
            "0251.254.0xa9.254",
            "169.0xfea9fe",
            "025177524776",
            "%31%36%39.254.169.254",
            "１６９.254.169.254",
            "169。254。169。254",
            "169.254.169.254:80",
            "user:pw@169.254.169.254",
            "0",
            "0.0.0.0",
            "0x0",
            "00000000",
            "0.0",
            "255.255.255.255",
            "4294967295",
            "224.0.0.1",
            "0xe0000001",
            "[::]",
            "[0:0:0:0:0:0:0:0]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[0:0:0:0:0:ffff:a9fe:a9fe]",
            "[::ffff:0:169.254.169.254]",
            "[::a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::a9fe:a9fe]",
            "[2002:a9fe:a9fe::]",
            "[2001:0:1::5601:5601]",
            "[fe80::1]",
            "[fe80::a9fe:a9fe]",
            "[ff02::1]",
            "[ff0e::1]",
            "[fd00:ec2::254]",
            "[FD00:EC2::0254]",
            "[fd00:0ec2:0:0:0:0:0:254]",
            "[::ffff:0.0.0.0]",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            let network = Fake::default();
            let Ok(url) = Url::parse(&format!("http://{host}/")) else {
                panic!("{host} is no URL");
            };
            let error = connect(&network, url.as_str()).unwrap_err();
            assert!(error.contains("is refused"), "{host}: {error}");
            assert_eq!(network.connected.take(), [] as [IpAddr; 0], "{host}");
        }
    }

    #[test]
    fn refused_addresses_of_a_name_are_skipped() {
        let network = Fake::default();
        network.answers.borrow_mut().push(addresses(&["169.254.169.254", "10.0.0.7", "10.0.0.8"]));
        assert_eq!(connect(&network, "http://example.com/"), Ok(()));
        assert_eq!(network.connected.take(), addresses(&["10.0.0.7"]));
        network.answers.borrow_mut().push(addresses(&["::ffff:169.254.169.254", "fe80::1"]));
        assert!(connect(&network, "http://example.com/").unwrap_err().contains("fe80::1 is refused"));
        assert!(network.connected.take().is_empty());
    }

    #[test]
    fn each_connection_is_checked() {
        let network = Fake::default();
        *network.answers.borrow_mut() = vec![addresses(&["169.254.169.254"]), addresses(&["10.0.0.7"])];
        assert_eq!(connect(&network, "http://example.com/"), Ok(()));
        assert!(connect(&network, "http://example.com/").is_err(), "the name has another address now");
        assert_eq!(network.connected.take(), addresses(&["10.0.0.7"]));
    }

    #[test]
    fn name_without_address_is_an_error() {
        assert_eq!(
            connect(&Fake::default(), "http://example.com/"),
            Err("the host has no address".to_owned())
        );
    }

    #[test]
    fn system_network_dials_no_refused_address() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for host in ["0.0.0.0", "::", "0", "0x0"] {
            let error = runtime.block_on(dial(&System, &EndpointNetworks::All, host, 9)).err().unwrap();
            assert!(error.to_string().contains("is refused: it is unspecified"), "{host}: {error}");
        }
    }

    #[test]
    fn literal_addresses_behind_a_proxy_are_checked() {
        assert!(check_behind_proxy(&EndpointNetworks::All, "169.254.169.254").is_err());
        assert!(check_behind_proxy(&EndpointNetworks::All, "::ffff:169.254.169.254").is_err());
        assert!(check_behind_proxy(&EndpointNetworks::All, "example.com").is_ok());
    }
}

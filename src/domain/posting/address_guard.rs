//! Decides which addresses a post may be sent to.
//!
//! An `endpoint_url` is data, and a name may resolve to any address. A post to the metadata service of a cloud would
//! hand out credentials, so some addresses are always refused. The check concerns the address of a connection, after
//! the name was resolved.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// The networks that posts may be sent to: the value of `ENDPOINT_NETWORKS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EndpointNetworks {
    /// All networks, except those that are always refused.
    #[default]
    All,
    /// Addresses that are reachable from the internet.
    Public,
    /// Only these networks.
    Only(Vec<IpNet>),
}

/// An address that a post must not be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the address {address} is refused: {rule}")]
pub struct RefusedAddress {
    /// The refused address.
    pub address: IpAddr,
    /// The rule that refuses it.
    pub rule: AddressRule,
}

/// A rule that refuses an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRule {
    /// Always refused, because no endpoint has such an address.
    Never(&'static str),
    /// Refused by `ENDPOINT_NETWORKS=public`.
    NotPublic,
    /// Not in a network of `ENDPOINT_NETWORKS`.
    NotListed,
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(kind) => write!(f, "it is {kind}"),
            Self::NotPublic => f.write_str("it is not public, and ENDPOINT_NETWORKS is public"),
            Self::NotListed => f.write_str("no network of ENDPOINT_NETWORKS contains it"),
        }
    }
}

/// A value of `ENDPOINT_NETWORKS` that is no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is neither public nor a network such as 10.0.0.0/8")]
pub struct UnusableNetwork(pub String);

impl fmt::Display for EndpointNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Public => f.write_str("public"),
            Self::Only(networks) => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                f.write_str(&networks.join(","))
            }
        }
    }
}

impl FromStr for EndpointNetworks {
    type Err = UnusableNetwork;

    fn from_str(text: &str) -> Result<Self, UnusableNetwork> {
        if text.trim().eq_ignore_ascii_case("public") {
            return Ok(Self::Public);
        }
        let network = |text: &str| -> Result<IpNet, UnusableNetwork> {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| address()).map_err(|_| UnusableNetwork(text.to_owned()))
        };
        text.split(',').map(|text| network(text.trim())).collect::<Result<_, _>>().map(Self::Only)
    }
}

impl EndpointNetworks {
    /// Checks the address of a connection.
    pub fn check(&self, address: IpAddr) -> Result<(), RefusedAddress> {
        let refused = |rule| RefusedAddress { address, rule };
        let address = address.to_canonical();
        let inner = embedded_v4(address).map(IpAddr::V4);
        for address in [Some(address), inner].into_iter().flatten() {
            if let Some(kind) = never(address) {
                return Err(refused(AddressRule::Never(kind)));
            }
        }
        match self {
            Self::All => Ok(()),
            Self::Public if is_public(address) && inner.is_none_or(is_public) => Ok(()),
            Self::Public => Err(refused(AddressRule::NotPublic)),
            Self::Only(networks) if networks.iter().any(|network| network.contains(&address)) => Ok(()),
            Self::Only(_) => Err(refused(AddressRule::NotListed)),
        }
    }
}

/// Networks without endpoints, and the metadata services of clouds.
const NEVER_V4: &[(Ipv4Net, &str)] = &[
    (v4([0, 0, 0, 0], 8), "unspecified"),
    (v4([169, 254, 0, 0], 16), "link-local, where clouds have their metadata service"),
    (v4([100, 100, 100, 200], 32), "the metadata service of a cloud"),
    (v4([168, 63, 129, 16], 32), "the metadata service of a cloud"),
    (v4([192, 0, 0, 192], 32), "the metadata service of a cloud"),
    (v4([224, 0, 0, 0], 4), "a multicast address"),
    (v4([255, 255, 255, 255], 32), "the broadcast address"),
];

const NEVER_V6: &[(Ipv6Net, &str)] = &[
    (v6([0; 8], 128), "unspecified"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
    // A network chooses where in these addresses it embeds an IPv4 address.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "translated by a local NAT64; use its IPv4 address"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "the metadata service of a cloud"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "the metadata service of a cloud"),
];

/// Private, shared, local and documentation networks of the IANA special-purpose registries.
const NOT_PUBLIC_V4: &[Ipv4Net] = &[
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([240, 0, 0, 0], 4),
];

/// The prefix by which NAT64 translates IPv4 addresses.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// Global unicast addresses are in `2000::/3`, except these.
const NOT_PUBLIC_V6: &[Ipv6Net] = &[
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

const fn v4(octets: [u8; 4], bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), bits)
}

const fn v6(segments: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), bits)
}

fn never(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => NEVER_V4.iter().find(|(network, _)| network.contains(&v4)).map(|(_, kind)| *kind),
        IpAddr::V6(v6) => NEVER_V6.iter().find(|(network, _)| network.contains(&v6)).map(|(_, kind)| *kind),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => {
            let is_global_unicast = v6.segments()[0] & 0xe000 == 0x2000;
            NAT64.contains(&v6)
                || (is_global_unicast && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&v6)))
        }
    }
}

/// The IPv4 address that the network translates `address` to.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (s0, s1) {
        // IPv4-compatible; `::` and `::1` are addresses of their own.
        (0, 0) if [s2, s3, s4, s5] == [0; 4] && s6 != 0 => v4(s6, s7),
        // IPv4-translated, ::ffff:0:0:0/96.
        (0, 0) if [s2, s3, s4, s5] == [0, 0, 0xffff, 0] => v4(s6, s7),
        (0x64, 0xff9b) if [s2, s3, s4, s5] == [0; 4] => v4(s6, s7),
        // 6to4.
        (0x2002, _) => v4(s1, s2),
        // Teredo inverts the bits of the client's address.
        (0x2001, 0) => v4(!s6, !s7),
        // ISATAP.
        _ if matches!((s4, s5), (0 | 0x200, 0x5efe)) => v4(s6, s7),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn check(networks: &EndpointNetworks, address: &str) -> Result<(), AddressRule> {
        networks.check(address.parse().unwrap()).map_err(|refused| refused.rule)
    }

    fn only(text: &str) -> EndpointNetworks {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_are_always_refused() {
        let all = only("0.0.0.0/0,::/0");
        for networks in [EndpointNetworks::All, EndpointNetworks::Public, all] {
            for address in [
                "0.0.0.0",
                "0.1.2.3",
                "169.254.169.254",
                "169.254.0.1",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "224.0.0.1",
                "239.255.255.250",
                "255.255.255.255",
                "::",
                "fe80::1",
                "febf::1",
                "ff02::1",
                "fd00:ec2::254",
                "fd20:ce::254",
            ] {
                assert!(matches!(check(&networks, address), Err(AddressRule::Never(_))), "{address}");
            }
        }
    }

    #[test]
    fn embedded_addresses_are_refused_too() {
        for address in [
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "2001:4860::5efe:169.254.169.254",
            "2001:4860::200:5efe:169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::224.0.0.1",
            "2002:ffff:ffff::",
        ] {
            assert!(
                matches!(check(&EndpointNetworks::All, address), Err(AddressRule::Never(_))),
                "{address}"
            );
        }
    }

    #[test]
    fn private_networks_are_allowed_by_default() {
        for address in
            ["10.0.0.1", "127.0.0.1", "192.168.1.1", "::1", "fd12::1", "::ffff:127.0.0.1", "8.8.8.8"]
        {
            assert_eq!(check(&EndpointNetworks::All, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn public_refuses_private_networks() {
        for address in [
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "240.0.0.1",
            "::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "fc00::1",
            "fec0::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "fd00::5efe:8.8.8.8",
            "2001:0:1:2:3:4:f7f7:f7f7",
        ] {
            assert_eq!(check(&EndpointNetworks::Public, address), Err(AddressRule::NotPublic), "{address}");
        }
        for address in ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "172.32.0.1", "100.128.0.1"] {
            assert_eq!(check(&EndpointNetworks::Public, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn list_allows_only_its_networks() {
        let networks = only("10.0.0.0/8, 192.0.2.7,fd12::/16");
        for address in ["10.255.0.1", "::ffff:10.0.0.1", "192.0.2.7", "fd12:1::1"] {
            assert_eq!(check(&networks, address), Ok(()), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.8", "fd13::1", "64:ff9b::10.0.0.1", "127.0.0.1"] {
            assert_eq!(check(&networks, address), Err(AddressRule::NotListed), "{address}");
        }
    }

    #[test]
    fn malformed_networks_are_named() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/8,,", "private", "10.0/8"] {
            assert!(text.parse::<EndpointNetworks>().is_err(), "{text}");
        }
        assert_eq!(only(" Public "), EndpointNetworks::Public);
        let error = "10.0.0.0/8,x".parse::<EndpointNetworks>().unwrap_err();
        assert_eq!(error.to_string(), "\"x\" is neither public nor a network such as 10.0.0.0/8");
    }

    #[test]
    fn errors_name_address_and_rule() {
        let refused = EndpointNetworks::All.check("::ffff:169.254.1.1".parse().unwrap()).unwrap_err();
        let text = "the address ::ffff:169.254.1.1 is refused: it is link-local, where clouds have their metadata service";
        assert_eq!(refused.to_string(), text);
    }
}

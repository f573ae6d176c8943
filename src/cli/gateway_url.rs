//! Addresses of gateways, for the commands that ask a running one.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Url;

use crate::control::ControlError;
use crate::settings::{AdminSettings, Settings};

/// The address that an argument names.
pub(super) fn parse_gateway_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" => Ok(url),
        _ => Err("give it as http://HOST:PORT".to_owned()),
    }
}

/// The address at which a gateway with these settings can be reached from its machine.
pub(super) fn own_url(settings: &Settings) -> Result<Url, ControlError> {
    local_url(settings.admin)
}

fn local_url(admin: Option<AdminSettings>) -> Result<Url, ControlError> {
    let unknown = |problem: &str| {
        ControlError::invalid(
            "ADMIN_BIND",
            problem,
            "set it as for the gateway, or give the address by --url",
        )
    };
    let Some(admin) = admin else { return Err(unknown("is off, so the gateway has no API")) };
    let mut address = admin.address;
    if address.port() == 0 {
        return Err(unknown("has port 0, so the port of the gateway is not known"));
    }
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    Url::parse(&format!("http://{address}")).map_err(|error| unknown(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: &str) -> Option<String> {
        let address = address.parse().ok()?;
        local_url(Some(AdminSettings { address, is_default: false })).ok().map(String::from)
    }

    #[test]
    fn gateway_is_asked_on_its_own_machine() {
        assert_eq!(url("127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080/"));
        assert_eq!(url("0.0.0.0:80").as_deref(), Some("http://127.0.0.1/"));
        assert_eq!(url("[::]:8080").as_deref(), Some("http://[::1]:8080/"));
        assert_eq!(url("10.1.2.3:8080").as_deref(), Some("http://10.1.2.3:8080/"));
    }

    #[test]
    fn unknown_port_is_an_error() {
        assert_eq!(url("127.0.0.1:0"), None);
        assert!(local_url(None).is_err_and(|error| error.to_string().contains("ADMIN_BIND")));
    }

    #[test]
    fn address_has_the_scheme_of_the_api() {
        assert!(parse_gateway_url("http://10.1.2.3:8080").is_ok());
        for address in ["https://10.1.2.3:8080", "10.1.2.3:8080", "gateway"] {
            assert!(parse_gateway_url(address).is_err(), "{address}");
        }
    }
}

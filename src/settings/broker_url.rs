//! Broker URLs, for tools that accept one.

use secrecy::{ExposeSecret, SecretString};

use super::host_list;
use super::url::{UrlError, decode};

const DEFAULT_MQTT_PORT: u16 = 1883;

/// Address and credentials of a broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User name and password.
    pub(crate) credentials: Option<(String, SecretString)>,
}

impl BrokerAddress {
    /// Returns user name and password in plain text.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        let (name, password) = self.credentials.as_ref()?;
        Some((name.as_str(), password.expose_secret()))
    }
}

/// Parses `mqtt://user:password@host:1883`. Only the host is mandatory.
pub(crate) fn parse_broker_url(url: &str) -> Result<BrokerAddress, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::NoBroker)?;
    let (login, server) = rest.rsplit_once('@').map_or((None, rest), |(login, server)| (Some(login), server));
    let server = server.strip_suffix('/').unwrap_or(server);
    let (host, port) = host_list::host_and_port(server, DEFAULT_MQTT_PORT).ok_or(UrlError::Port)?;
    if !scheme.eq_ignore_ascii_case("mqtt") || host.is_empty() || host.contains('/') {
        return Err(UrlError::NoBroker);
    }
    let credentials = match login {
        None => None,
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or(UrlError::NoBroker)?;
            Some((decode(user)?, SecretString::from(decode(password)?)))
        }
    };
    Ok(BrokerAddress { host: host.to_owned(), port, credentials })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn login_is_optional() {
        let parts = |url: &str| {
            let BrokerAddress { host, port, credentials } = parse_broker_url(url).unwrap();
            (host, port, credentials.map(|(user, password)| (user, password.expose_secret().to_owned())))
        };
        assert_eq!(parts("mqtt://here"), ("here".into(), 1883, None));
        assert_eq!(parts("mqtt://[::1]:18830/"), ("::1".into(), 18_830, None));
        let login = Some(("me".into(), "p@s/s".into()));
        assert_eq!(parts("mqtt://me:p%40s/s@here:1"), ("here".into(), 1, login));
        for url in ["here:1883", "mqtts://here", "mqtt://", "mqtt://me@here", "mqtt://here/topic"] {
            assert_eq!(parse_broker_url(url).err(), Some(UrlError::NoBroker), "{url}");
        }
        assert_eq!(parse_broker_url("mqtt://here:0").err(), Some(UrlError::Port));
    }
}

//! A broker as its row defines it, unparsed.

use core::net::Ipv6Addr;
use std::fmt;

use super::credential::Credential;
use super::flow_definition::{keep_blank, keep_flag};
use super::problem::Problem;

/// The columns of a row of `mqtt_servers`, as they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerDefinition {
    /// Host name or address.
    pub host: String,
    /// Port; NULL for the protocol's.
    pub port: Option<i64>,
    /// User name, or a reference to it.
    pub username: Option<Credential>,
    /// Password, or a reference to it.
    pub password: Option<Credential>,
    /// NULL counts as no.
    pub enabled: Option<bool>,
    /// NULL counts as no.
    pub is_default: Option<bool>,
    /// NULL counts as no.
    pub tls: Option<bool>,
    /// PEM file of authorities.
    pub ca_file: Option<String>,
    /// PEM file of a certificate.
    pub client_cert_file: Option<String>,
    /// PEM file of its key.
    pub client_key_file: Option<String>,
    /// Required version of MQTT.
    pub protocol_version: Option<String>,
}

impl fmt::Debug for ServerDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerDefinition")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// A row of `mqtt_servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRecord {
    /// Primary key.
    pub id: i64,
    /// The other columns.
    pub definition: ServerDefinition,
}

impl ServerRecord {
    /// Whether gateways may connect to it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.definition.enabled == Some(true)
    }

    /// Orders brokers as the gateway tries them, the disabled ones last.
    #[must_use]
    pub fn order_key(&self) -> (bool, bool, i64) {
        (!self.is_enabled(), self.definition.is_default != Some(true), self.id)
    }
}

impl ServerDefinition {
    /// The columns whose values differ.
    #[must_use]
    pub fn changed_columns(&self, new: &Self) -> Vec<&'static str> {
        let columns = [
            ("host", self.host != new.host),
            ("port", self.port != new.port),
            ("username", self.username != new.username),
            ("password", self.password != new.password),
            ("enabled", self.enabled != new.enabled),
            ("is_default", self.is_default != new.is_default),
            ("tls", self.tls != new.tls),
            ("ca_file", self.ca_file != new.ca_file),
            ("client_cert_file", self.client_cert_file != new.client_cert_file),
            ("client_key_file", self.client_key_file != new.client_key_file),
            ("protocol_version", self.protocol_version != new.protocol_version),
        ];
        columns.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// The same broker, with the values of `row` where they mean the same.
    #[must_use]
    pub fn in_form_of(mut self, row: &Self) -> Self {
        for (flag, row) in [
            (&mut self.enabled, row.enabled),
            (&mut self.is_default, row.is_default),
            (&mut self.tls, row.tls),
        ] {
            keep_flag(flag, row);
        }
        for (text, row) in [
            (&mut self.ca_file, &row.ca_file),
            (&mut self.client_cert_file, &row.client_cert_file),
            (&mut self.client_key_file, &row.client_key_file),
            (&mut self.protocol_version, &row.protocol_version),
        ] {
            keep_blank(text, row.as_ref());
        }
        let is_none = |text: &Option<Credential>| text.as_ref().is_none_or(|text| text.expose().is_empty());
        for (text, row) in [(&mut self.username, &row.username), (&mut self.password, &row.password)] {
            if is_none(text) && is_none(row) {
                text.clone_from(row);
            }
        }
        self
    }

    /// Finds problems that do not keep the gateway from connecting, and the missing host.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let host = self.host.as_str();
        if host.trim().is_empty() {
            problems.push(Problem::error(
                "host",
                "the host is empty",
                "give the name or address of the broker",
            ));
        } else if !is_host(host) {
            // It may contain a password.
            let shown = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let problem = format!("{shown:?} is no host");
            let remedy = "give the name or address alone; the port and TLS have options of their own";
            problems.push(Problem::error("host", problem, remedy));
        }
        if self.username.is_some() != self.password.is_some() {
            let problem = "user name and password count only together, and one of them is missing";
            problems.push(Problem::warning("username", problem, "give both, or none"));
        }
        problems
    }
}

/// Whether a text may be a name or an address. An IPv6 address may have brackets and a zone.
fn is_host(text: &str) -> bool {
    let is_name = |text: &str| !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ':'));
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    let is_address = address.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok();
    is_name(text) || (is_address && is_name(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> ServerDefinition {
        ServerDefinition { host: host.to_owned(), ..ServerDefinition::default() }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["broker.example", "127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "[fe80::1%eth0]"] {
            assert_eq!(at(good).check(), []);
        }
        for bad in
            ["", " ", "mqtt://broker", "broker 1", "broker/1", "broker:1883", "me:secret@broker", "::1%a/b"]
        {
            assert!(at(bad).check().first().is_some_and(Problem::is_error), "{bad}");
        }
    }

    #[test]
    fn half_a_login_is_a_warning() {
        let definition = ServerDefinition { username: Some(Credential::new("me")), ..at("h") };
        assert!(definition.check().iter().all(|problem| problem.field == "username" && !problem.is_error()));
        assert_eq!(definition.check().len(), 1);
    }
}

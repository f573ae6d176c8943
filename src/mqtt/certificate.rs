//! Parses the names and the validity of a certificate.

use chrono::DateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names and validity of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Host names and addresses of the subject.
    pub(super) names: Vec<String>,
    /// Start of validity, in seconds since 1970.
    pub(super) not_before: i64,
    /// End of validity, in seconds since 1970.
    pub(super) not_after: i64,
}

impl Certificate {
    pub(super) fn parse(der: &[u8]) -> Result<Certificate, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative
            .map(|extension| extension.value.general_names.iter().filter_map(name).collect())
            .unwrap_or_default();
        let validity = certificate.validity();
        Ok(Certificate {
            names,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Lists the names for messages.
    pub(super) fn listed_names(&self) -> String {
        if self.names.is_empty() { "no name".to_owned() } else { self.names.join(", ") }
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// Formats seconds since 1970 for messages.
pub(super) fn format_time(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0)
        .map_or_else(|| seconds.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn names_and_validity_are_parsed() {
        let names = ["broker.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 6, 15));
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = Certificate::parse(der.der()).unwrap();
        assert_eq!(certificate.names, names);
        assert_eq!(format_time(certificate.not_before), "2020-01-01 00:00:00 UTC");
        assert_eq!(format_time(certificate.not_after), "2030-06-15 00:00:00 UTC");
        assert_eq!(certificate.listed_names(), "broker.example, 192.0.2.1, 2001:db8::1");
    }

    #[test]
    fn invalid_certificates_are_refused() {
        assert!(Certificate::parse(b"").is_err());
        assert!(Certificate::parse(&[0x30; 40]).is_err());
    }
}

//! Accepts certificates that rustls accepts, and trusted self-signed certificates of endpoints.
//!
//! `openssl req -x509` creates a certificate that is its own authority. rustls rejects it as a server certificate, even
//! if it is trusted; OpenSSL, and with it the Python service, accepts it. This verifier accepts it if it equals a
//! trusted certificate byte for byte and is valid now, for this name and for servers. The handshake proves that the
//! server has the private key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The verifier of endpoint certificates.
#[derive(Debug)]
pub(super) struct PinnedOrChained {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl PinnedOrChained {
    pub(super) fn new(chains: Arc<WebPkiServerVerifier>, trusted: Vec<CertificateDer<'static>>) -> Self {
        Self { chains, trusted }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        self.trusted.contains(certificate)
            && is_authority_for_servers(certificate, now)
            && ParsedCertificate::try_from(certificate)
                .is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

/// Whether the certificate is its own authority, valid now, and not restricted to other uses than servers.
fn is_authority_for_servers(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let is_for_servers = certificate
        .extended_key_usage()
        .is_ok_and(|usage| usage.is_none_or(|usage| usage.value.any || usage.value.server_auth));
    certificate.is_ca() && is_for_servers && now.is_some_and(|now| certificate.validity().is_valid_at(now))
}

impl ServerCertVerifier for PinnedOrChained {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chained = self.chains.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        if chained.is_err() && self.is_pinned(certificate, name, now) {
            return Ok(ServerCertVerified::assertion());
        }
        chained
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

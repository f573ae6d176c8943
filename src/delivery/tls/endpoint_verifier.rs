//! Accepts the certificates of endpoints.
//!
//! `openssl req -x509` creates a certificate that is its own authority. rustls rejects it as a server certificate, even
//! if it is trusted; OpenSSL, and with it the Python service, accepts it. This verifier accepts it if it equals a
//! trusted certificate byte for byte and is valid now, for this name and for servers. The handshake proves that the
//! server has the private key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The verifier of endpoint certificates.
#[derive(Debug)]
pub(super) struct EndpointVerifier {
    proof: CertificateProof,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What makes a certificate acceptable.
#[derive(Debug)]
pub(super) enum CertificateProof {
    /// A chain to a root certificate, or the certificate is trusted itself.
    Trusted {
        /// Verifies chains.
        chains: Arc<WebPkiServerVerifier>,
        /// The trusted certificates.
        trusted: Vec<CertificateDer<'static>>,
    },
    /// The SHA-256 hash of the certificate. It stands for exactly this certificate, so name, validity and authority are
    /// not checked.
    Sha256([u8; 32]),
}

impl EndpointVerifier {
    pub(super) fn new(proof: CertificateProof) -> Self {
        Self { proof, algorithms: ring::default_provider().signature_verification_algorithms }
    }
}

/// Whether a trusted certificate may be used by a server of this name now.
fn is_usable_by_itself(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
    is_authority_for_servers(certificate, now)
        && ParsedCertificate::try_from(certificate)
            .is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
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

impl ServerCertVerifier for EndpointVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.proof {
            CertificateProof::Trusted { chains, trusted } => {
                let chained = chains.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
                if chained.is_err()
                    && trusted.contains(certificate)
                    && is_usable_by_itself(certificate, name, now)
                {
                    return Ok(ServerCertVerified::assertion());
                }
                chained
            }
            CertificateProof::Sha256(hash) if Sha256::digest(certificate).as_slice() == hash => {
                Ok(ServerCertVerified::assertion())
            }
            CertificateProof::Sha256(_) => {
                Err(Error::General("the certificate is not the one of tls.pinned_sha256".to_owned()))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

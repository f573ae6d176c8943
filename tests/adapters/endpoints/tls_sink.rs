//! An https endpoint on `localhost` that takes every message, and its certificate.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use test_support::http_sink::{OK, Request, TOO_LONG, read_request};

pub(crate) struct TlsSink {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    requests: Receiver<(Request, ClientKind)>,
    directory: TempDir,
}

/// Whether a client has shown a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Unknown,
    Authenticated,
}

/// What an endpoint asks of its clients.
pub(crate) enum ClientRule<'a> {
    Anyone,
    /// A certificate of this authority, if the client has one.
    Asked(&'a ClientPair),
    /// A certificate of this authority.
    Demanded(&'a ClientPair),
}

/// A certificate for clients that is its own authority, in `client.pem`, and its key in `client.key`.
pub(crate) struct ClientPair {
    pub(crate) directory: TempDir,
    certificate: CertificateDer<'static>,
}

impl ClientPair {
    pub(crate) fn new() -> Self {
        let (certificate, key, directory) = self_signed(|params| params.is_ca = IsCa::NoCa);
        std::fs::write(directory.path().join("client.pem"), certificate.pem()).unwrap();
        std::fs::write(directory.path().join("client.key"), key.serialize_pem()).unwrap();
        Self { directory, certificate: certificate.der().clone() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A certificate as by `openssl req -x509` for `localhost`, with the changes of `change`.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair, TempDir) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate, key, tempfile::tempdir().unwrap())
}

impl TlsSink {
    pub(crate) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::with_clients(change, &ClientRule::Anyone)
    }

    pub(crate) fn with_clients(change: impl FnOnce(&mut CertificateParams), rule: &ClientRule<'_>) -> Self {
        let (certificate, key, directory) = self_signed(change);
        std::fs::write(directory.path().join("bundle.pem"), certificate.pem()).unwrap();
        Self::start(certificate.der().clone(), &key, directory, rule)
    }

    /// With the certificate of `other`, but without its key.
    pub(crate) fn imposter(other: &TlsSink) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        Self::start(other.certificate.clone(), &key, directory, &ClientRule::Anyone)
    }

    fn start(
        certificate: CertificateDer<'static>,
        key: &KeyPair,
        directory: TempDir,
        rule: &ClientRule<'_>,
    ) -> Self {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signing_key = ring::sign::any_supported_type(&key).unwrap();
        let certified = CertifiedKey::new(vec![certificate.clone()], signing_key);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(rule.verifier())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, requests) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, report) = (Arc::clone(&config), report.clone());
                std::thread::spawn(move || serve(socket, config, &report));
            }
        });
        Self { address, certificate, requests, directory }
    }

    /// The SHA-256 of its certificate.
    pub(crate) fn sha256(&self) -> String {
        let hash = Sha256::digest(&self.certificate);
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
    }

    /// A file with its certificate and no other.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle.pem")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/in", self.address.port())
    }

    pub(crate) fn next(&self) -> Request {
        self.next_of().0
    }

    /// The next request, and the kind of its client.
    pub(crate) fn next_of(&self) -> (Request, ClientKind) {
        self.requests.recv_timeout(TOO_LONG).expect("a request within the time")
    }
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>, report: &Sender<(Request, ClientKind)>) {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    while let Some(request) = read_request(&mut stream) {
        // The test may be over.
        let client = match stream.get_ref().conn.peer_certificates() {
            Some(_) => ClientKind::Authenticated,
            None => ClientKind::Unknown,
        };
        let _ = report.send((request, client));
        if stream.get_mut().write_all(OK).is_err() {
            return;
        }
    }
}

impl ClientRule<'_> {
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let pair = match self {
            Self::Anyone => return WebPkiClientVerifier::no_client_auth(),
            Self::Asked(pair) | Self::Demanded(pair) => pair,
        };
        let mut roots = RootCertStore::empty();
        roots.add(pair.certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        match self {
            Self::Asked(_) => builder.allow_unauthenticated().build().unwrap(),
            _ => builder.build().unwrap(),
        }
    }
}

/// For clients alone.
pub(crate) fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2021, 1, 1);
}

pub(crate) fn of_another_name(params: &mut CertificateParams) {
    let is_ca = params.is_ca;
    *params = CertificateParams::new(vec!["other".to_owned()]).unwrap();
    params.is_ca = is_ca;
}

//! An https endpoint on `localhost` that takes every message, and its certificate.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use test_support::http_sink::{OK, Request, TOO_LONG, read_request};

pub(crate) struct TlsSink {
    address: SocketAddr,
    requests: Receiver<Request>,
    directory: tempfile::TempDir,
}

impl TlsSink {
    /// With a certificate as `openssl req -x509 -subj /CN=localhost -addext subjectAltName=DNS:localhost` makes it, but
    /// for what `change` does to it.
    pub(crate) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bundle.pem"), certificate.pem()).unwrap();
        Self::start(certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()), directory)
    }

    fn start(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        directory: tempfile::TempDir,
    ) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
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
        Self { address, requests, directory }
    }

    /// A file with its certificate and no other.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.directory.path().join("bundle.pem")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/in", self.address.port())
    }

    pub(crate) fn next(&self) -> Request {
        self.requests.recv_timeout(TOO_LONG).expect("a request within the time")
    }
}

fn serve(socket: TcpStream, config: Arc<ServerConfig>, report: &Sender<Request>) {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    while let Some(request) = read_request(&mut stream) {
        // The test may be over.
        let _ = report.send(request);
        if stream.get_mut().write_all(OK).is_err() {
            return;
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

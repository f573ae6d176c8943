//! A server with an untrusted certificate that asks for the password in the clear and keeps every byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use test_support::certificates::{Authority, VALID};
use test_support::world::Backend;

/// Whether it offers TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Tls,
    Nothing,
}

pub(crate) struct FalseServer {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl FalseServer {
    /// Its thread ends with the test.
    pub(crate) fn start(backend: Backend, offer: Offer) -> FalseServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::default();
        let server = FalseServer { address, received: Arc::clone(&received) };
        let config = config();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let wire = Wire { stream, received: Arc::clone(&received) };
                // Any error ends the dialogue.
                let _ = if backend == Backend::Postgres {
                    speak_postgres(wire, offer, &config)
                } else {
                    speak_mysql(wire, offer, &config)
                };
            }
        });
        server
    }

    /// As it came, and decrypted.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn has_received(&self, text: &str) -> bool {
        self.received().windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }
}

fn config() -> Arc<ServerConfig> {
    let own = Authority::new("false authority").server(&["127.0.0.1", "localhost"], VALID);
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// A connection that records the bytes read.
struct Wire {
    stream: TcpStream,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let count = self.stream.read(buffer)?;
        self.received.lock().unwrap().extend(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Greets as a server whose users have the plugin `sha256_password`, to which a client sends the password as it is
/// when the connection is encrypted.
fn speak_mysql(mut wire: Wire, offer: Offer, config: &Arc<ServerConfig>) -> io::Result<()> {
    const PROTOCOL_41: u16 = 0x0200;
    const WITH_DATABASE: u16 = 0x0008;
    const SECURE: u16 = 0x8000;
    const SSL: u16 = 0x0800;
    const PLUGIN_AUTH: u16 = 0x0008;
    const SSL_REQUEST_BYTES: usize = 36;
    let ssl = if offer == Offer::Tls { SSL } else { 0 };
    let mut greeting = [b"\x0a8.0.36\0", &[1, 0, 0, 0][..], b"abcdefgh\0"].concat();
    greeting.extend((PROTOCOL_41 | WITH_DATABASE | SECURE | ssl).to_le_bytes());
    greeting.extend(b"\x2d\x02\0");
    greeting.extend(PLUGIN_AUTH.to_le_bytes());
    greeting.push(21);
    greeting.extend([0; 10]);
    greeting.extend(b"abcdefghijkl\0sha256_password\0");
    let mut packet = u32::try_from(greeting.len()).unwrap().to_le_bytes().to_vec();
    packet.extend(greeting);
    wire.write_all(&packet)?;
    if offer == Offer::Nothing {
        return read_all(wire);
    }
    wire.read_exact(&mut [0; SSL_REQUEST_BYTES])?;
    with_tls(wire, config, &[])
}

/// Asks for the password in the clear.
fn speak_postgres(mut wire: Wire, offer: Offer, config: &Arc<ServerConfig>) -> io::Result<()> {
    const SSL_REQUEST_BYTES: usize = 8;
    const CLEARTEXT_PASSWORD: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    wire.read_exact(&mut [0; SSL_REQUEST_BYTES])?;
    if offer == Offer::Nothing {
        wire.write_all(b"N")?;
        // The client is refused a start-up message's answer as long as it sends none.
        wire.read_exact(&mut [0; 1])?;
        wire.write_all(CLEARTEXT_PASSWORD)?;
        return read_all(wire);
    }
    wire.write_all(b"S")?;
    with_tls(wire, config, CLEARTEXT_PASSWORD)
}

/// Answers the first thing that it is told.
fn with_tls(mut wire: Wire, config: &Arc<ServerConfig>, answer: &[u8]) -> io::Result<()> {
    let received = Arc::clone(&wire.received);
    let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut connection, &mut wire);
    for answer in [answer, &[]] {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        received.lock().unwrap().extend(&buffer[..count]);
        stream.write_all(answer)?;
        stream.flush()?;
    }
    Ok(())
}

fn read_all(mut wire: Wire) -> io::Result<()> {
    wire.read_to_end(&mut Vec::new()).map(drop)
}

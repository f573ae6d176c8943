//! An HTTP endpoint that answers with the bytes that a test gives, or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longer than anything here takes unless it hangs.
pub const TOO_LONG: Duration = Duration::from_secs(30);

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
pub const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// "POST /path HTTP/1.1"
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The values of a header, joined.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Name and value of each header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body of text")
    }
}

/// Reaction of the endpoint to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Sends these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Last(Vec<u8>),
    /// Sends these bytes and then nothing more.
    Stall(Vec<u8>),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Bytes(OK.to_vec())
    }

    pub fn unavailable() -> Self {
        Self::Bytes(UNAVAILABLE.to_vec())
    }
}

/// An endpoint on a port of its own. It listens until the test ends.
pub struct Sink {
    address: SocketAddr,
    requests: UnboundedReceiver<Request>,
    connections: Arc<AtomicUsize>,
}

impl Sink {
    pub fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (report, requests) = unbounded_channel();
        let reply: Arc<dyn Fn(&Request) -> Reply + Send + Sync> = Arc::new(reply);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let (reply, report) = (Arc::clone(&reply), report.clone());
                std::thread::spawn(move || serve(stream, &*reply, &report));
            }
        });
        Self { address, requests, connections }
    }

    pub fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The next request, whenever it comes.
    pub async fn next(&mut self) -> Request {
        let next = tokio::time::timeout(TOO_LONG, self.requests.recv()).await;
        next.expect("a request within the time").expect("an endpoint that listens")
    }

    /// The bodies of the next requests.
    pub async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.next().await.text());
        }
        bodies
    }

    /// A request that came already.
    pub fn try_next(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }
}

fn serve(
    stream: TcpStream,
    reply: &(dyn Fn(&Request) -> Reply + Send + Sync),
    report: &UnboundedSender<Request>,
) {
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let reply = reply(&request);
        // The test may be over.
        let _ = report.send(request);
        let (bytes, go_on) = match reply {
            Reply::Bytes(bytes) => (bytes, true),
            Reply::Last(bytes) => (bytes, false),
            Reply::Stall(bytes) => {
                let _ = writer.write_all(&bytes);
                // Until the other side gives up.
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        if writer.write_all(&bytes).is_err() || !go_on {
            return;
        }
    }
}

pub fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let line = read_line(reader)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { line, headers, body: Vec::new() };
    request.body = vec![0; request.header("content-length").parse().ok()?];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

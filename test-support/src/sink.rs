//! An HTTP endpoint that keeps its requests and answers with a status that the test sets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::eventually;

const NO_ANSWER: u16 = 0;

/// The status of answers that ask to be tried again after an hour.
pub const ASK_FOR_AN_HOUR: u16 = 429;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Status of the answer.
    pub status: u16,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Listens as long as the value lives; the port is free again afterwards.
pub struct Sink {
    port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    status: u16,
    requests: Vec<Request>,
    open: bool,
}

impl Sink {
    pub fn new() -> Sink {
        Sink::on(0)
    }

    pub fn on(port: u16) -> Sink {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { status: 200, requests: Vec::new(), open: true }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !shared.lock().unwrap().open {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Sink { port, state }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// From now on requests are taken and never answered.
    pub fn stall(&self) {
        self.answer_with(NO_ANSWER);
    }

    /// From now on requests are answered with this status.
    pub fn answer_with(&self, status: u16) {
        self.state.lock().unwrap().status = status;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The requests since the last call, for runs that are too long to keep them all.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Requests that were answered with 200, in order.
    pub fn delivered(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.status == 200).collect()
    }

    pub fn wait_for_delivered(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} deliveries"), || {
            let delivered = self.delivered();
            (delivered.len() >= count).then_some(delivered)
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.lock().unwrap().open = false;
        // The listener blocks in accept. A last connection wakes it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let Some(mut request) = read_request(stream) else {
        return;
    };
    let status = {
        let mut state = state.lock().unwrap();
        request.status = state.status;
        state.requests.push(request);
        state.status
    };
    if status == NO_ANSWER {
        // Until the other side has given up.
        let _ = stream.read_to_end(&mut Vec::new());
        return;
    }
    let later = if status == ASK_FOR_AN_HOUR { "Retry-After: 3600\r\n" } else { "" };
    let answer = format!("HTTP/1.1 {status} Told\r\n{later}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes());
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new(), status: 0 };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

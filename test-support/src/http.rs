//! Requests to the gateway's admin port, and the answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::process::Gateway;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Where a gateway serves health and metrics, as it says in its log.
pub fn admin_of(gateway: &Gateway) -> SocketAddr {
    let line = gateway.wait_for_line("Health and metrics are at http://");
    let (_, rest) = line.split_once("http://").unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path)
}

pub fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    try_request(address, method, path).unwrap()
}

/// Sends a request as its text, and returns the answer with a body of chunks put together.
pub fn send(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // A gateway that refuses a request may close the connection before it has the whole body.
    let _ = stream.write_all(body);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let mut answer = parse_answer(&text).unwrap();
    if answer.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        answer.body = joined(&answer.body);
    }
    answer
}

fn joined(chunks: &str) -> String {
    let (mut rest, mut whole) = (chunks, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    whole
}

/// An error where the gateway closed the connection in place of an answer, or is gone.
pub fn try_request(address: SocketAddr, method: &str, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse_answer(&text)
}

fn parse_answer(text: &str) -> std::io::Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Ok(Answer { status, headers, body: body.to_owned() })
}

/// All samples by name and labels, as they are written: `name{label="value"}`.
pub type Samples = BTreeMap<String, f64>;

pub fn scrape(address: SocketAddr) -> Samples {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200);
    parse(&answer.body)
}

/// Reads the text as strictly as Prometheus does.
pub fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut family: Option<(String, String)> = None;
    let mut families = Vec::new();
    assert!(text.ends_with("# EOF\n"), "the end is missing");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!families.contains(&name.to_owned()), "{name} twice");
            families.push(name.to_owned());
            family = Some((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with('#') {
            let (series, value) = series_and_value(line);
            let (name, kind) = family.as_ref().expect("a sample without its family");
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => &[""],
            };
            let bare = series.split('{').next().unwrap();
            let known = suffixes.iter().any(|suffix| bare == format!("{name}{suffix}"));
            assert!(known, "{line} does not belong to {name}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    samples
}

fn series_and_value(line: &str) -> (&str, f64) {
    let end = match line.find('{') {
        None => line.find(' ').unwrap(),
        Some(open) => {
            let mut inside = false;
            let mut escaped = false;
            let end = line[open..].char_indices().find(|(_, c)| {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if inside => escaped = true,
                    '"' => inside = !inside,
                    '}' => return !inside,
                    _ => {}
                }
                false
            });
            open + end.expect("labels without an end").0 + 1
        }
    };
    let value = line[end..].trim();
    (&line[..end], value.parse().unwrap_or_else(|_| panic!("no value: {line}")))
}

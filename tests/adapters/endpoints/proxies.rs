//! Proxies and bundles of certificates, as the Python service's HTTP client takes them from the environment.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use mqtt_gateway::delivery::client::{Delivered, EndpointClients, PostError};
use mqtt_gateway::domain::proxies::{Bypass, Proxies, Proxy};
use mqtt_gateway::settings::HttpRoute;

use super::tls_sink::{TlsSink, expired, for_clients, of_another_name};
use super::{BODY, KEY, item};
use test_support::http_sink::{Reply, Sink, TOO_LONG};

/// A proxy for CONNECT that answers with `answer`, and the heads it was sent.
struct Tunnel {
    address: SocketAddr,
    heads: Receiver<Vec<String>>,
}

impl Tunnel {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, heads) = channel();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let lines = head_of(&mut reader);
                let to = lines[0].split(' ').nth(1).unwrap().to_owned();
                // The test may be over.
                let _ = report.send(lines);
                (&client).write_all(answer.as_bytes()).unwrap();
                if answer.contains(" 200 ") {
                    pump_both_ways(&client, &TcpStream::connect(to).unwrap());
                }
            }
        });
        Self { address, heads }
    }

    fn head(&self) -> Vec<String> {
        self.heads.recv_timeout(TOO_LONG).expect("a CONNECT within the time")
    }
}

/// The lines up to an empty one.
fn head_of(reader: &mut impl BufRead) -> Vec<String> {
    reader.lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect()
}

fn pump_both_ways(one: &TcpStream, other: &TcpStream) {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
}

fn through(proxy: &str, bypass: &str) -> HttpRoute {
    let all = Some(Proxy::parse(proxy).unwrap());
    HttpRoute {
        proxies: Proxies { all, bypass: Bypass::parse(bypass), ..Proxies::default() },
        ..HttpRoute::default()
    }
}

fn trusting(bundle: PathBuf) -> HttpRoute {
    HttpRoute { ca_bundle: Some(bundle), ..HttpRoute::default() }
}

async fn post(url: &str, route: &HttpRoute) -> Result<Delivered, PostError> {
    EndpointClients::new(TOO_LONG, route).post(&[item(url)]).await
}

#[actix::test]
async fn proxy_gets_absolute_http_url() {
    let mut proxy = Sink::start(|_| Reply::ok());
    let address = format!("http://us%40er:s3cret@{}", proxy.address());
    post("http://me:mine@nowhere.invalid:81/in?a=b#c", &through(&address, "")).await.unwrap();
    let request = proxy.next().await;
    assert_eq!(request.line, "POST http://nowhere.invalid:81/in?a=b HTTP/1.1");
    assert_eq!((request.header("host").as_str(), request.text().as_str()), ("nowhere.invalid:81", BODY));
    assert_eq!(request.header("proxy-authorization"), "Basic dXNAZXI6czNjcmV0");
    assert_eq!(request.header("authorization"), "Basic bWU6bWluZQ==");
    assert_eq!(request.header("idempotency-key"), KEY);
}

#[actix::test]
async fn a_bypassed_host_is_posted_to_directly() {
    let mut proxy = Sink::start(|_| Reply::unavailable());
    let mut endpoint = Sink::start(|_| Reply::ok());
    let route = through(&format!("http://me:s3cret@{}", proxy.address()), "127.0.0.0/8");
    post(&endpoint.url(), &route).await.unwrap();
    let request = endpoint.next().await;
    assert_eq!(
        (request.line.as_str(), request.header("proxy-authorization").as_str()),
        ("POST /in HTTP/1.1", "")
    );
    assert!(proxy.try_next().is_none());
}

#[actix::test]
async fn a_tunnel_leads_to_an_https_endpoint() {
    let endpoint = TlsSink::self_signed(|_| ());
    let tunnel = Tunnel::start("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n");
    let address = format!("http://me:s3cret@{}", tunnel.address);
    let route = HttpRoute { ca_bundle: Some(endpoint.bundle()), ..through(&address, "") };
    post(&endpoint.url(), &route).await.unwrap();
    let head = tunnel.head();
    let to = endpoint.url().replace("https://", "").replace("/in", "");
    assert_eq!(head[0], format!("CONNECT {to} HTTP/1.1"));
    assert!(head.contains(&"Proxy-Authorization: Basic bWU6czNjcmV0".to_owned()), "{head:?}");
    let request = endpoint.next();
    assert_eq!(
        (request.line.as_str(), request.header("proxy-authorization").as_str()),
        ("POST /in HTTP/1.1", "")
    );
    assert_eq!((request.header("host"), request.text().as_str()), (to, BODY));
}

#[actix::test]
async fn refusing_proxy_is_named_without_password() {
    let endpoint = TlsSink::self_signed(|_| ());
    for (answer, said) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "HTTP status 407"),
        ("HTTP/1.1 200 OK\r\n\r\nbefore its time", "HTTP status 200"),
        ("SSH-2.0\r\n", "not HTTP"),
    ] {
        let tunnel = Tunnel::start(answer);
        let route = through(&format!("http://me:s3cret@{}", tunnel.address), "");
        let error = post(&endpoint.url(), &route).await.unwrap_err().to_string();
        assert!(error.contains(&format!("proxy {}", tunnel.address)) && error.contains(said), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[actix::test]
async fn ca_bundle_replaces_system_certificates() {
    let (endpoint, other) = (TlsSink::self_signed(|_| ()), TlsSink::self_signed(|_| ()));
    post(&endpoint.url(), &trusting(endpoint.bundle())).await.unwrap();
    assert_eq!(endpoint.next().text(), BODY);
    let directory = endpoint.bundle().parent().unwrap().to_owned();
    post(&endpoint.url(), &trusting(directory)).await.unwrap();
    for route in [trusting(other.bundle()), trusting("/nowhere".into()), HttpRoute::default()] {
        let error = post(&endpoint.url(), &route).await.unwrap_err();
        assert!(matches!(error, PostError::Tls(_) | PostError::NoCertificates), "{route:?}: {error}");
    }
}

#[actix::test]
async fn pinned_certificate_is_still_validated() {
    for wrong in [for_clients, expired, of_another_name] {
        let endpoint = TlsSink::self_signed(wrong);
        let error = post(&endpoint.url(), &trusting(endpoint.bundle())).await.unwrap_err();
        assert!(matches!(error, PostError::Tls(_)), "{error:?}");
    }
}

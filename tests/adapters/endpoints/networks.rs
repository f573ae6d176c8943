//! No post is sent to a refused address, whatever leads there.

use mqtt_gateway::delivery::client::EndpointClients;
use mqtt_gateway::domain::proxies::{Proxies, Proxy};
use mqtt_gateway::settings::HttpRoute;

use super::{answering, clients, item};
use test_support::http_sink::{Reply, Sink, TOO_LONG};

fn within(networks: &str) -> EndpointClients {
    let route = HttpRoute { networks: networks.parse().unwrap(), ..HttpRoute::default() };
    EndpointClients::new(TOO_LONG, &route)
}

async fn refusal(clients: &EndpointClients, url: &str) -> String {
    clients.post(&[item(url)]).await.unwrap_err().to_string()
}

#[actix::test]
async fn unspecified_addresses_are_refused() {
    for (host, address) in
        [("0.0.0.0", "0.0.0.0"), ("[::]", "::"), ("0x0", "0.0.0.0"), ("[::ffff:0:0]", "::ffff:0.0.0.0")]
    {
        let said = refusal(&clients(), &format!("http://{host}:9/in")).await;
        let expected = format!("cannot connect: the address {address} is refused: it is unspecified");
        assert!(said.starts_with(&expected), "{host}: {said}");
    }
}

#[actix::test]
async fn other_networks_are_refused() {
    let sink = Sink::start(|_| Reply::ok());
    let not_public = "it is not public, and ENDPOINT_NETWORKS is public";
    let not_listed = "no network of ENDPOINT_NETWORKS contains it";
    for (networks, rule) in [("public", not_public), ("10.0.0.0/8,::1", not_listed)] {
        let said = refusal(&within(networks), &sink.url()).await;
        assert_eq!(said, format!("cannot connect: the address 127.0.0.1 is refused: {rule}"));
        let by_name = sink.url().replace("127.0.0.1", "localhost");
        assert!(refusal(&within(networks), &by_name).await.ends_with(rule), "by name");
    }
    within("127.0.0.0/8").post(&[item(&sink.url())]).await.unwrap();
    assert_eq!(sink.connections(), 1);
}

#[actix::test]
async fn redirect_to_a_refused_address_fails() {
    let answer = "HTTP/1.1 307 T\r\nLocation: http://0.0.0.0:9/\r\nContent-Length: 0\r\n\r\n";
    let said = refusal(&clients(), &answering(answer).url()).await;
    assert!(said.contains("the address 0.0.0.0 is refused"), "{said}");
}

#[actix::test]
async fn proxy_is_not_asked_for_a_refused_address() {
    let proxy = Sink::start(|_| Reply::ok());
    let all = Some(Proxy::parse(&proxy.url()).unwrap());
    let route = HttpRoute {
        proxies: Proxies { all, ..Proxies::default() },
        networks: "public".parse().unwrap(),
        ..HttpRoute::default()
    };
    let clients = EndpointClients::new(TOO_LONG, &route);
    let said = refusal(&clients, "http://10.0.0.1/in").await;
    assert!(said.contains("the address 10.0.0.1 is refused"), "{said}");
    assert_eq!(proxy.connections(), 0);
    clients.post(&[item("http://example.com/in")]).await.unwrap();
    assert_eq!(proxy.connections(), 1, "a proxy may have any address");
}

//! The REST API, asked of the real binary as a program would.

mod access;
mod description;
mod drift;
mod events;
mod inputs;
mod pages;
mod stalled_clients;
mod status;
mod use_cases;

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::http::{Answer, admin_of, send};
use test_support::process::Gateway;
use test_support::world::World;

use crate::commands::document;

/// A gateway, and a client with a token of scope admin.
struct Served {
    world: World,
    gateway: Gateway,
    admin: ApiClient,
}

impl Served {
    fn new(mut world: World) -> Self {
        world.set("ADMIN_BIND", "127.0.0.1:0");
        let gateway = world.start();
        let address = admin_of(&gateway);
        let admin = ApiClient { address, token: added_token(&world, "root", "admin", &[]) };
        Self { world, gateway, admin }
    }

    /// A client with a new token of this scope.
    fn client(&self, scope: &str) -> ApiClient {
        let token = added_token(&self.world, &format!("t-{scope}"), scope, &[]);
        ApiClient { address: self.admin.address, token }
    }
}

/// Adds a token by the command, and returns its text.
fn added_token(world: &World, name: &str, scope: &str, options: &[&str]) -> String {
    let arguments = [&["tokens", "add", name, "--scope", scope], options].concat();
    document(world, &arguments)["token"]["token"].as_str().unwrap().to_owned()
}

/// A client with a token.
#[derive(Clone)]
struct ApiClient {
    address: SocketAddr,
    token: String,
}

impl ApiClient {
    fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..*self }
    }

    fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut lines = vec![format!("{method} /api/v1{path} HTTP/1.1")];
        let authorization = format!("Authorization: Bearer {}", self.token);
        let host = format!("Host: {}", self.address);
        let has = |name: &str| headers.iter().any(|header| header.starts_with(name));
        let defaults = [("Host:", host.as_str()), ("Authorization:", authorization.as_str())];
        let defaults = defaults.into_iter().filter(|(name, _)| !has(name)).map(|(_, header)| header);
        let given = headers.iter().copied().filter(|header| !header.ends_with(": -"));
        lines.extend(defaults.chain(given).map(str::to_owned));
        send(self.address, &lines.join("\r\n"), body)
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// The document of a successful GET.
    fn read(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &["Content-Type: application/json"], body.to_string().as_bytes())
    }
}

/// Asserts that an answer is a problem with this status and kind, and returns it.
fn problem(answer: &Answer, status: u16, kind: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.body);
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], json!(format!("urn:mqtt-gateway:problem:{kind}")), "{problem}");
    problem
}

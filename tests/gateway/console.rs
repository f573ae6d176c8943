//! The console, asked as a browser would, and in a real one.

mod admin_pages;
mod browser;
mod flow_pages;
mod hostile;
mod live;
mod sessions;
mod tasks;
mod waits;

use std::net::SocketAddr;

use test_support::eventually;
use test_support::http::{Answer, admin_of, send};
use test_support::process::Gateway;
use test_support::world::World;
use url::form_urlencoded;

use crate::commands::document;

/// A gateway with its console.
struct Served {
    world: World,
    gateway: Gateway,
    address: SocketAddr,
}

impl Served {
    fn new(mut world: World) -> Self {
        world.set("ADMIN_BIND", "127.0.0.1:0");
        let gateway = world.start();
        let address = admin_of(&gateway);
        Self { world, gateway, address }
    }

    /// A browser without a session.
    fn guest(&self) -> Browser {
        Browser { address: self.address, cookie: String::new() }
    }

    /// A browser with a session of a new token with this scope.
    fn visitor(&self, scope: &str) -> Browser {
        self.guest().logged_in(&self.token(&format!("t-{scope}"), scope))
    }

    fn token(&self, name: &str, scope: &str) -> String {
        let added = document(&self.world, &["tokens", "add", name, "--scope", scope]);
        added["token"]["token"].as_str().unwrap().to_owned()
    }
}

/// A browser with its cookie.
#[derive(Clone)]
struct Browser {
    address: SocketAddr,
    cookie: String,
}

impl Browser {
    fn send(&self, head: &str, headers: &[&str], body: &str) -> Answer {
        let mut lines = vec![format!("{head} HTTP/1.1")];
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            lines.push(format!("Host: {}", self.address));
        }
        lines.push(format!("Cookie: {}", self.cookie));
        lines.extend(headers.iter().map(|header| (*header).to_owned()));
        send(self.address, &lines.join("\r\n"), body.as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &[], "")
    }

    /// The page at this path.
    fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form without the key of the session.
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(&format!("POST {path}"), &["Content-Type: application/x-www-form-urlencoded"], &body)
    }

    /// Sends a form with the key of the session.
    fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let key = self.form_key();
        self.post(path, &[&[("key", key.as_str())], fields].concat())
    }

    fn form_key(&self) -> String {
        value_of(&self.page("/"), "key")
    }

    fn logged_in(&self, token: &str) -> Self {
        // A database that is slow to answer is none of the tests' matters.
        let answer = eventually("the log in", || {
            let answer = self.post("/login", &[("token", token)]);
            (answer.status != 503).then_some(answer)
        });
        assert_eq!(answer.status, 303, "{}", answer.body);
        assert_eq!(answer.headers["location"], "/");
        let cookie = answer.headers["set-cookie"].split(';').next().unwrap().to_owned();
        Self { cookie, ..self.clone() }
    }
}

/// The value of the first field with this name in a page.
fn value_of(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("the page has the field");
    rest.split('"').next().unwrap().to_owned()
}

/// Where an accepted form leads to.
fn location(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.body);
    &answer.headers["location"]
}

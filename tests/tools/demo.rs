//! The demo as a newcomer meets it: started, watched, published to, ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use paho_mqtt as mqtt;
use test_support::eventually;
use test_support::http::{Answer, send};
use test_support::python::tool;
use test_support::world::text_of;

/// Far more than anything here takes; only a demo that hangs reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running demo and its output.
struct Demo {
    process: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(dir: &Path) -> Self {
        let mut process = command(dir).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// The first line from now on that contains all these parts.
    fn line_with(&self, parts: &[&str]) -> String {
        let mut passed = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
                panic!("no line with {parts:?} ({error}) after:\n{}", passed.join("\n"))
            });
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            passed.push(line);
        }
    }

    fn interrupt(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Ends it as Ctrl-C does, and gives the lines that came until then.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        self.interrupt();
        let rest = self.lines.iter().collect();
        (self.process.wait().unwrap(), rest)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-gateway"));
    command.args(["demo", "--port", "0", "--dir"]).arg(dir);
    command.env("RUST_LOG", "error").stdin(Stdio::null());
    command
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn port_in(line: &str) -> u16 {
    let (_, rest) = line.split_once("MQTT 3.1.1 at port ").unwrap();
    rest.split_once(',').unwrap().0.parse().unwrap()
}

fn number_in(stored: &str) -> u64 {
    let (_, rest) = stored.split_once('#').unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

fn publish(port: u16, topic: &str, payload: &str) {
    let options = mqtt::CreateOptionsBuilder::new()
        .server_uri(format!("tcp://127.0.0.1:{port}"))
        .client_id("somebody")
        .persistence(mqtt::PersistenceType::None)
        .finalize();
    let client = mqtt::Client::new(options).unwrap();
    client.connect(None).unwrap();
    client.publish(mqtt::Message::new(topic, payload, 1)).unwrap();
    client.disconnect(None).unwrap();
}

/// Address and path of the link to the console.
fn console_of(demo: &Demo) -> (SocketAddr, String) {
    let line = demo.line_with(&["http://", "/enter?link="]);
    let (_, rest) = line.split_once("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}

/// The answer to a browser without a session.
fn ask(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"), b"")
}

/// A browser in the console of a demo.
struct DemoVisitor {
    address: SocketAddr,
    cookie: String,
}

impl DemoVisitor {
    fn get(&self, path: &str) -> Answer {
        let (address, cookie) = (self.address, &self.cookie);
        send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}"), b"")
    }

    fn page(&self) -> String {
        let answer = self.get("/demo");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    fn press(&self, action: &str, form_key: &str) -> Answer {
        let (address, cookie) = (self.address, &self.cookie);
        let head = format!(
            "POST /demo/{action} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded"
        );
        send(address, &head, format!("key={form_key}").as_bytes())
    }
}

#[test]
fn killed_gateway_loses_nothing_and_keeps_its_visitors() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    command.env("RUST_LOG", "warn,rumqttd=off").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let log = lines_of(process.stderr.take().unwrap());
    let lines = lines_of(process.stdout.take().unwrap());
    let demo = Demo { process, lines };
    let (address, link) = console_of(&demo);
    let entered = ask(address, &link);
    assert_eq!(entered.status, 303, "{entered:?}");
    let cookie = entered.headers["set-cookie"].split(';').next().unwrap().to_owned();
    let visitor = DemoVisitor { address, cookie };
    demo.line_with(&[" stored "]);
    assert_eq!(ask(address, &link).status, 401, "the link is valid once");
    let used = visitor.get(&link);
    assert_eq!((used.status, used.headers["location"].as_str()), (303, "/"));

    let page = visitor.page();
    let form_key = page.split("name=\"key\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(visitor.press("kill-gateway", "wrong").status, 403);
    assert_eq!(visitor.press("nothing", &form_key).status, 404);
    assert_eq!(visitor.press("kill-gateway", &form_key).status, 303);
    while !log.recv_timeout(PATIENCE).unwrap().contains("Signal 9 ended the gateway") {}
    // Requests wait for the next gateway.
    eventually("the proof after the kill", || {
        let page = visitor.page();
        let is_proven = page.contains("it was killed once") && page.contains("Nothing was lost: all ");
        is_proven.then_some(())
    });
    // The form of the page from before the kill still works.
    assert_eq!(visitor.press("stop-endpoint", &form_key).status, 303);
    assert!(visitor.page().contains("The endpoint of ALARMS is stopped"));
    let (status, last_lines) = demo.end();
    assert!(status.success(), "{status}");
    assert!(last_lines.last().unwrap().contains("Nothing was lost"), "{last_lines:?}");
}

#[test]
fn demo_is_broken_and_mended_in_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let (address, link) = console_of(&demo);
    demo.line_with(&[" stored "]);
    let mut browser = Command::new(tool("python"));
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/demo.py"));
    browser.args([format!("http://{address}"), link]);
    browser.args(std::env::var_os("CONSOLE_SCREENSHOTS"));
    let output = browser.output().expect("the interpreter is installed");
    assert!(output.status.success(), "{}", text_of(&output));
    assert!(demo.end().0.success());
}

#[test]
fn page_of_the_demo_is_in_demos_only() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let (address, _) = console_of(&demo);
    assert_eq!(ask(address, "/demo").status, 303, "without a session");
    let lone = Command::new(env!("CARGO_BIN_EXE_mqtt-gateway"))
        .arg("demo-gateway")
        .arg("--dir")
        .arg(dir.path())
        .output();
    let lone = lone.unwrap();
    assert_eq!(lone.status.code(), Some(1));
    assert!(text_of(&lone).contains("run `mqtt-gateway demo`"), "{}", text_of(&lone));
    assert!(demo.end().0.success());
}

#[test]
fn demo_shows_outcomes_and_takes_publications() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let port = port_in(&demo.line_with(&["MQTT 3.1.1 at port "]));

    demo.line_with(&[" stored ", "TEMPERATURE", "value="]);
    publish(port, "sensors/attic/temperature", r#"{"value": 12.25, "from": "somebody"}"#);
    demo.line_with(&[" stored ", "TEMPERATURE", "value=12.25", "from=somebody"]);
    publish(port, "alarms/attic", r#"{"severity": "low", "text": "a mouse"}"#);
    demo.line_with(&[" posted ", "ALARMS", r#"{"severity": "low", "text": "a mouse"}"#]);
    publish(port, "sensors/attic/humidity", r#"{"percent": "damp", "battery_low": false}"#);
    demo.line_with(&[" dead letter ", "HUMIDITY", "percent", "damp"]);

    let (status, last_lines) = demo.end();
    assert!(status.success(), "{status}");
    let summary = last_lines.last().unwrap();
    assert!(summary.starts_with("The demo has ended."), "{summary}");
    assert!(summary.contains("TEMPERATURE ") && summary.contains("posted: ALARMS "), "{summary}");
    assert!(dir.path().join("gateway.sqlite").is_file());
}

#[test]
fn sensors_show_every_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    let mut missing = vec![" stored ", " posted ", " dead letter "];
    while !missing.is_empty() {
        let line = demo.line_with(&[""]);
        missing.retain(|what| !line.contains(what));
    }
    assert!(demo.end().0.success());
}

#[test]
fn a_second_start_continues_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let is_temperature = |line: &&String| line.contains(" stored ") && line.contains("TEMPERATURE");

    let first = Demo::start(dir.path());
    let line = first.line_with(&[" stored ", "TEMPERATURE"]);
    assert_eq!(number_in(&line), 1);
    let (status, rest) = first.end();
    assert!(status.success(), "{status}");
    let last = rest.iter().rfind(is_temperature).unwrap_or(&line);

    let second = Demo::start(dir.path());
    let next = second.line_with(&[" stored ", "TEMPERATURE"]);
    assert_eq!(number_in(&next), number_in(last) + 1, "{last}\n{next}");
    assert!(second.end().0.success());
}

#[test]
fn second_demo_in_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path());
    demo.line_with(&[" stored "]);
    let refused = command(dir.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--dir"));
    demo.line_with(&[" posted "]);
    assert!(demo.end().0.success());
}

#[test]
fn closed_output_does_not_end_demo() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = command(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = lines_of(process.stderr.take().unwrap());
    drop(process.stdout.take());
    let demo = Demo { process, lines: channel().1 };
    // The view writes long before this is reported, and again with every message after it.
    let is_taken = |line: &String| line.contains("Error processing topic sensors/");
    while !is_taken(&log.recv_timeout(PATIENCE).unwrap()) {}
    assert!(demo.end().0.success());
}

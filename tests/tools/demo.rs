//! The demo as a newcomer meets it: started, watched, published to, ended.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use paho_mqtt as mqtt;

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

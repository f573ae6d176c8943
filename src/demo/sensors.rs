//! Simulated sensors, which occasionally publish an invalid message.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::companion::Companion;
use super::ledger::{READING, ReadingLedger};
use super::samples::{FAILING_FLOW, HUMIDITIES, POSTING_FLOW, TEMPERATURES};
use crate::embedded::broker::Link;
use crate::store::demo::reading_text;

/// Time between two ticks. Each tick publishes one to three messages.
const TICK_INTERVAL: Duration = Duration::from_millis(600);

/// Interval at which the readiness of the gateway is asked for, and the time limit of the answer.
const READY_INTERVAL: Duration = Duration::from_millis(100);
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Beginning of the answer of a gateway that is ready.
const READY: &[u8; 12] = b"HTTP/1.1 200";

const ROOMS: [&str; 3] = ["kitchen", "cellar", "roof"];

/// A message of a sensor.
#[derive(Debug, PartialEq, Eq)]
struct SensorReading {
    /// Its flow, if it is valid.
    flow: Option<&'static str>,
    topic: String,
    payload: String,
}

/// Starts a thread that publishes readings until it is stopped. It gives each valid one a number, and notes it.
///
/// A broker keeps no messages before the first subscription, so the thread waits until the gateway with this address
/// is ready. Without a console it cannot know.
pub(super) fn start(
    link: Link,
    ledger: Arc<ReadingLedger>,
    gateway: Option<SocketAddr>,
) -> io::Result<Companion> {
    Companion::start("demo-sensors", move |stop| {
        // The receiver stays alive, because the broker would otherwise consider the client disconnected.
        let (mut publisher, _receiver) = link;
        while gateway.is_some_and(|address| !is_ready(address).unwrap_or(false)) {
            if stop.wait(READY_INTERVAL) {
                return;
            }
        }
        let (mut tick, mut number) = (0_u32, first_number());
        while !stop.wait(TICK_INTERVAL) {
            for mut reading in readings(tick) {
                if let Some(flow) = reading.flow {
                    number += 1;
                    reading.payload = numbered(&reading.payload, number);
                    ledger.note_published(flow, number);
                }
                if let Err(error) = publisher.publish(reading.topic, reading.payload) {
                    log::error!("Demo sensors stopped: cannot publish to the broker: {error}");
                    return;
                }
            }
            tick = tick.wrapping_add(1);
        }
    })
}

fn is_ready(gateway: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&gateway, READY_TIMEOUT)?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; READY.len()];
    stream.read_exact(&mut status)?;
    Ok(status == *READY)
}

/// Returns a number above all of earlier demos, which give fewer than ten in a second.
fn first_number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() * 10
}

/// Adds the number of the reading to a JSON object.
fn numbered(payload: &str, number: u64) -> String {
    let fields = payload.strip_suffix('}').unwrap_or(payload);
    format!(r#"{fields}, "{READING}": "{}"}}"#, reading_text(number))
}

/// Returns the messages of a tick: a temperature always, other messages on some ticks.
fn readings(tick: u32) -> Vec<SensorReading> {
    let mut readings = vec![temperature(tick)];
    if tick % 2 == 1 {
        readings.push(humidity(tick));
    }
    match tick % 12 {
        0 | 10 => readings.push(alarm(tick)),
        7 => readings.push(maintenance(tick)),
        5 => readings.push(humidity_of_the_wrong_type(tick)),
        11 => readings.push(truncated_json(tick)),
        _ => {}
    }
    readings
}

fn temperature(tick: u32) -> SensorReading {
    let room = room(tick);
    let celsius = 21.0 + 3.0 * (f64::from(tick) / 10.0).sin();
    let payload = format!(r#"{{"sensor": "{room}", "value": {celsius:.1}, "unit": "°C"}}"#);
    reading(room, "temperature", payload).of(TEMPERATURES)
}

fn humidity(tick: u32) -> SensorReading {
    let room = room(tick);
    let percent = 45 + tick % 10;
    let battery_low = tick.is_multiple_of(9);
    let payload = format!(r#"{{"sensor": "{room}", "percent": {percent}, "battery_low": {battery_low}}}"#);
    reading(room, "humidity", payload).of(HUMIDITIES)
}

/// Returns an alarm. Some have a severity that the endpoint refuses.
fn alarm(tick: u32) -> SensorReading {
    let room = room(tick);
    let severity = if tick % 36 == 10 { "unknown" } else { "high" };
    SensorReading {
        flow: Some(POSTING_FLOW),
        topic: format!("alarms/{room}/door"),
        payload: format!(r#"{{"severity": "{severity}", "text": "the {room} door is open"}}"#),
    }
}

fn maintenance(tick: u32) -> SensorReading {
    let room = room(tick);
    SensorReading {
        flow: Some(FAILING_FLOW),
        topic: format!("maintenance/{room}"),
        payload: format!(r#"{{"task": "change the battery", "sensor": "{room}"}}"#),
    }
}

/// Returns a message that violates the schema of its flow.
fn humidity_of_the_wrong_type(tick: u32) -> SensorReading {
    let room = room(tick);
    reading(room, "humidity", format!(r#"{{"sensor": "{room}", "percent": "wet", "battery_low": false}}"#))
}

/// Returns a truncated message, which is not valid JSON.
fn truncated_json(tick: u32) -> SensorReading {
    let room = room(tick);
    reading(room, "temperature", format!(r#"{{"sensor": "{room}", "val"#))
}

fn reading(room: &str, quantity: &str, payload: String) -> SensorReading {
    SensorReading { flow: None, topic: format!("sensors/{room}/{quantity}"), payload }
}

impl SensorReading {
    fn of(self, flow: &'static str) -> Self {
        Self { flow: Some(flow), ..self }
    }
}

fn room(tick: u32) -> &'static str {
    match tick % 3 {
        0 => ROOMS[0],
        1 => ROOMS[1],
        _ => ROOMS[2],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn valid_readings_have_a_number() {
        let payload = numbered(&temperature(0).payload, 7);
        let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((payload["reading"].as_str(), payload["sensor"].as_str()), (Some("#7"), Some("kitchen")));
    }

    fn is_json(reading: &SensorReading) -> bool {
        serde_json::from_str::<serde_json::Value>(&reading.payload).is_ok()
    }

    #[test]
    fn every_flow_and_both_errors_appear() {
        let round: Vec<SensorReading> = (0..12).flat_map(readings).collect();
        let about = |part: &str| round.iter().filter(|reading| reading.topic.contains(part)).count();
        assert_eq!((about("temperature"), about("humidity"), about("alarms/")), (13, 7, 2));
        assert_eq!(round.iter().filter(|reading| !is_json(reading)).count(), 1);
        assert_eq!(round.iter().filter(|reading| reading.flow.is_none()).count(), 2);
        assert_eq!(round.iter().filter(|reading| reading.payload.contains("wet")).count(), 1);
    }
}

//! Simulated sensors, which occasionally publish an invalid message.

use std::io;
use std::time::Duration;

use super::companion::Companion;
use crate::embedded::broker::Link;

/// Time between two ticks. Each tick publishes one to three messages.
const TICK_INTERVAL: Duration = Duration::from_millis(600);

const ROOMS: [&str; 3] = ["kitchen", "cellar", "roof"];

/// A message of a sensor.
#[derive(Debug, PartialEq, Eq)]
struct SensorReading {
    topic: String,
    payload: String,
}

/// Starts a thread that publishes readings until it is stopped.
pub(super) fn start(link: Link) -> io::Result<Companion> {
    Companion::start("demo-sensors", move |stop| {
        // The receiver stays alive, because the broker would otherwise consider the client disconnected.
        let (mut publisher, _receiver) = link;
        let mut tick = 0_u32;
        while !stop.wait(TICK_INTERVAL) {
            for reading in readings(tick) {
                if let Err(error) = publisher.publish(reading.topic, reading.payload) {
                    log::error!("Demo sensors stopped: cannot publish to the broker: {error}");
                    return;
                }
            }
            tick = tick.wrapping_add(1);
        }
    })
}

/// Returns the messages of a tick: a temperature always, other messages on some ticks.
fn readings(tick: u32) -> Vec<SensorReading> {
    let mut readings = vec![temperature(tick)];
    if tick % 2 == 1 {
        readings.push(humidity(tick));
    }
    match tick % 12 {
        3 | 10 => readings.push(alarm(tick)),
        5 => readings.push(humidity_of_the_wrong_type(tick)),
        11 => readings.push(truncated_json(tick)),
        _ => {}
    }
    readings
}

fn temperature(tick: u32) -> SensorReading {
    let room = room(tick);
    let celsius = 21.0 + 3.0 * (f64::from(tick) / 10.0).sin();
    reading(room, "temperature", format!(r#"{{"sensor": "{room}", "value": {celsius:.1}, "unit": "°C"}}"#))
}

fn humidity(tick: u32) -> SensorReading {
    let room = room(tick);
    let percent = 45 + tick % 10;
    let battery_low = tick.is_multiple_of(9);
    reading(
        room,
        "humidity",
        format!(r#"{{"sensor": "{room}", "percent": {percent}, "battery_low": {battery_low}}}"#),
    )
}

fn alarm(tick: u32) -> SensorReading {
    let room = room(tick);
    SensorReading {
        topic: format!("alarms/{room}/door"),
        payload: format!(r#"{{"severity": "high", "text": "the {room} door is open"}}"#),
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
    SensorReading { topic: format!("sensors/{room}/{quantity}"), payload }
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

    fn is_json(reading: &SensorReading) -> bool {
        serde_json::from_str::<serde_json::Value>(&reading.payload).is_ok()
    }

    #[test]
    fn every_flow_and_both_errors_appear() {
        let round: Vec<SensorReading> = (0..12).flat_map(readings).collect();
        let about = |part: &str| round.iter().filter(|reading| reading.topic.contains(part)).count();
        assert_eq!((about("temperature"), about("humidity"), about("alarms/")), (13, 7, 2));
        assert_eq!(round.iter().filter(|reading| !is_json(reading)).count(), 1);
        assert_eq!(round.iter().filter(|reading| reading.payload.contains("wet")).count(), 1);
    }
}

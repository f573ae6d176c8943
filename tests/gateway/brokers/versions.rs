//! Brokers that speak MQTT 3.1.1 only, each with its own way not to answer a CONNECT of MQTT 5.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use test_support::mosquitto::Broker;
use test_support::publisher::read_packet;
use test_support::world::{Backend, World, text_of};

/// The broker's reaction to a CONNECT of MQTT 5.
#[derive(Clone, Copy, Debug)]
enum ToV5 {
    /// As `RabbitMQ` 3.10 does.
    Closes,
    /// As aedes does.
    AnswersInItsOwnVersion,
    /// As amqtt does.
    IsSilent,
}

/// Takes connections until the process ends, and answers a CONNECT of MQTT 3.1.1 with this code.
fn old_broker(to_v5: ToV5, code: u8) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap(), to_v5, code));
        }
    });
    port
}

fn serve(mut stream: TcpStream, to_v5: ToV5, code: u8) {
    // The client may only probe the port.
    let Ok((_, connect)) = read_packet(&mut stream) else { return };
    let level = connect[6];
    match (level, to_v5) {
        (5, ToV5::Closes) => return,
        (5, ToV5::AnswersInItsOwnVersion) => stream.write_all(&[0x20, 2, 0, 1]).unwrap(),
        (5, ToV5::IsSilent) => {}
        _ => stream.write_all(&[0x20, 2, 0, code]).unwrap(),
    }
    while read_packet(&mut stream).is_ok() {}
}

fn world(port: u16) -> World {
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(port), Some(true), Some(true));
    assert!(world.command(&["migrate"]).status.success());
    world
}

#[test]
fn mqtt_3_broker_is_detected_without_error() {
    for to_v5 in [ToV5::Closes, ToV5::AnswersInItsOwnVersion, ToV5::IsSilent] {
        let world = world(old_broker(to_v5, 0));
        let checked = world.command(&["check"]);
        let told = text_of(&checked);
        assert!(told.contains("accepts us by MQTT 3.1.1"), "{to_v5:?}: {told}");
        assert_eq!(checked.status.code(), Some(0), "{to_v5:?}: {told}");

        let mut gateway = world.start();
        let connected = gateway.wait_for_line("Connected to the broker");
        assert!(connected.contains(r#""version":"3.1.1""#), "{connected}");
        assert_eq!(gateway.count_errors(""), 0, "{to_v5:?}");
        assert_eq!(gateway.stop(), Some(0));
    }
}

#[test]
fn mqtt_3_broker_reports_wrong_password() {
    for (to_v5, code) in [(ToV5::Closes, 4), (ToV5::AnswersInItsOwnVersion, 5)] {
        let world = world(old_broker(to_v5, code));
        let checked = world.command(&["check"]);
        let told = text_of(&checked);
        let failure = format!("MQTT connection failed with reason code: {code}");
        assert!(told.contains(&failure) && told.contains("correct username and password"), "{told}");
        assert_eq!(checked.status.code(), Some(1));

        let mut gateway = world.start();
        gateway.wait_for_line(&failure);
        assert_eq!(gateway.count_errors("reason code: -"), 0);
        assert_eq!(gateway.stop(), Some(0));
    }
}

/// A silent listener is no broker of any version.
#[test]
fn closing_broker_is_not_taken_for_mqtt_3() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let world = world(listener.local_addr().unwrap().port());
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut gateway = world.start();
    gateway.wait_for_line("MQTT connection failed with reason code: -");
    assert_eq!(gateway.stop(), Some(0));
    let told = text_of(&world.command(&["check"]));
    assert!(told.contains("FAIL broker") && told.contains("reason code: -"), "{told}");
}

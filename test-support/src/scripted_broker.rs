//! A broker, of MQTT 5 if not said otherwise, that gives out packet identifiers, and sends again, just as the test
//! says.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::PATIENCE;
use super::publisher::{packet, read_packet, string};

const CONNECT: u8 = 0x10;
const PUBLISH_QOS_1: u8 = 0x32;
const DUP: u8 = 0x08;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x80;
const UNSUBSCRIBE: u8 = 0xA0;
const PINGREQ: u8 = 0xC0;

pub struct ScriptedBroker(TcpListener);

/// A connection of the gateway.
pub struct Connection(TcpStream);

impl ScriptedBroker {
    pub fn new() -> ScriptedBroker {
        ScriptedBroker(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Takes the gateway's next connection and answers until it has subscribed its one filter.
    pub fn accept(&self, session_present: bool) -> Connection {
        self.accept_granting(session_present, 1)
    }

    /// The same, and grants this `QoS`.
    pub fn accept_granting(&self, session_present: bool, qos: u8) -> Connection {
        let mut connection = self.accept_with(&[0x20, 3, u8::from(session_present), 0, 0]);
        let (kind, subscribe) = read_packet(&mut connection.0).unwrap();
        assert_eq!(kind, SUBSCRIBE);
        connection.send(&[0x90, 4, subscribe[0], subscribe[1], 0, qos]);
        connection
    }

    /// Takes the gateway's next connection as a broker of this version, 5 or 4 for 3.1.1, until it has subscribed its
    /// one filter.
    pub fn accept_version(&self, version: u8) -> Connection {
        if version == 5 {
            return self.accept(false);
        }
        let mut connection = self.accept_with(&[0x20, 2, 0, 0]);
        let (kind, subscribe) = read_packet(&mut connection.0).unwrap();
        assert_eq!(kind, SUBSCRIBE);
        connection.send(&[0x90, 3, subscribe[0], subscribe[1], 1]);
        connection
    }

    /// Takes the gateway's next connection and answers to its CONNECT with this.
    pub fn accept_with(&self, connack: &[u8]) -> Connection {
        let mut connection = loop {
            let (stream, _) = self.0.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            // The gateway may only probe the port.
            if stream.peek(&mut [0]).unwrap() > 0 {
                break Connection(stream);
            }
        };
        assert_eq!(connection.next_packet(), CONNECT);
        connection.send(connack);
        connection
    }
}

impl Connection {
    /// The type of the gateway's next packet.
    pub fn next_packet(&mut self) -> u8 {
        read_packet(&mut self.0).unwrap().0
    }

    /// Sends these bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// PUBLISH at `QoS` 1.
    pub fn publish(&mut self, packet_id: u16, duplicate: bool, topic: &str, payload: &str) {
        let mut body = string(topic);
        body.extend(packet_id.to_be_bytes());
        // No properties.
        body.push(0);
        body.extend(payload.as_bytes());
        self.send(&packet(PUBLISH_QOS_1 | if duplicate { DUP } else { 0 }, &body));
    }

    /// Grants the next `count` SUBSCRIBEs of one filter each. Returns the filters, and whether each has an identifier.
    pub fn grant(&mut self, count: usize) -> Vec<(String, bool)> {
        let mut granted = Vec::new();
        while granted.len() < count {
            let (kind, body) = read_packet(&mut self.0).unwrap();
            match kind {
                PUBACK => continue,
                UNSUBSCRIBE => {
                    self.send(&[0xB0, 4, body[0], body[1], 0, 0]);
                    continue;
                }
                _ => assert_eq!(kind, SUBSCRIBE),
            }
            // The length of the properties, which are an identifier or none, takes a byte.
            let properties = usize::from(body[2]);
            let filter = &body[3 + properties + 2..body.len() - 1];
            granted.push((String::from_utf8(filter.to_vec()).unwrap(), properties > 0));
            self.send(&[0x90, 4, body[0], body[1], 0, 1]);
        }
        granted
    }

    /// Waits until something is unsubscribed, and answers.
    pub fn await_unsubscribe(&mut self) {
        let (kind, body) = read_packet(&mut self.0).unwrap();
        assert_eq!(kind, UNSUBSCRIBE);
        self.send(&[0xB0, 4, body[0], body[1], 0, 0x11]);
    }

    /// Waits until something is unsubscribed, and does not answer.
    pub fn ignore_unsubscribe(&mut self) {
        assert_eq!(self.next_packet(), UNSUBSCRIBE);
    }

    /// Waits for a ping, and answers. Nothing else may come before.
    pub fn await_ping(&mut self) {
        assert_eq!(self.next_packet(), PINGREQ);
        self.send(&[0xD0, 0]);
    }

    /// Waits for the acknowledgement of this message.
    pub fn await_puback(&mut self, packet_id: u16) {
        loop {
            match read_packet(&mut self.0).unwrap() {
                (PUBACK, body) => {
                    assert_eq!(u16::from_be_bytes([body[0], body[1]]), packet_id);
                    return;
                }
                (UNSUBSCRIBE, body) => self.send(&[0xB0, 4, body[0], body[1], 0, 0]),
                (kind, _) => panic!("the gateway sends a packet of type {kind:#x}"),
            }
        }
    }
}

//! A broker that sends the bytes that the test gives.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::mqtt_link::peer::TIMEOUT;

pub(crate) const CONNACK_V311: &[u8] = &[0x20, 2, 0, 0];
pub(crate) const CONNACK_V311_WRONG_VERSION: &[u8] = &[0x20, 2, 0, 1];
pub(crate) const CONNACK_V311_NOT_AUTHORIZED: &[u8] = &[0x20, 2, 0, 5];
pub(crate) const CONNACK_V5: &[u8] = &[0x20, 3, 0, 0, 0];
pub(crate) const CONNACK_V5_WRONG_VERSION: &[u8] = &[0x20, 3, 0, 0x84, 0];
/// With the property 41, Subscription Identifiers Available, as 0.
pub(crate) const CONNACK_V5_WITHOUT_IDENTIFIERS: &[u8] = &[0x20, 5, 0, 0, 2, 41, 0];
pub(crate) const DISCONNECT_TAKEN_OVER: &[u8] = &[0xE0, 2, 0x8E, 0];

const PUBACK: u8 = 0x40;
const DISCONNECT: u8 = 0xE0;

pub(crate) struct Scripted(TcpListener);

pub(crate) struct Connection(TcpStream);

impl Scripted {
    pub(crate) fn new() -> Scripted {
        Scripted(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(crate) fn accept(&self) -> Connection {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Connection(stream)
    }

    /// The next connection that sends something. Probes only connect.
    pub(crate) fn accept_client(&self) -> Connection {
        loop {
            let connection = self.accept();
            if connection.0.peek(&mut [0]).unwrap() > 0 {
                return connection;
            }
        }
    }
}

impl Connection {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Reads a whole packet of less than 128 bytes.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).unwrap();
        assert!(packet[1] < 128, "a longer packet than any here: {packet:?}");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[2..]).unwrap();
        packet
    }

    /// Reads CONNECT and gives its protocol level: 4 is MQTT 3.1.1.
    pub(crate) fn connect_level(&mut self) -> u8 {
        let packet = self.packet();
        assert_eq!(packet[2..8], *b"\0\x04MQTT");
        packet[8]
    }

    /// Sends messages until DISCONNECT comes. Returns the number of acknowledgements before it.
    pub(crate) fn send_until_disconnect(mut self) -> usize {
        let mut sender = self.0.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let messages = (1..=u16::MAX).cycle().map(|id| publish_dup("t", id, &[], "x"));
            for message in messages {
                if sender.write_all(&message).is_err() {
                    break;
                }
            }
        });
        let kinds = std::iter::repeat_with(|| self.packet()[0]);
        let acknowledged =
            kinds.take_while(|kind| *kind != DISCONNECT).filter(|kind| *kind == PUBACK).count();
        // The client may have closed the connection already.
        let _ = self.0.shutdown(Shutdown::Both);
        sending.join().unwrap();
        acknowledged
    }

    pub(crate) fn nothing_to_read(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let nothing = self.0.peek(&mut [0]).is_err();
        self.0.set_nonblocking(false).unwrap();
        nothing
    }
}

/// PUBLISH of MQTT 5 at `QoS` 1 with DUP.
pub(crate) fn publish_dup(topic: &str, packet_id: u16, subscription_ids: &[u16], payload: &str) -> Vec<u8> {
    let mut properties = Vec::new();
    for id in subscription_ids {
        properties.push(11);
        // A variable byte integer below 2^14.
        let [low, high] = [id & 0x7F, id >> 7].map(|part| u8::try_from(part).unwrap());
        if high == 0 {
            properties.push(low);
        } else {
            properties.extend([low | 0x80, high]);
        }
    }
    let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
    body.extend(topic.as_bytes());
    body.extend(packet_id.to_be_bytes());
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend(properties);
    body.extend(payload.as_bytes());
    let mut packet = vec![0x3A, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

/// SUBACK of MQTT 5 for a SUBSCRIBE of one filter.
pub(crate) fn suback_v5(subscribe: &[u8], code: u8) -> Vec<u8> {
    vec![0x90, 4, subscribe[2], subscribe[3], 0, code]
}

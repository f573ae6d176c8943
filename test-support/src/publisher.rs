//! A device: an MQTT 3.1.1 client that publishes at QoS 1 and keeps track of acknowledgements.
//!
//! Written out by hand: the tests are about what happens between two acknowledgements, and a client library would
//! add its own queues and repetitions to that.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::PATIENCE;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS_1: u8 = 0x32;
const RETAIN: u8 = 0x01;
const PUBACK: u8 = 0x40;

/// Flags of CONNECT.
const CLEAN_SESSION: u8 = 0x02;
const CREDENTIALS: u8 = 0xC0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
}

impl Message {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Message {
        Message { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), retained: false }
    }
}

/// Client id and credentials.
#[derive(Clone, Default)]
pub struct Login {
    /// Empty: the broker's to fill.
    pub client_id: String,
    pub credentials: Option<(String, String)>,
}

pub struct Publisher {
    broker: SocketAddr,
    login: Login,
    stream: TcpStream,
    next_packet_id: u16,
    unacknowledged: VecDeque<(u16, Message)>,
    /// Messages sent again because the broker went away before it had answered; they may be there twice.
    pub resent: Vec<Message>,
}

impl Publisher {
    pub fn connect(broker: SocketAddr) -> Publisher {
        Publisher::connect_as(broker, Login::default())
    }

    pub fn connect_as(broker: SocketAddr, login: Login) -> Publisher {
        let stream = open(broker, &login, CLEAN_SESSION).unwrap();
        Publisher {
            broker,
            login,
            stream,
            next_packet_id: 1,
            unacknowledged: VecDeque::new(),
            resent: Vec::new(),
        }
    }

    /// Publishes and waits for the broker's word that it has the message.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_all([Message::new(topic, payload)]);
    }

    /// Publishes in order, a window of 100 messages at a time, and returns when all are acknowledged. A broker that
    /// goes away is awaited, and what it had not acknowledged is published again, in order.
    pub fn publish_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            while self.unacknowledged.len() >= 100 {
                self.await_puback();
            }
            let id = self.take_packet_id();
            self.unacknowledged.push_back((id, message.clone()));
            if self.stream.write_all(&publish(id, &message)).is_err() {
                self.resume();
            }
        }
        while !self.unacknowledged.is_empty() {
            self.await_puback();
        }
    }

    fn take_packet_id(&mut self) -> u16 {
        let id = self.next_packet_id;
        self.next_packet_id = id.checked_add(1).unwrap_or(1);
        id
    }

    fn await_puback(&mut self) {
        match read_packet(&mut self.stream) {
            Ok((PUBACK, body)) => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                self.unacknowledged.retain(|(other, _)| *other != id);
            }
            Ok((kind, _)) => panic!("the broker answered with a packet of type {kind:#x}"),
            Err(_) => self.resume(),
        }
    }

    fn resume(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        'connection: loop {
            assert!(Instant::now() < deadline, "the broker does not come back");
            let Ok(stream) = open(self.broker, &self.login, CLEAN_SESSION) else {
                std::thread::sleep(std::time::Duration::from_millis(20));
                continue;
            };
            self.stream = stream;
            for (id, message) in &self.unacknowledged {
                self.resent.push(message.clone());
                if self.stream.write_all(&publish(*id, message)).is_err() {
                    continue 'connection;
                }
            }
            return;
        }
    }
}

/// Takes the session of another client, as one with the same client id does, and reads nothing.
pub fn take_session(broker: SocketAddr, client_id: &str) -> TcpStream {
    open(broker, &Login { client_id: client_id.to_owned(), credentials: None }, 0).unwrap()
}

fn open(broker: SocketAddr, login: &Login, flags: u8) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut body = string("MQTT");
    let with_credentials = if login.credentials.is_some() { CREDENTIALS } else { 0 };
    // Protocol level 4, and the longest keepalive: rumqttd refuses a client without one.
    body.extend([4, flags | with_credentials, 0xFF, 0xFF]);
    body.extend(string(&login.client_id));
    if let Some((user, password)) = &login.credentials {
        body.extend(string(user));
        body.extend(string(password));
    }
    stream.write_all(&packet(CONNECT, &body))?;
    match read_packet(&mut stream)? {
        (CONNACK, body) if body[1] == 0 => Ok(stream),
        (kind, body) => panic!("the broker refused the publisher: {kind:#x} {body:?}"),
    }
}

fn publish(id: u16, message: &Message) -> Vec<u8> {
    let mut body = string(&message.topic);
    body.extend(id.to_be_bytes());
    body.extend(&message.payload);
    packet(PUBLISH_QOS_1 | if message.retained { RETAIN } else { 0 }, &body)
}

pub fn string(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// The type of the next packet, without its flags, and its body.
pub fn read_packet(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let kind = byte[0] & 0xF0;
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

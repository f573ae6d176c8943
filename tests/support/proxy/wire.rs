//! Where packets end on the wire, and what they are: as much of the protocols as triggers need.

use std::collections::HashMap;

use super::{Sign, Way};

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Raw,
    MySql,
    Mqtt,
}

impl Protocol {
    /// The length of the first packet, once all of it is there.
    pub(super) fn first_packet(self, bytes: &[u8]) -> Option<usize> {
        let length = match self {
            Protocol::Raw => bytes.len(),
            Protocol::MySql => {
                4 + usize::from(*bytes.first()?)
                    + (usize::from(*bytes.get(1)?) << 8)
                    + (usize::from(*bytes.get(2)?) << 16)
            }
            Protocol::Mqtt => mqtt_length(bytes)?,
        };
        (length > 0 && length <= bytes.len()).then_some(length)
    }
}

fn mqtt_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.get(1..)?.iter().enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(2 + index + length);
        }
    }
    None
}

/// What one connection has said so far that later packets refer to.
#[derive(Default)]
pub(super) struct Dialogue {
    /// Asked to be prepared, not yet named by the server.
    preparing: Option<String>,
    prepared: HashMap<u32, String>,
    /// What was sent last.
    previous: String,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Label {
    Other,
    Statement(String),
    Packet(Way, u8),
}

impl Label {
    pub(super) fn bears(&self, sign: Sign) -> bool {
        match (self, sign) {
            (Label::Statement(text), Sign::Statement(part)) => text.contains(&part.to_uppercase()),
            (Label::Packet(way, kind), Sign::Packet(wanted_way, wanted)) => {
                *way == wanted_way && *kind == wanted as u8
            }
            _ => false,
        }
    }
}

impl Dialogue {
    pub(super) fn label(&mut self, protocol: Protocol, way: Way, packet: &[u8]) -> Label {
        match (protocol, way) {
            (Protocol::Raw, _) => Label::Other,
            (Protocol::Mqtt, _) => Label::Packet(way, packet[0] >> 4),
            (Protocol::MySql, Way::ToServer) => self.command(packet),
            (Protocol::MySql, Way::ToClient) => {
                self.answer(packet);
                Label::Other
            }
        }
    }

    /// A command begins with sequence number 0; what has another belongs to the handshake.
    fn command(&mut self, packet: &[u8]) -> Label {
        let (Some(0), Some(command)) = (packet.get(3), packet.get(4)) else { return Label::Other };
        let rest = &packet[5..];
        let sent = match *command {
            COM_QUERY => Some(text(rest)),
            COM_STMT_PREPARE => {
                self.preparing = Some(text(rest));
                None
            }
            COM_STMT_EXECUTE => statement_id(rest).and_then(|id| self.prepared.get(&id)).cloned(),
            _ => None,
        };
        let Some(sent) = sent else { return Label::Other };
        let before = std::mem::replace(&mut self.previous, sent.clone());
        // What it commits is said by what came before it.
        Label::Statement(if sent == "COMMIT" { format!("COMMIT AFTER {before}") } else { sent })
    }

    /// The server answers one command after the other, so the first packet after a PREPARE is its answer.
    fn answer(&mut self, packet: &[u8]) {
        if let Some(text) = self.preparing.take()
            && let (Some(1), Some(0)) = (packet.get(3), packet.get(4))
            && let Some(id) = statement_id(&packet[5..])
        {
            self.prepared.insert(id, text);
        }
    }
}

fn statement_id(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_uppercase()
}

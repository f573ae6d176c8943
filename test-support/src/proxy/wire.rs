//! Where packets end on the wire, and what they are: as much of the protocols as triggers need.

use super::{Mqtt, Sign, Way, mysql, postgres};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Raw,
    MySql,
    Postgres,
    Mqtt,
}

impl Protocol {
    /// The length of the first packet, once all of it is there.
    pub(super) fn first_packet(self, way: Way, bytes: &[u8]) -> Option<usize> {
        let length = match self {
            Protocol::Raw => bytes.len(),
            Protocol::MySql => mysql::length(bytes)?,
            Protocol::Postgres => postgres::length(way, bytes)?,
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

fn mqtt_label(way: Way, packet: &[u8]) -> Label {
    let kind = packet[0] >> 4;
    let with_filters = [Mqtt::Subscribe, Mqtt::Unsubscribe].into_iter().find(|with| *with as u8 == kind);
    match with_filters {
        Some(with_filters) => Label::Filters(with_filters, String::from_utf8_lossy(packet).into_owned()),
        None => Label::Packet(way, kind),
    }
}

/// What one connection has said so far that later packets refer to.
#[derive(Default)]
pub(super) struct Dialogue {
    mysql: mysql::Named,
    postgres: postgres::Named,
    /// What was sent last.
    previous: String,
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Label {
    Other,
    Statement(String),
    Packet(Way, u8),
    /// A SUBSCRIBE or UNSUBSCRIBE, with what is in it.
    Filters(Mqtt, String),
}

impl Label {
    pub(super) fn bears(&self, sign: Sign) -> bool {
        match (self, sign) {
            (Label::Statement(statement), Sign::Statement(part)) => {
                statement.contains(&text(part.as_bytes()))
            }
            (Label::Packet(way, kind), Sign::Packet(wanted_way, wanted)) => {
                *way == wanted_way && *kind == wanted as u8
            }
            (Label::Filters(kind, _), Sign::Packet(Way::ToServer, wanted)) => *kind == wanted,
            (Label::Filters(_, filters), Sign::Filter(part)) => filters.contains(part),
            _ => false,
        }
    }
}

impl Dialogue {
    pub(super) fn label(&mut self, protocol: Protocol, way: Way, packet: &[u8]) -> Label {
        match (protocol, way) {
            (Protocol::Raw, _) | (Protocol::Postgres, Way::ToClient) => Label::Other,
            (Protocol::Mqtt, _) => mqtt_label(way, packet),
            (Protocol::MySql, Way::ToServer) => {
                let sent = self.mysql.sent(packet);
                self.statement(sent)
            }
            (Protocol::Postgres, Way::ToServer) => {
                let sent = self.postgres.sent(packet);
                self.statement(sent)
            }
            (Protocol::MySql, Way::ToClient) => {
                self.mysql.answered(packet);
                Label::Other
            }
        }
    }

    fn statement(&mut self, sent: Option<String>) -> Label {
        let Some(sent) = sent else { return Label::Other };
        let before = std::mem::replace(&mut self.previous, sent.clone());
        // What it commits is said by what came before it.
        Label::Statement(if sent == "COMMIT" { format!("COMMIT AFTER {before}") } else { sent })
    }
}

/// A statement without what differs between databases and means nothing: upper and lower case, and quotes about names.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_uppercase().replace(['`', '"'], "")
}

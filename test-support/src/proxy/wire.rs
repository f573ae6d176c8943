//! Splits the stream into packets and classifies them, as far as triggers need it.

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

/// State of a connection that later packets refer to.
#[derive(Default)]
pub(super) struct Dialogue {
    mysql: mysql::Named,
    postgres: postgres::Named,
    /// The last statement.
    previous: String,
}

/// Class of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Label {
    Other,
    Statement(String),
    Packet(Way, u8),
    /// A SUBSCRIBE or UNSUBSCRIBE with its content.
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
        // The statements before it say what it commits.
        Label::Statement(if sent == "COMMIT" { format!("COMMIT AFTER {before}") } else { sent })
    }
}

/// A statement in lower case and without quotes about names, which differ between databases.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_uppercase().replace(['`', '"'], "")
}

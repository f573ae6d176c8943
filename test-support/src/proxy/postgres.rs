//! The part of the protocol of `PostgreSQL` that triggers need.
//!
//! A statement is sent as text, or in three steps: parsed under a name, bound under that name to a portal, and the
//! portal executed. The client chooses the names, so nothing the server says is needed.

use std::collections::HashMap;

use super::Way;
use super::wire::text;

/// The server's answers are passed on as they come: one of them, to the question for TLS, has no length.
pub(super) fn length(way: Way, bytes: &[u8]) -> Option<usize> {
    match (way, bytes.first()?) {
        (Way::ToClient, _) => Some(bytes.len()),
        // Packets of the handshake have no type before their length.
        (Way::ToServer, 0) => big_endian(bytes),
        (Way::ToServer, _) => Some(1 + big_endian(&bytes[1..])?),
    }
}

fn big_endian(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok()
}

/// Statements by the name that the client gave them.
#[derive(Default)]
pub(super) struct Named {
    statements: HashMap<Vec<u8>, String>,
    /// With the statement that is bound to it.
    portals: HashMap<Vec<u8>, String>,
}

impl Named {
    /// The statement that the server is to execute by this packet.
    pub(super) fn sent(&mut self, packet: &[u8]) -> Option<String> {
        let (first, rest) = cut(packet.get(5..)?)?;
        match packet[0] {
            b'Q' => Some(text(first)),
            b'P' => {
                self.statements.insert(first.to_owned(), text(cut(rest)?.0));
                None
            }
            b'B' => {
                let statement = self.statements.get(cut(rest)?.0).cloned()?;
                self.portals.insert(first.to_owned(), statement);
                None
            }
            b'E' => self.portals.get(first).cloned(),
            _ => None,
        }
    }
}

/// Splits a string that ends with a zero from the bytes after it.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

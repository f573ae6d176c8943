//! The part of the protocol of MariaDB and `MySQL` that triggers need.

use std::collections::HashMap;

use super::wire::text;

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let byte = |index: usize| bytes.get(index).copied().map(usize::from);
    Some(4 + byte(0)? + (byte(1)? << 8) + (byte(2)? << 16))
}

/// Statements by the id that the server gave them.
#[derive(Default)]
pub(super) struct Named {
    /// Asked to be prepared, and not yet named.
    preparing: Option<String>,
    prepared: HashMap<u32, String>,
}

impl Named {
    /// The statement that the server is to execute by this packet. A command begins with sequence number 0; what has
    /// another belongs to the handshake.
    pub(super) fn sent(&mut self, packet: &[u8]) -> Option<String> {
        let (Some(0), Some(command)) = (packet.get(3), packet.get(4)) else { return None };
        let rest = &packet[5..];
        match *command {
            COM_QUERY => Some(text(rest)),
            COM_STMT_PREPARE => {
                self.preparing = Some(text(rest));
                None
            }
            COM_STMT_EXECUTE => statement_id(rest).and_then(|id| self.prepared.get(&id)).cloned(),
            _ => None,
        }
    }

    /// The server answers one command after the other, so the first packet after a PREPARE is its answer.
    pub(super) fn answered(&mut self, packet: &[u8]) {
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

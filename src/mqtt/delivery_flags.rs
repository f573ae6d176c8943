//! Reads DUP and the packet identifier of a message, because paho-mqtt has no accessors for them.
//!
//! The `Debug` output of `Message` starts with the C structure, which contains both: `Message { cmsg: MQTTAsync_message
//! { …, payloadlen: 5, payload: 0x…, qos: 1, retained: 0, dup: 0, msgid: 7, properties: …`. A writer that stops there
//! takes about a microsecond and never sees topic or payload. It needs no unsafe code. The integration test of the link
//! fails if the format changes.

use std::fmt::{self, Write};

use paho_mqtt::Message;

/// Buffer size; the output up to the packet identifier takes about 150 bytes.
const HEAD_BYTES: usize = 256;

/// Returns DUP and packet identifier, or `None` if the debug format is unknown.
pub(super) fn delivery_flags(message: &Message) -> Option<(bool, u16)> {
    let mut head = PacketPrefix { bytes: [0; HEAD_BYTES], length: 0 };
    // The writer stops the output with an error on purpose.
    let _ = write!(head, "{message:?}");
    let text = std::str::from_utf8(head.bytes.get(..head.length)?).ok()?;
    let duplicate = number_after(text, "dup: ")?;
    let packet_id = number_after(text, "msgid: ")?;
    Some((duplicate != 0, u16::try_from(packet_id).ok()?))
}

fn number_after(text: &str, name: &str) -> Option<u32> {
    let (_, rest) = text.split_once(name)?;
    let (digits, _) = rest.split_once(',')?;
    digits.parse().ok()
}

/// Keeps the first bytes, and fails the write once it has enough.
struct PacketPrefix {
    bytes: [u8; HEAD_BYTES],
    length: usize,
}

impl Write for PacketPrefix {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let end = self.length + piece.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        self.length = end;
        // Name of the field after the packet identifier.
        if piece == "properties" {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_parsed_from_debug_output() {
        let message = Message::new("dup: 1, msgid: 9, properties", vec![0xFF; 100_000], 1);
        assert_eq!(delivery_flags(&message), Some((false, 0)));
    }

    #[test]
    fn unknown_formats_yield_nothing() {
        assert_eq!(number_after("dup: true, msgid: 4, ", "dup: "), None);
        assert_eq!(number_after("packet: 4, ", "msgid: "), None);
        assert_eq!(number_after("msgid: 65535, ", "msgid: "), Some(65_535));
    }

    #[test]
    fn writer_respects_its_capacity() {
        let mut head = PacketPrefix { bytes: [0; HEAD_BYTES], length: 0 };
        assert!(head.write_str(&"x".repeat(HEAD_BYTES)).is_ok());
        assert!(head.write_str("x").is_err());
        assert_eq!(head.length, HEAD_BYTES);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz {
    use super::*;

    /// Feeds arbitrary debug output, split into pieces at line ends.
    #[test]
    fn arbitrary_output_never_panics() {
        let dictionary = ["dup: ", "msgid: ", ", ", "properties", "\n", "65536", "1", "-", "ä"];
        crate::fuzzing::fuzz("mqtt_flags", &dictionary, |input| {
            let text = String::from_utf8_lossy(input);
            let mut head = PacketPrefix { bytes: [0; HEAD_BYTES], length: 0 };
            let taken = text.split_inclusive('\n').take_while(|piece| head.write_str(piece).is_ok()).count();
            let kept = std::str::from_utf8(head.bytes.get(..head.length).unwrap()).unwrap();
            assert!(text.starts_with(kept));
            let found = (number_after(kept, "dup: ").is_some(), number_after(kept, "msgid: ").is_some());
            crate::fuzzing::behaviour((taken.min(9), found))
        });
    }
}

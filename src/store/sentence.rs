//! Texts for people to read.

/// The beginning of a sentence that may quote a message. `PostgreSQL` stores no U+0000, so it is replaced: the report
/// about a message must not be rejected for the same reason.
pub(super) fn sentence(text: &str, most_chars: usize) -> String {
    const SYMBOL_FOR_NUL: char = '\u{2400}';
    let shown = text.chars().map(|c| if c == '\0' { SYMBOL_FOR_NUL } else { c });
    shown.take(most_chars).collect()
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_by_characters_and_shows_what_cannot_be_stored() {
        assert_eq!(sentence("é\0bc", 3), "é\u{2400}b");
    }
}

//! Percent-encoding of texts, for values of headers and for paths.

use std::fmt::Write as _;

/// Percent-encodes the bytes of UTF-8 that the value of a header cannot hold, and also `"` and `%`, by the rule of
/// `CloudEvents`. A receiver gets the text back by percent-decoding.
#[must_use]
pub fn header_text(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%')
}

/// Percent-encodes a text as a segment of a URI's path.
#[must_use]
pub fn path_segment(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn encoded(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    if text.bytes().all(&is_plain) {
        return text.to_owned();
    }
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_readable() {
        assert_eq!(header_text("home/1/temp"), "home/1/temp");
    }

    #[test]
    fn other_bytes_are_percent_encoded() {
        assert_eq!(header_text("a \"\u{e9}%\r\n\u{20ac}"), "a%20%22%C3%A9%25%0D%0A%E2%82%AC");
    }

    #[test]
    fn segments_have_no_reserved_characters() {
        assert_eq!(path_segment("a-b_c.d~1"), "a-b_c.d~1");
        assert_eq!(path_segment("a b/\u{fc}?"), "a%20b%2F%C3%BC%3F");
    }
}

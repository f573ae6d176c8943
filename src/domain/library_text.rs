//! Error texts of libraries, prepared for operators.

use std::fmt::Display;

/// Returns the text of an error without links to library documentation (`…: https://docs.rs/…`).
pub(crate) fn without_links(error: &dyn Display) -> String {
    let text = error.to_string();
    let mut parts = text.split(": https://docs.rs/");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || ";,)".contains(c));
        plain.push_str(end.and_then(|end| part.get(end..)).unwrap_or_default());
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_links_are_removed() {
        let closed = "peer closed connection without sending TLS close_notify";
        let text = format!("{closed}: https://docs.rs/rustls/latest/rustls/manual/index.html#unexpected-eof");
        assert_eq!(without_links(&text), closed);
        assert_eq!(
            without_links(&format!("{text}; again: {text} é")),
            format!("{closed}; again: {closed} é")
        );
        let endpoint = "cannot reach https://docs.rs/hook: refused";
        assert_eq!(without_links(&endpoint), endpoint);
    }
}

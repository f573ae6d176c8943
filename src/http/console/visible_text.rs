//! How texts are written into pages: markup is escaped, and invisible characters are shown.
//!
//! Askama applies this to all texts of all templates. Only the values of forms are written as they are.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};

use crate::domain::invisible::is_invisible;

/// The escaper of the templates.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisibleText;

impl Escaper for VisibleText {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let mut plain = text;
        while let Some((place, found)) = plain.char_indices().find(|(_, c)| is_to_be_shown(*c)) {
            let (before, rest) = plain.split_at(place);
            Html.write_escaped_str(&mut dest, before)?;
            write!(dest, "{}", found.escape_unicode())?;
            plain = rest.strip_prefix(found).unwrap_or_default();
        }
        Html.write_escaped_str(&mut dest, plain)
    }
}

/// Line breaks and tabs keep their place in payloads and schemas.
fn is_to_be_shown(c: char) -> bool {
    is_invisible(c) && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut page = String::new();
        assert!(VisibleText.write_escaped_str(&mut page, text).is_ok());
        page
    }

    #[test]
    fn markup_and_invisible_characters_are_shown() {
        assert_eq!(written("<b a=\"'&"), "&#60;b a=&#34;&#39;&#38;");
        assert_eq!(written("a\u{202e}b\u{1b}[1m\r\0"), "a\\u{202e}b\\u{1b}[1m\\u{d}\\u{0}");
        assert_eq!(written("line 1\n\tline 2 é 中"), "line 1\n\tline 2 é 中");
        assert_eq!(written(""), "");
    }
}

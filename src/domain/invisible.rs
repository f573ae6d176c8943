//! Characters that are not displayed or change the display of others.

use std::fmt::Write;

/// Whether the character can disguise a text: control characters, line and paragraph separators, and the Unicode
/// category Cf, such as marks of writing direction.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}'
    )
}

/// Escapes invisible characters in JSON. JSON permits them unescaped, but only inside strings.
#[must_use]
pub fn escape_in_json(json: String) -> String {
    if !json.contains(is_invisible) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_invisible(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_invisible() {
        let invisible =
            "\0\n\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200e}\u{202e}\u{2028}\u{2029}\u{2066}\u{feff}\u{e0041}";
        assert!(invisible.chars().all(is_invisible));
        assert!((0..=0x9f).filter_map(char::from_u32).all(|c| is_invisible(c) == c.is_control()));
    }

    #[test]
    fn ordinary_text_is_visible() {
        assert!(
            !"aZ~ é e\u{301} ñ ß ж עברית العربية हिन्दी 中文 日本語 😀𝄞\u{a0}\u{3000}…"
                .chars()
                .any(is_invisible)
        );
    }
}

//! The command lines that pages show, safe to copy.

use crate::domain::invisible::is_invisible;

/// A command with options.
pub(super) fn command_line(command: &str, options: &[(String, String)]) -> String {
    let options = options.iter().map(|(name, value)| format!(" --{name} {}", shell_word(value)));
    format!("mqtt-gateway {command}{}", options.collect::<String>())
}

/// A text as a word for the shell. Characters that pages show in another form are written in octal, as in `$'\033'`.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(is_invisible) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let word: String = text.chars().map(escaped).collect();
    format!("$'{word}'")
}

fn escaped(c: char) -> String {
    if is_invisible(c) {
        let octal = |byte| format!("\\{byte:03o}");
        return c.encode_utf8(&mut [0; 4]).bytes().map(octal).collect::<Vec<_>>().concat();
    }
    if matches!(c, '\'' | '\\') { format!("\\{c}") } else { c.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_safe_to_copy() {
        assert_eq!(shell_word("TEMP_1"), "TEMP_1");
        assert_eq!(shell_word("a b; rm"), "'a b; rm'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("-x"), "'-x'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("a\u{200b}'b\\\n"), r"$'a\342\200\213\'b\\\012'");
    }
}

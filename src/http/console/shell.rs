//! The command lines that pages show, safe to copy.

/// A command with options.
pub(super) fn command_line(command: &str, options: &[(String, String)]) -> String {
    let options = options.iter().map(|(name, value)| format!(" --{name} {}", shell_word(value)));
    format!("mqtt-gateway {command}{}", options.collect::<String>())
}

/// A text as a word for the shell.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
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
    }
}

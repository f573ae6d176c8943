//! Strings of a valid JSON text.

use std::borrow::Cow;

/// Decodes a JSON string with its quotes. The result is borrowed unless the string contains escapes. A string with an
/// unpaired surrogate is returned undecoded.
pub(in super::super) fn content_of(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // Decoding fails only for an unpaired surrogate.
    serde_json::from_str(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Appends a JSON string with its quotes, escaping only the characters that require it.
pub(super) fn push_minimal(quoted: &str, out: &mut String) {
    match content_of(quoted) {
        // A string without escapes is already in this form.
        Cow::Borrowed(_) => out.push_str(quoted),
        // serde_json and Python escape the same characters the same way.
        Cow::Owned(content) => match serde_json::to_string(&content) {
            Ok(escaped) => out.push_str(&escaped),
            Err(_) => out.push_str(quoted),
        },
    }
}

//! Strings of a JSON text that has been checked.

use std::borrow::Cow;

/// What a JSON string, given with its quotes, says. Borrowed unless it holds an escape. One with half a surrogate pair,
/// which no text can hold, stays as it is written.
pub(in super::super) fn content_of(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    // Fails on half a surrogate pair alone.
    serde_json::from_str(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Appends a JSON string, given with its quotes, in its plainest form: only what must be escaped is.
pub(super) fn push_plainest(quoted: &str, out: &mut String) {
    match content_of(quoted) {
        // Without an escape it is in that form already.
        Cow::Borrowed(_) => out.push_str(quoted),
        // serde_json and Python escape the same characters the same way.
        Cow::Owned(content) => match serde_json::to_string(&content) {
            Ok(escaped) => out.push_str(&escaped),
            Err(_) => out.push_str(quoted),
        },
    }
}

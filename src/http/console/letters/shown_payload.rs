//! A payload as a page shows it: with its offending place marked, and not longer than people read.

use std::fmt::Write;
use std::ops::Range;

/// Longest part of a payload that a page shows, in bytes.
const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// Bytes that are shown before the place of a long payload.
const BEFORE_BYTES: usize = 4 * 1024;

/// A payload around its offending place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ShownPayload {
    /// Bytes that are not shown, at the beginning.
    pub(super) skipped: usize,
    pub(super) before: String,
    /// The offending place.
    pub(super) marked: String,
    pub(super) after: String,
    /// Bytes that are not shown, at the end.
    pub(super) left: usize,
}

impl ShownPayload {
    pub(super) fn new(payload: &[u8], place: Option<Range<usize>>) -> Self {
        let place = place.unwrap_or(payload.len()..payload.len());
        let is_far = payload.len() > MAX_SHOWN_BYTES && place.end > MAX_SHOWN_BYTES && !place.is_empty();
        let start = if is_far { place.start.saturating_sub(BEFORE_BYTES) } else { 0 };
        let start = character_at(payload, start);
        let end = character_at(payload, (start + MAX_SHOWN_BYTES).min(payload.len()));
        let (from, until) = (place.start.clamp(start, end), place.end.clamp(start, end));
        let shown = |range: Range<usize>| readable(payload.get(range).unwrap_or_default());
        Self {
            skipped: start,
            before: shown(start..from),
            marked: shown(from..until),
            after: shown(until..end),
            left: payload.len() - end,
        }
    }
}

/// The place of the character that a byte is part of.
fn character_at(payload: &[u8], at: usize) -> usize {
    let is_inner = |place: usize| payload.get(place).is_some_and(|byte| byte & 0xc0 == 0x80);
    (0..4).map(|back| at.saturating_sub(back)).find(|place| !is_inner(*place)).unwrap_or(at)
}

/// Text as it is, and other bytes as `\xff`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_marked() {
        let shown = ShownPayload::new(b"{\"a\": \xff}", Some(6..7));
        assert_eq!(
            (shown.before.as_str(), shown.marked.as_str(), shown.after.as_str()),
            ("{\"a\": ", "\\xff", "}")
        );
        assert_eq!((shown.skipped, shown.left), (0, 0));
        let shown = ShownPayload::new(b"abc", None);
        assert_eq!((shown.before.as_str(), shown.marked.as_str()), ("abc", ""));
    }

    #[test]
    fn long_payloads_are_cut_around_the_place() {
        let payload = "é".repeat(500_000);
        let shown = ShownPayload::new(payload.as_bytes(), Some(600_000..600_002));
        assert_eq!(shown.marked, "é");
        assert!(shown.before.len() <= BEFORE_BYTES + 2 && shown.before.starts_with('é'));
        assert!(shown.skipped > 0 && shown.left > 0 && shown.after.ends_with('é'));
        let whole = ShownPayload::new(payload.as_bytes(), Some(0..payload.len()));
        assert!(whole.marked.len() <= MAX_SHOWN_BYTES && !whole.marked.is_empty());
        let none = ShownPayload::new(payload.as_bytes(), None);
        assert_eq!((none.skipped, none.marked.as_str()), (0, ""));
    }

    #[test]
    fn odd_places_are_harmless() {
        for place in [0..0, 0..9, 100..200] {
            let shown = ShownPayload::new(b"{}", Some(place));
            assert_eq!(shown.before.len() + shown.marked.len() + shown.after.len(), 2);
        }
    }
}

//! The second pass over an output with duplicate names.
//!
//! It copies the remaining members once, in their order. The content of an object is visited only with its member, so
//! the cost is linear in the length of the payload.

use std::ops::Range;

/// An object in the output, and its remaining members.
pub(super) struct Rearranged {
    /// The range between its braces.
    pub(super) content: Range<usize>,
    /// The ranges of the remaining members, in their final order.
    pub(super) members: Vec<Range<usize>>,
}

/// Replaces the content of each object in `rearranged` by its remaining members.
pub(super) fn reassemble(written: String, mut rearranged: Vec<Rearranged>) -> String {
    if rearranged.is_empty() {
        return written;
    }
    rearranged.sort_unstable_by_key(|object| object.content.start);
    let mut out = String::with_capacity(written.len());
    let mut copy = |range: Range<usize>| out.push_str(written.get(range).unwrap_or_default());
    // A stack: the last range is copied next.
    let everything = 0..written.len();
    let mut ranges = vec![everything];
    while let Some(range) = ranges.pop() {
        // The opening brace of an object in the range precedes its content, so the content starts after the range.
        let next = rearranged.partition_point(|object| object.content.start <= range.start);
        let Some(object) = rearranged.get(next).filter(|object| object.content.end <= range.end) else {
            copy(range);
            continue;
        };
        copy(range.start..object.content.start);
        ranges.push(object.content.end..range.end);
        ranges.extend((0..object.members.len()).rev().map(|place| with_separator(object, place)));
    }
    out
}

/// Returns the range of a member with its separator. Every member except the first was written after a separator.
fn with_separator(object: &Rearranged, place: usize) -> Range<usize> {
    let member = &object.members[place];
    let separator = if place == 0 { 0 } else { ", ".len() };
    member.start - separator..member.end
}

//! The second pass over an output in which names came again.
//!
//! Copies what is to stay, in its order, once: an object's content is looked at only when the member
//! that holds it is, so no payload makes this cost more than its length.

use std::ops::Range;

/// An object that has been written with all its members, and which of them are to stay.
pub(super) struct Rearranged {
    /// What stands between its braces.
    pub(super) content: Range<usize>,
    /// Names with their values, in the order that they are to have.
    pub(super) members: Vec<Range<usize>>,
}

/// `written` with the content of each of `rearranged` replaced by its members.
pub(super) fn reassemble(written: String, mut rearranged: Vec<Rearranged>) -> String {
    if rearranged.is_empty() {
        return written;
    }
    rearranged.sort_unstable_by_key(|object| object.content.start);
    let mut out = String::with_capacity(written.len());
    let mut copy = |range: Range<usize>| out.push_str(written.get(range).unwrap_or_default());
    // The next range to copy is the last.
    let everything = 0..written.len();
    let mut ranges = vec![everything];
    while let Some(range) = ranges.pop() {
        // An object in the range has its brace there, so its content begins later than the range does.
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

/// A member with the `", "` before it. Whatever stays at another place than the first was not the first
/// to be written, so it has one.
fn with_separator(object: &Rearranged, place: usize) -> Range<usize> {
    let member = &object.members[place];
    let separator = if place == 0 { 0 } else { ", ".len() };
    member.start - separator..member.end
}

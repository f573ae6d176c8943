//! Topic filters: compares tree and filter with a matcher written from the MQTT specification alone.
//!
//! An input consists of lines: a topic, then filters.

use super::{behaviour, fuzz};
use crate::domain::topic::TopicFilter;
use crate::domain::trie::FilterTrie;

#[test]
fn filters_match_the_specification() {
    let dictionary = [
        "/",
        "+",
        "#",
        "\n",
        "$",
        "$SYS/",
        "$share/",
        "$share/g/",
        "/+/",
        "/#",
        "//",
        "a",
        "\0",
        "ä",
        "\u{10fffd}",
        "\u{10ffff}",
        "\t",
    ];
    fuzz("topic", &dictionary, |input| {
        let Ok(text) = str::from_utf8(input) else { return 0 };
        let mut lines = text.split('\n').take(40);
        let topic = lines.next().unwrap_or_default();
        check(topic, &lines.collect::<Vec<_>>())
    });
}

fn check(topic: &str, filters: &[&str]) -> u64 {
    let mut tree = FilterTrie::default();
    let mut parsed = Vec::new();
    let mut expected = Vec::new();
    for (index, text) in filters.iter().enumerate() {
        let filter = TopicFilter::parse(text);
        assert_eq!(filter.is_ok(), specification::is_filter(text), "{text:?}");
        let Ok(filter) = filter else { continue };
        let matches = specification::matches(text, topic);
        assert_eq!(filter.matches(topic), matches, "{text:?} on {topic:?}");
        if matches {
            expected.push(index);
        }
        tree.insert(&filter, index);
        parsed.push((filter, matches));
    }
    let mut found = Vec::new();
    tree.visit(topic, |index| found.push(*index));
    found.sort_unstable();
    assert_eq!(found, expected, "the tree on {topic:?}");
    check_relations(topic, &parsed);
    behaviour((found.len(), parsed.len(), filters.len(), topic.split('/').count().min(20)))
}

/// Checks `covers`, `overlaps` and `join` of all pairs of filters on this topic.
fn check_relations(topic: &str, filters: &[(TopicFilter, bool)]) {
    for (one, one_matches) in filters {
        for (other, other_matches) in filters {
            if one.covers(other) {
                assert!(*one_matches || !other_matches, "{one} covers {other}, but not {topic:?}");
            }
            if *one_matches && *other_matches && one.is_shared() == other.is_shared() && !one.is_shared() {
                assert!(one.overlaps(other), "{one} and {other} on {topic:?}");
            }
            if let Some(join) = one.join(other) {
                let lost = (*one_matches || *other_matches) && !join.matches(topic);
                assert!(!lost, "{join} of {one} and {other} lacks {topic:?}");
            }
        }
    }
}

/// Implements sections 4.7 and 4.8.2 of MQTT 5.0 literally, without optimisation.
mod specification {
    pub(super) fn is_filter(filter: &str) -> bool {
        // "All Topic Names and Topic Filters MUST be at least one character long", "MUST NOT include
        // the null character", "MUST NOT encode to more than 65,535 bytes".
        if filter.is_empty() || filter.contains('\0') || filter.len() > 65_535 {
            return false;
        }
        // 1.5.4: "SHOULD NOT include ... U+0001..U+001F, U+007F..U+009F, code points defined in the Unicode
        // specification to be non-characters"; "could cause the receiver to close the network connection".
        let is_unusable = |c: char| match u32::from(c) {
            0x01..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF => true,
            code => code % 0x1_0000 >= 0xFFFE,
        };
        if filter.chars().any(is_unusable) {
            return false;
        }
        match filter.strip_prefix("$share/") {
            // "A ShareName that is at least one character long", "MUST NOT contain "/", "+" or "#"
            // but MUST be followed by a "/"", "MUST be followed by a Topic Filter".
            Some(shared) => shared.split_once('/').is_some_and(|(name, filter)| {
                !name.is_empty()
                    && !name.contains(['+', '#'])
                    && !filter.is_empty()
                    && has_good_levels(filter)
            }),
            None => has_good_levels(filter),
        }
    }

    fn has_good_levels(filter: &str) -> bool {
        let levels: Vec<&str> = filter.split('/').collect();
        levels.iter().enumerate().all(|(index, level)| {
            // "the single-level wildcard ... MUST occupy an entire level", "the multi-level wildcard
            // MUST be specified either on its own or following a separator", "the last character".
            let alone = !level.contains(['+', '#']) || level.len() == 1;
            alone && (*level != "#" || index == levels.len() - 1)
        })
    }

    pub(super) fn matches(filter: &str, topic: &str) -> bool {
        let filter = match filter.strip_prefix("$share/") {
            Some(shared) => shared.split_once('/').map_or("", |(_, filter)| filter),
            None => filter,
        };
        // "MUST NOT match Topic Filters starting with a wildcard character with Topic Names beginning
        // with a $ character".
        if topic.is_empty() || (topic.starts_with('$') && filter.starts_with(['+', '#'])) {
            return false;
        }
        let (filter, topic): (Vec<&str>, Vec<&str>) =
            (filter.split('/').collect(), topic.split('/').collect());
        levels_match(&filter, &topic)
    }

    fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            // "represents the parent and any number of child levels".
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels_match(filter, topic),
            ([level, filter @ ..], [name, topic @ ..]) => level == name && levels_match(filter, topic),
            _ => false,
        }
    }
}

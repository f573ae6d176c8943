//! A trie of topic filters by level. The cost of a match depends on the levels of the topic, not on the number of
//! filters.
//!
//! ```text
//! a/+/c ─┐            ┌ "c" ▸ exact: a/+/c
//! a/b   ─┼▸ root ▸ "a" ┤ "+" above it, "b" ▸ exact: a/b
//! a/#   ─┘            └ below: a/#
//! ```
//! Nodes are stored in one vector and refer to each other by index, so neither matching nor dropping recurses. A topic
//! reaches a node by one path at most, so no value is visited twice.

mod literals;

use self::literals::Literals;
use super::topic::{TopicFilter, is_reserved};

const ROOT: usize = 0;

/// Values by topic filter.
#[derive(Debug)]
pub struct FilterTrie<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// Children by the text of a level.
    literals: Literals,
    /// Child of `+`.
    plus: Option<usize>,
    /// Values of filters that end here.
    exact: Vec<T>,
    /// Values of filters that continue with `#`. They match here and in all levels below.
    below: Vec<T>,
}

impl<T> Node<T> {
    fn new() -> Node<T> {
        Node { literals: Literals::default(), plus: None, exact: Vec::new(), below: Vec::new() }
    }
}

impl<T> Default for FilterTrie<T> {
    fn default() -> Self {
        FilterTrie { nodes: vec![Node::new()] }
    }
}

impl<T> FilterTrie<T> {
    /// Adds a value to `filter`. Existing values stay.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut at = ROOT;
        for level in filter.pattern().split('/') {
            if level == "#" {
                return self.nodes[at].below.push(value);
            }
            at = self.child_or_new(at, level);
        }
        self.nodes[at].exact.push(value);
    }

    /// Calls `found` with the value of every filter that matches `topic`, in no particular order.
    pub fn visit<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a T)) {
        if topic.is_empty() {
            return;
        }
        let reserved = is_reserved(topic);
        // Holds the `+` child while the literal child is visited first.
        let mut waiting: Vec<(usize, Option<&str>)> = Vec::new();
        let mut next = Some((ROOT, Some(topic)));
        while let Some((at, rest)) = next.take().or_else(|| waiting.pop()) {
            let node = &self.nodes[at];
            let wildcards_match = at != ROOT || !reserved;
            if wildcards_match {
                node.below.iter().for_each(&mut found);
            }
            let Some(rest) = rest else {
                node.exact.iter().for_each(&mut found);
                continue;
            };
            let (level, rest) = first_level(rest);
            let literal = node.literals.get(level).map(|child| (child, rest));
            let plus = node.plus.filter(|_| wildcards_match).map(|child| (child, rest));
            next = match (literal, plus) {
                (Some(_), Some(plus)) => {
                    waiting.push(plus);
                    literal
                }
                _ => literal.or(plus),
            };
        }
    }

    /// Calls `found` with the values of all filters that may overlap `filter`, and of some that do not.
    ///
    /// The rule for reserved topics and the minimum number of levels are checked by [`TopicFilter::overlaps`].
    pub(super) fn visit_near<'a>(&'a self, filter: &TopicFilter, mut found: impl FnMut(&'a T)) {
        let levels: Vec<&str> = filter.pattern().split('/').collect();
        let mut waiting = vec![(ROOT, 0)];
        while let Some((at, depth)) = waiting.pop() {
            let node = &self.nodes[at];
            node.below.iter().for_each(&mut found);
            match levels.get(depth).copied() {
                None => node.exact.iter().for_each(&mut found),
                Some("#") => {
                    node.exact.iter().for_each(&mut found);
                    waiting.extend(node.literals.children().chain(node.plus).map(|child| (child, depth)));
                }
                Some("+") => {
                    waiting.extend(node.literals.children().chain(node.plus).map(|child| (child, depth + 1)));
                }
                Some(level) => {
                    let literal = node.literals.get(level).into_iter();
                    waiting.extend(literal.chain(node.plus).map(|child| (child, depth + 1)));
                }
            }
        }
    }

    fn child_or_new(&mut self, at: usize, level: &str) -> usize {
        let node = &self.nodes[at];
        let child = if level == "+" { node.plus } else { node.literals.get(level) };
        if let Some(child) = child {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::new());
        let node = &mut self.nodes[at];
        if level == "+" {
            node.plus = Some(child);
        } else {
            node.literals.insert(level.into(), child);
        }
        child
    }
}

/// Splits a topic after its first level. Levels are short, so a bytewise search is faster than `split_once`.
fn first_level(topic: &str) -> (&str, Option<&str>) {
    let end = topic.bytes().position(|byte| byte == b'/');
    match end.and_then(|end| topic.split_at_checked(end)) {
        Some((level, rest)) => (level, rest.get(1..)),
        None => (topic, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::tests::{all_topics, any_filter};
    use super::*;

    fn trie_of(filters: &[TopicFilter]) -> FilterTrie<usize> {
        let mut trie = FilterTrie::default();
        for (place, filter) in filters.iter().enumerate() {
            trie.insert(filter, place);
        }
        trie
    }

    fn visited(trie: &FilterTrie<usize>, topic: &str) -> Vec<usize> {
        let mut found = Vec::new();
        trie.visit(topic, |&place| found.push(place));
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn trie_agrees_with_matches(
            filters in prop::collection::vec(any_filter(), 0..20),
            topics in prop::collection::vec(prop::sample::select(all_topics()), 20),
        ) {
            let trie = trie_of(&filters);
            for topic in topics {
                let expected: Vec<usize> =
                    (0..filters.len()).filter(|&place| filters[place].matches(&topic)).collect();
                prop_assert_eq!(visited(&trie, &topic), expected, "on {:?}", topic);
            }
        }

        #[test]
        fn visit_near_finds_overlapping_filters(
            filters in prop::collection::vec(any_filter(), 0..20),
            filter in any_filter(),
        ) {
            let trie = trie_of(&filters);
            let mut near = Vec::new();
            trie.visit_near(&filter, |&place| near.push(place));
            for (place, other) in filters.iter().enumerate() {
                prop_assert!(near.contains(&place) || !filter.overlaps(other), "{} near {}", other, filter);
            }
        }
    }

    #[test]
    fn shared_filters_match_without_the_group() {
        let trie = trie_of(&[TopicFilter::parse("$share/g/a/+").unwrap()]);
        assert_eq!(visited(&trie, "a/b"), [0]);
        assert!(visited(&trie, "$share/g/a/b").is_empty());
    }

    #[test]
    fn longest_filter_uses_no_stack() {
        let slashes = "/".repeat(65_534);
        let trie = trie_of(&[
            TopicFilter::parse(&slashes).unwrap(),
            TopicFilter::parse(&format!("{slashes}#")).unwrap(),
        ]);
        assert_eq!(visited(&trie, &slashes), [0, 1]);
        drop(trie);
    }
}

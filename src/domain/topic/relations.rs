//! Relations between the topics of two filters. Share groups are ignored.

use super::{TopicFilter, is_reserved, is_wildcard};

impl TopicFilter {
    /// Whether this filter matches every topic that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &TopicFilter) -> bool {
        let (ours, theirs) = (Shape::new(self), Shape::new(other));
        let lengths_fit = if ours.open {
            theirs.min_levels() >= ours.min_levels()
        } else {
            !theirs.open && theirs.prefix.len() == ours.prefix.len()
        };
        lengths_fit
            && !(ours.leads_with_wildcard() && theirs.leads_with_reserved())
            && ours
                .prefix
                .iter()
                .enumerate()
                .all(|(place, &level)| level == "+" || level == theirs.level(place))
    }

    /// Whether a topic exists that both filters match.
    #[must_use]
    pub fn overlaps(&self, other: &TopicFilter) -> bool {
        let (ours, theirs) = (Shape::new(self), Shape::new(other));
        ours.may_be_as_long_as(&theirs)
            && !ours.kept_apart_by_reserved(&theirs)
            && ours.prefix.iter().zip(&theirs.prefix).all(|(&a, &b)| a == b || a == "+" || b == "+")
    }

    /// Returns the smallest filter, without a share group, that covers both.
    ///
    /// `None` if no filter covers both, as for `$SYS/a` and `b/c`: a leading wildcard does not match reserved topics.
    #[must_use]
    pub fn join(&self, other: &TopicFilter) -> Option<TopicFilter> {
        let (ours, theirs) = (Shape::new(self), Shape::new(other));
        if ours.kept_apart_by_reserved(&theirs) {
            return None;
        }
        let open = ours.open || theirs.open || ours.prefix.len() != theirs.prefix.len();
        let length = ours.min_levels().min(theirs.min_levels());
        let mut levels: Vec<&str> = (0..length).map(|place| ours.common_level(&theirs, place)).collect();
        if open {
            // `+/#` and `/+/#` are equivalent to the usual forms `#` and `/#`.
            if levels == ["+"] || levels == ["", "+"] {
                levels.pop();
            }
            levels.push("#");
        }
        Some(TopicFilter { raw: levels.join("/"), pattern_at: 0 })
    }
}

/// The explicit levels of a filter, and whether further levels may follow (`#`).
struct Shape<'a> {
    prefix: Vec<&'a str>,
    open: bool,
}

impl<'a> Shape<'a> {
    fn new(filter: &'a TopicFilter) -> Shape<'a> {
        let mut prefix: Vec<&str> = filter.pattern().split('/').collect();
        let open = prefix.last() == Some(&"#");
        if open {
            prefix.pop();
        }
        Shape { prefix, open }
    }

    /// Returns the number of levels of the shortest matching topic. A topic is not empty, so it is 1 for `#` and 2 for
    /// `/#`.
    fn min_levels(&self) -> usize {
        match self.prefix.as_slice() {
            [] => 1,
            [""] => 2,
            levels => levels.len(),
        }
    }

    /// Returns the level at `place`; `+` beyond the explicit levels.
    fn level(&self, place: usize) -> &'a str {
        self.prefix.get(place).copied().unwrap_or("+")
    }

    fn common_level(&self, other: &Shape<'a>, place: usize) -> &'a str {
        let level = self.level(place);
        if level == other.level(place) { level } else { "+" }
    }

    fn leads_with_wildcard(&self) -> bool {
        is_wildcard(self.level(0))
    }

    fn leads_with_reserved(&self) -> bool {
        is_reserved(self.level(0))
    }

    fn kept_apart_by_reserved(&self, other: &Shape<'_>) -> bool {
        self.level(0) != other.level(0) && (self.leads_with_reserved() || other.leads_with_reserved())
    }

    fn may_be_as_long_as(&self, other: &Shape<'_>) -> bool {
        match (self.open, other.open) {
            (true, true) => true,
            (true, false) => self.min_levels() <= other.prefix.len(),
            (false, true) => other.min_levels() <= self.prefix.len(),
            (false, false) => self.prefix.len() == other.prefix.len(),
        }
    }
}

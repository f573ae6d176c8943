//! The children of a trie node by the text of their level.

use std::collections::HashMap;

/// Maximum number of children for a linear search, which is faster than hashing. Most nodes have one child.
const MAX_LINEAR: usize = 4;

/// Children by the text of a level.
#[derive(Debug)]
pub(super) enum Literals {
    Few(Vec<(Box<str>, usize)>),
    Many(HashMap<Box<str>, usize>),
}

impl Default for Literals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Literals {
    pub(super) fn get(&self, level: &str) -> Option<usize> {
        match self {
            Self::Few(few) => few.iter().find(|(text, _)| **text == *level).map(|(_, child)| *child),
            Self::Many(many) => many.get(level).copied(),
        }
    }

    /// Adds a new level. The level must not exist.
    pub(super) fn insert(&mut self, level: Box<str>, child: usize) {
        match self {
            Self::Few(few) if few.len() < MAX_LINEAR => few.push((level, child)),
            Self::Few(few) => *self = Self::Many(few.drain(..).chain([(level, child)]).collect()),
            Self::Many(many) => {
                many.insert(level, child);
            }
        }
    }

    /// All children.
    pub(super) fn children(&self) -> impl Iterator<Item = usize> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(_, child)| *child);
        few.chain(many.into_iter().flat_map(HashMap::values).copied())
    }
}

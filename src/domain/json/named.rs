//! Members of an object. A duplicate name replaces the value and keeps the first position.

use std::borrow::Cow;
use std::collections::HashMap;

/// Maximum number of names for a linear search, which is faster than hashing.
const MAX_LINEAR: usize = 32;

/// A member of an object.
pub(in super::super) trait Named<'a> {
    /// The name, escapes resolved.
    fn name(&self) -> &Cow<'a, str>;
}

/// An ordered list of members with distinct names. Large lists use a hash map, so that the cost of a payload is linear
/// in its length.
#[derive(Debug)]
pub(in super::super) struct NamedList<'a, T> {
    items: Vec<T>,
    /// Indexes by name, for more than [`MAX_LINEAR`] members.
    places: Option<HashMap<Cow<'a, str>, usize>>,
}

impl<'a, T: Named<'a>> NamedList<'a, T> {
    pub(in super::super) fn new() -> NamedList<'a, T> {
        NamedList { items: Vec::new(), places: None }
    }

    /// Replaces the member with the same name, or appends the member. Returns its index.
    pub(in super::super) fn set(&mut self, item: T) -> usize {
        if let Some(place) = self.place_of(item.name()) {
            self.items[place] = item;
            return place;
        }
        let place = self.items.len();
        match &mut self.places {
            Some(places) => {
                places.insert(item.name().clone(), place);
            }
            None if place == MAX_LINEAR => {
                let names = self.items.iter().chain([&item]).map(|item| item.name().clone());
                self.places = Some(names.zip(0..).collect());
            }
            None => {}
        }
        self.items.push(item);
        place
    }

    pub(in super::super) fn get(&self, name: &str) -> Option<&T> {
        self.place_of(name).map(|place| &self.items[place])
    }

    pub(in super::super) fn items(&self) -> &[T] {
        &self.items
    }

    pub(super) fn item_mut(&mut self, place: usize) -> Option<&mut T> {
        self.items.get_mut(place)
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(name).copied(),
            None => self.items.iter().position(|item| item.name() == name),
        }
    }
}

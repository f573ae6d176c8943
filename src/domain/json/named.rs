//! Members of an object, where a name that comes again changes the value and keeps its first place.

use std::borrow::Cow;
use std::collections::HashMap;

/// Up to so many names, comparing them one by one is faster than hashing.
const MAX_LINEAR: usize = 32;

/// Something that has a name in an object.
pub(in super::super) trait Named<'a> {
    /// The name, escapes resolved.
    fn name(&self) -> &Cow<'a, str>;
}

/// Things with different names, in order. Finding one among many costs a hash, so that a payload of
/// ever the same or of many thousand names costs no more than its length.
#[derive(Debug)]
pub(in super::super) struct NamedList<'a, T> {
    items: Vec<T>,
    /// Places by name, once there are more than [`MAX_LINEAR`].
    places: Option<HashMap<Cow<'a, str>, usize>>,
}

impl<'a, T: Named<'a>> NamedList<'a, T> {
    pub(in super::super) fn new() -> NamedList<'a, T> {
        NamedList { items: Vec::new(), places: None }
    }

    /// Puts `item` in the place of the one with the same name, or behind all others. Gives its place.
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

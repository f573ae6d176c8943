//! Which MQTT v5 subscription identifier stands for which filter, and what the broker's session holds.
//!
//! Records in the inbox carry identifiers, and so do messages that the broker queued while we were
//! away. So an identifier keeps its meaning for ever and is on disk before it is sent in a SUBSCRIBE.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::durable::{self, SmallFile};
use super::error::InboxError;
use super::quarantine;
use crate::domain::message::SubscriptionId;

const BOOK_FILE: &str = "subscriptions";
const BOOK_FORMAT: u32 = 1;

/// The largest identifier that MQTT can carry.
const MAX_ID: SubscriptionId = 268_435_455;

/// A new book begins at a random identifier up to this one: should a book get lost, its identifiers
/// are then unknown to the next one instead of meaning another filter.
const MAX_FIRST_ID: SubscriptionId = 1 << 27;

/// The identifiers of all filters that were ever subscribed; kept in the inbox directory.
#[derive(Debug)]
pub struct SubscriptionBook {
    dir: PathBuf,
    pages: Pages,
    filters: Arc<HashMap<SubscriptionId, Arc<str>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pages {
    format: u32,
    next_id: SubscriptionId,
    /// The broker that `held` is about; `None` in books of before there were several.
    #[serde(default)]
    broker: Option<String>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: SubscriptionId,
    /// The broker's session may hold a subscription to it.
    held: bool,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl SubscriptionBook {
    /// Opens the book in the inbox directory (which must exist), or begins one. A damaged one is
    /// put into quarantine, loudly: old identifiers are then unknown.
    pub fn open(dir: &Path) -> Result<SubscriptionBook, InboxError> {
        let stored = match durable::read_small_file(dir, BOOK_FILE)? {
            SmallFile::Missing => None,
            SmallFile::Corrupt => Some(None),
            SmallFile::Intact(text) => Some(parse(dir, &text)?),
        };
        if let Some(None) = stored {
            let moved = quarantine::move_file(dir, &dir.join(BOOK_FILE))?;
            log::error!(
                "the book of subscriptions was damaged, a new one begins; kept as {}",
                moved.display()
            );
        }
        let pages = stored.flatten().unwrap_or_else(|| Pages {
            format: BOOK_FORMAT,
            next_id: rand::random_range(1..=MAX_FIRST_ID),
            broker: None,
            entries: BTreeMap::new(),
        });
        Ok(SubscriptionBook { dir: dir.to_path_buf(), filters: filters_by_id(&pages), pages })
    }

    /// The identifiers of these filters, in their order; new ones where a filter has none. All are
    /// marked as held by the broker's session, and on disk, when this returns.
    pub fn ids_for<'a>(
        &mut self,
        filters: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<SubscriptionId>, InboxError> {
        let mut pages = self.pages.clone();
        let ids = filters.map(|filter| pages.hold(filter)).collect::<Result<_, _>>()?;
        self.turn_to(pages)?;
        Ok(ids)
    }

    /// These filters are unsubscribed: the session no longer holds them. Their identifiers stay known.
    pub fn forget<'a>(&mut self, filters: impl Iterator<Item = &'a str>) -> Result<(), InboxError> {
        let mut pages = self.pages.clone();
        for filter in filters {
            if let Some(entry) = pages.entries.get_mut(filter) {
                entry.held = false;
            }
        }
        self.turn_to(pages)
    }

    /// We are connected to this broker. The session at another one than the last time may hold any filter that was
    /// ever subscribed.
    pub fn come_to(&mut self, broker: &str) -> Result<(), InboxError> {
        let mut pages = self.pages.clone();
        let last = pages.broker.replace(broker.to_owned());
        if last.is_some_and(|last| last != broker) {
            pages.entries.values_mut().for_each(|entry| entry.held = true);
        }
        self.turn_to(pages)
    }

    /// The filters that the broker's session may hold.
    #[must_use]
    pub fn held(&self) -> BTreeSet<String> {
        let held = self.pages.entries.iter().filter(|(_, entry)| entry.held);
        held.map(|(filter, _)| filter.clone()).collect()
    }

    /// The filter that an identifier stands for.
    #[must_use]
    pub fn filter_of(&self, id: SubscriptionId) -> Option<&str> {
        self.filters.get(&id).map(AsRef::as_ref)
    }

    /// All identifiers and their filters as of now, to be shared.
    #[must_use]
    pub fn snapshot(&self) -> Arc<HashMap<SubscriptionId, Arc<str>>> {
        Arc::clone(&self.filters)
    }

    /// Takes the change over once it is on disk.
    fn turn_to(&mut self, pages: Pages) -> Result<(), InboxError> {
        if pages == self.pages {
            return Ok(());
        }
        durable::replace_small_file(&self.dir, BOOK_FILE, &format!("{}\n", serde_json::json!(pages)))?;
        self.filters = filters_by_id(&pages);
        self.pages = pages;
        Ok(())
    }
}

impl Pages {
    fn hold(&mut self, filter: &str) -> Result<SubscriptionId, InboxError> {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = true;
            return Ok(entry.id);
        }
        let id = self.next_id;
        if id > MAX_ID {
            return Err(InboxError::SubscriptionIdsUsedUp);
        }
        self.next_id += 1;
        self.entries.insert(filter.to_owned(), Entry { id, held: true });
        Ok(id)
    }
}

fn parse(dir: &Path, text: &str) -> Result<Option<Pages>, InboxError> {
    match serde_json::from_str::<FormatOnly>(text) {
        Ok(FormatOnly { format }) if format != BOOK_FORMAT => {
            Err(InboxError::UnknownFormat { path: dir.join(BOOK_FILE), format })
        }
        _ => Ok(serde_json::from_str(text).ok()),
    }
}

fn filters_by_id(pages: &Pages) -> Arc<HashMap<SubscriptionId, Arc<str>>> {
    Arc::new(pages.entries.iter().map(|(filter, entry)| (entry.id, Arc::from(filter.as_str()))).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_stands_for_its_filter_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        let ids = book.ids_for(["a/+", "b/#"].into_iter()).unwrap();
        book.forget(["a/+"].into_iter()).unwrap();
        drop(book);

        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        assert_eq!(book.filter_of(ids[0]), Some("a/+"));
        let again = book.ids_for(["c", "a/+"].into_iter()).unwrap();
        assert_eq!(again[1], ids[0]);
        assert!(!ids.contains(&again[0]));
        assert_eq!(book.snapshot().len(), 3);
    }

    #[test]
    fn the_book_remembers_what_the_session_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        book.ids_for(["a", "b", "c"].into_iter()).unwrap();
        book.forget(["b", "never subscribed"].into_iter()).unwrap();
        let book = SubscriptionBook::open(dir.path()).unwrap();
        assert_eq!(book.held(), BTreeSet::from(["a".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn at_another_broker_anything_may_be_held_and_at_the_same_one_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        book.ids_for(["a", "b"].into_iter()).unwrap();
        book.forget(["b"].into_iter()).unwrap();
        // A book of before knows of one broker, which it has no name for.
        book.come_to("first:1883").unwrap();
        book.come_to("first:1883").unwrap();
        assert_eq!(book.held(), BTreeSet::from(["a".to_owned()]));
        drop(book);
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        book.come_to("second:1883").unwrap();
        assert_eq!(book.held(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn a_damaged_book_goes_into_quarantine_and_its_identifiers_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        book.pages.next_id = MAX_FIRST_ID + 1;
        let old = book.ids_for(["a"].into_iter()).unwrap();
        std::fs::write(dir.path().join(BOOK_FILE), "torn").unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        assert_eq!(book.filter_of(old[0]), None);
        assert_ne!(book.ids_for(["b"].into_iter()).unwrap(), old);
        assert!(dir.path().join("quarantine/subscriptions.whole.0").exists());
    }

    #[test]
    fn what_could_not_be_stored_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        dir.close().unwrap();
        assert!(book.ids_for(["a"].into_iter()).is_err());
        assert!(book.held().is_empty());
    }

    #[test]
    fn the_last_identifier_is_given_and_none_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = SubscriptionBook::open(dir.path()).unwrap();
        book.pages.next_id = MAX_ID;
        assert_eq!(book.ids_for(["a"].into_iter()).unwrap(), vec![MAX_ID]);
        assert!(matches!(book.ids_for(["b"].into_iter()), Err(InboxError::SubscriptionIdsUsedUp)));
    }
}

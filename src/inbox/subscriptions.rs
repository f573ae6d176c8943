//! The stored MQTT 5 subscription identifiers of filters and flows, and the subscriptions of the broker's
//! session.
//!
//! Records in the inbox and messages queued at the broker carry identifiers. So the binding of an identifier never
//! changes, and is durable before a SUBSCRIBE uses it. Only the oldest bindings are forgotten, beyond a limit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::durable::{self, FileFormat, SmallFile};
use super::error::InboxError;
use super::quarantine;
use crate::domain::id_use::IdUses;
use crate::domain::message::{FlowId, SubscriptionId};
use crate::domain::subscription_ids::{Bindings, SubscriptionIds};

const STORE_FILE: &str = "subscriptions";
const STORE_FORMAT: u32 = 1;

/// Maximum of the random first identifier of a new store. If a store is lost, its identifiers are then unknown
/// to the next one instead of bound to another filter.
const MAX_FIRST_ID: SubscriptionId = 1 << 27;

/// The identifiers of present and former subscriptions, stored in the inbox directory.
#[derive(Debug)]
pub struct SubscriptionIdStore {
    dir: PathBuf,
    file: StoreFile,
    bindings: Arc<Bindings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoreFile {
    format: u32,
    /// The broker of the session; `None` in files of versions with a single broker.
    #[serde(default)]
    broker: Option<String>,
    #[serde(default)]
    id_uses: IdUses,
    #[serde(flatten)]
    ids: SubscriptionIds,
}

impl SubscriptionIdStore {
    /// Opens or creates the store in the inbox directory, which must exist. A damaged file is logged and moved
    /// into quarantine; its identifiers are then unknown.
    pub fn open(dir: &Path) -> Result<SubscriptionIdStore, InboxError> {
        let stored = match durable::read_small_file(dir, STORE_FILE)? {
            SmallFile::Missing => None,
            SmallFile::Corrupt => Some(None),
            SmallFile::Intact(text) => Some(parse(dir, &text)?),
        };
        if let Some(None) = stored {
            let moved = quarantine::move_file(dir, &dir.join(STORE_FILE))?;
            log::error!(
                "the stored subscription identifiers were damaged and are reset; damaged file kept as {}",
                moved.display()
            );
        }
        let file = stored.flatten().unwrap_or_else(|| StoreFile {
            format: STORE_FORMAT,
            broker: None,
            id_uses: IdUses::default(),
            ids: SubscriptionIds::starting_at(rand::random_range(1..=MAX_FIRST_ID)),
        });
        Ok(SubscriptionIdStore { dir: dir.to_path_buf(), bindings: Arc::new(file.ids.bindings()), file })
    }

    /// Returns the identifiers for subscribing these filters for these flows, in order. A filter gets a new
    /// identifier if it has none or its flows changed. An empty list of flows keeps the previous binding. All
    /// filters are durably marked as held by the broker's session when this returns.
    pub fn ids_for<'a>(
        &mut self,
        subscriptions: impl Iterator<Item = (&'a str, &'a [FlowId])>,
    ) -> Result<Vec<SubscriptionId>, InboxError> {
        let mut file = self.file.clone();
        let ids = file.ids.assign(subscriptions).ok_or(InboxError::SubscriptionIdsUsedUp)?;
        self.replace_file(file)?;
        Ok(ids)
    }

    /// Marks these filters as unsubscribed. Their identifiers stay known.
    pub fn forget<'a>(&mut self, filters: impl Iterator<Item = &'a str>) -> Result<(), InboxError> {
        let mut file = self.file.clone();
        filters.for_each(|filter| file.ids.mark_unsubscribed(filter));
        self.replace_file(file)
    }

    /// Stores the broker's answer: granted filters, and filters that made it close the connection.
    pub fn note_answers<'a>(
        &mut self,
        granted: impl Iterator<Item = &'a str>,
        avoided: impl Iterator<Item = &'a str>,
    ) -> Result<(), InboxError> {
        let mut file = self.file.clone();
        granted.for_each(|filter| file.ids.grant(filter));
        avoided.for_each(|filter| file.ids.avoid(filter));
        self.replace_file(file)
    }

    /// Sets the connected broker. After a change, the session may hold any filter that is on record.
    pub fn switch_broker(&mut self, broker: &str) -> Result<(), InboxError> {
        let mut file = self.file.clone();
        let last = file.broker.replace(broker.to_owned());
        if last.is_some_and(|last| last != broker) {
            file.ids.mark_all_held();
        }
        self.replace_file(file)
    }

    /// Returns which brokers use subscription identifiers and which omit them.
    #[must_use]
    pub fn id_uses(&self) -> &IdUses {
        &self.file.id_uses
    }

    /// Changes the known uses of identifiers durably.
    pub fn change_id_uses(&mut self, change: impl FnOnce(&mut IdUses)) -> Result<(), InboxError> {
        let mut file = self.file.clone();
        change(&mut file.id_uses);
        self.replace_file(file)
    }

    /// Returns the held filters if the session is at `broker` and that broker omits identifiers. Otherwise the
    /// result is empty.
    #[must_use]
    pub fn held_unreliably_at(&self, broker: &str) -> BTreeMap<String, Vec<FlowId>> {
        let is_there = self.file.broker.as_deref() == Some(broker);
        if is_there && self.file.id_uses.are_unreliable(broker) { self.held() } else { BTreeMap::new() }
    }

    /// Returns the filters that the broker's session may hold, with the flows they were subscribed for. The
    /// flows are empty if unknown.
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, Vec<FlowId>> {
        self.file.ids.held().map(|(filter, flows)| (filter.to_owned(), flows.to_vec())).collect()
    }

    /// Returns a shared snapshot of all bindings.
    #[must_use]
    pub fn bindings(&self) -> Arc<Bindings> {
        Arc::clone(&self.bindings)
    }

    /// Applies the change after it is durable.
    fn replace_file(&mut self, file: StoreFile) -> Result<(), InboxError> {
        if file == self.file {
            return Ok(());
        }
        durable::replace_small_file(&self.dir, STORE_FILE, &format!("{}\n", serde_json::json!(file)))?;
        self.bindings = Arc::new(file.ids.bindings());
        self.file = file;
        Ok(())
    }
}

/// Reads the filters that make the broker close the connection from the file in this directory.
pub fn avoided_filters(dir: &Path) -> Result<Vec<String>, InboxError> {
    let file = match durable::read_small_file(dir, STORE_FILE)? {
        SmallFile::Intact(text) => parse(dir, &text)?,
        SmallFile::Missing | SmallFile::Corrupt => None,
    };
    Ok(file.iter().flat_map(|file| file.ids.avoided()).map(str::to_owned).collect())
}

fn parse(dir: &Path, text: &str) -> Result<Option<StoreFile>, InboxError> {
    match serde_json::from_str::<FileFormat>(text) {
        Ok(FileFormat { format }) if format != STORE_FORMAT => {
            Err(InboxError::UnknownFormat { path: dir.join(STORE_FILE), format })
        }
        _ => Ok(serde_json::from_str(text).ok()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::subscription_ids::Binding;

    fn ids_for(store: &mut SubscriptionIdStore, filters: &[&str]) -> Vec<SubscriptionId> {
        store.ids_for(filters.iter().map(|filter| (*filter, &[7][..]))).unwrap()
    }

    fn held(store: &SubscriptionIdStore) -> Vec<String> {
        store.held().into_keys().collect()
    }

    #[test]
    fn an_identifier_keeps_its_binding() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        let ids = ids_for(&mut store, &["a/+", "b/#"]);
        store.forget(["a/+"].into_iter()).unwrap();
        drop(store);

        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        let binding = Binding { filter: "a/+", flows: &[7] };
        assert_eq!(store.bindings().get(ids[0]), Some(binding));
        let again = ids_for(&mut store, &["c", "a/+"]);
        assert_eq!(again[1], ids[0]);
        assert!(!ids.contains(&again[0]));
        let changed = store.ids_for([("a/+", &[8][..])].into_iter()).unwrap();
        drop(store);

        let store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(store.bindings().get(ids[0]), Some(binding));
        assert_eq!(store.bindings().get(changed[0]), Some(Binding { filter: "a/+", flows: &[8] }));
    }

    #[test]
    fn held_filters_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        ids_for(&mut store, &["a", "b", "c"]);
        store.forget(["b", "never subscribed"].into_iter()).unwrap();
        let store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(store.held(), BTreeMap::from([("a".to_owned(), vec![7]), ("c".to_owned(), vec![7])]));
    }

    #[test]
    fn avoided_filters_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        assert!(avoided_filters(dir.path()).unwrap().is_empty());
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        ids_for(&mut store, &["a", "b", "c"]);
        store.note_answers(["a"].into_iter(), ["b", "c"].into_iter()).unwrap();
        store.note_answers(["c"].into_iter(), std::iter::empty()).unwrap();
        let store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(held(&store), ["a", "c"]);
        assert_eq!(avoided_filters(dir.path()).unwrap(), ["b"]);
        std::fs::write(dir.path().join(STORE_FILE), "torn").unwrap();
        assert!(avoided_filters(dir.path()).unwrap().is_empty());
        assert!(dir.path().join(STORE_FILE).exists());
    }

    #[test]
    fn another_broker_may_hold_any_filter() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        ids_for(&mut store, &["a", "b"]);
        store.forget(["b"].into_iter()).unwrap();
        // A file of an older version names no broker.
        store.switch_broker("first:1883").unwrap();
        store.switch_broker("first:1883").unwrap();
        assert_eq!(held(&store), ["a"]);
        drop(store);
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        store.switch_broker("second:1883").unwrap();
        assert_eq!(held(&store), ["a", "b"]);
    }

    #[test]
    fn omitted_identifiers_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        ids_for(&mut store, &["a"]);
        store.switch_broker("b:1").unwrap();
        store.change_id_uses(|uses| uses.confirm("b:1")).unwrap();
        assert!(store.held_unreliably_at("b:1").is_empty());
        store.change_id_uses(|uses| uses.note_missing("b:1")).unwrap();
        let store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(store.held_unreliably_at("b:1"), BTreeMap::from([("a".to_owned(), vec![7])]));
        assert!(store.held_unreliably_at("c:1").is_empty());
    }

    #[test]
    fn a_file_without_flows_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let before = r#"{"format":1,"next_id":9,"broker":"b:1","entries":{"a":{"id":8,"held":true}}}"#;
        durable::replace_small_file(dir.path(), STORE_FILE, before).unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(store.bindings().get(8), Some(Binding { filter: "a", flows: &[] }));
        assert_eq!(ids_for(&mut store, &["a"]), [9], "from now on it is known for whom");
    }

    #[test]
    fn a_damaged_file_is_quarantined() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        store.file.ids = SubscriptionIds::starting_at(MAX_FIRST_ID + 1);
        let old = ids_for(&mut store, &["a"]);
        std::fs::write(dir.path().join(STORE_FILE), "torn").unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        assert_eq!(store.bindings().get(old[0]), None);
        assert_ne!(ids_for(&mut store, &["b"]), old);
        assert!(dir.path().join("quarantine/subscriptions.whole.0").exists());
    }

    #[test]
    fn unstored_changes_are_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SubscriptionIdStore::open(dir.path()).unwrap();
        dir.close().unwrap();
        assert!(store.ids_for([("a", &[7][..])].into_iter()).is_err());
        assert!(store.held().is_empty());
    }
}

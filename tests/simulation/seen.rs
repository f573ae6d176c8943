//! Coverage of a run: a simulation without lagging flows proves nothing about them.

use mqtt_gateway::domain::batch::{CatchUp, Scope};

use crate::sql::Transaction;

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) stored: u64,
    pub(crate) deferred: u64,
    pub(crate) advanced: u64,
    pub(crate) rejoined: u64,
    pub(crate) fenced: u64,
    pub(crate) zombies_fenced: u64,
    pub(crate) released: u64,
    pub(crate) drained: u64,
    pub(crate) restored: u64,
    pub(crate) replayed: u64,
}

impl Seen {
    pub(crate) fn commit(&mut self, transaction: &Transaction) {
        let part = &transaction.part;
        self.stored += part.entries.len() as u64;
        self.deferred += transaction.came_to.deferred.len() as u64;
        let caught_up = matches!(part.scope, Scope::Lagging { .. }) && !part.entries.is_empty();
        self.advanced += u64::from(caught_up);
        self.rejoined += u64::from(transaction.came_to.catch_up == Some(CatchUp::Rejoined));
    }

    pub(crate) fn reply(&mut self, fenced: bool) {
        self.fenced += u64::from(fenced);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.stored += other.stored;
        self.deferred += other.deferred;
        self.advanced += other.advanced;
        self.rejoined += other.rejoined;
        self.fenced += other.fenced;
        self.zombies_fenced += other.zombies_fenced;
        self.released += other.released;
        self.drained += other.drained;
        self.restored += other.restored;
        self.replayed += other.replayed;
    }

    /// Each with its name.
    pub(crate) fn all(&self) -> [(&'static str, u64); 10] {
        [
            ("messages stored", self.stored),
            ("flows left behind", self.deferred),
            ("batches of flows that lag", self.advanced),
            ("flows back in step", self.rejoined),
            ("batches fenced off", self.fenced),
            ("zombies fenced off", self.zombies_fenced),
            ("segments released", self.released),
            ("orderly ends", self.drained),
            ("restores of the database", self.restored),
            ("replays", self.replayed),
        ]
    }
}

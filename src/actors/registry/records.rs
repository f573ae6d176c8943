//! Records of earlier routing tables and subscriptions, which the inbox directory keeps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::reconciliation::SubscriptionRecord;
use crate::domain::replicas::FormerFlows;
use crate::domain::routing_history::RoutingHistory;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::SubscriptionIdStore;

/// The records; the factory of the registry keeps them for a restart.
#[derive(Debug, Clone)]
pub struct Records {
    /// The routed flows, shared with earlier registries and restored from earlier processes.
    pub tables: Arc<Mutex<RoutingHistory>>,
    /// Subscriptions that the broker's session may hold.
    pub subscription_ids: Arc<Mutex<SubscriptionIdStore>>,
}

impl Records {
    fn subscription_ids(&self) -> MutexGuard<'_, SubscriptionIdStore> {
        self.subscription_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubscriptionRecord for Records {
    fn former_flows(&self) -> FormerFlows {
        let routed = self.tables.lock().unwrap_or_else(PoisonError::into_inner).routed_last();
        FormerFlows { routed, held: self.subscription_ids().held() }
    }

    fn held_at(&self, broker: &str) -> Option<Subscriptions> {
        let mut subscription_ids = self.subscription_ids();
        let switched = subscription_ids.switch_broker(broker);
        switched
            .inspect_err(|error| log::error!("Cannot read the recorded subscriptions, retrying: {error}"))
            .ok()?;
        let held = subscription_ids.held().into_iter();
        Some(held.filter_map(|(filter, flows)| Some((TopicFilter::parse(&filter).ok()?, flows))).collect())
    }

    fn exists(&self) -> bool {
        !self.subscription_ids().bindings().is_empty()
    }
}

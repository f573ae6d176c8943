//! Waiting posts: lists them, makes them due, and cancels them.

use super::{Control, ControlError};
use crate::domain::message::FlowId;
use crate::domain::outbox::{CountedPosts, OutboxKey, PostPlace};
use crate::store::outbox::{
    WaitingDeliveries, WaitingPost, cancel_deliveries, count_posts, delivery_keys, retry_deliveries,
    waiting_deliveries, waiting_post_list,
};

impl Control {
    /// The waiting posts of all flows, or of the flow with this code, by the ids of the flows.
    pub async fn deliveries(&self, flow: Option<&str>) -> Result<Vec<WaitingDeliveries>, ControlError> {
        let flow = match flow {
            Some(code) => Some(self.posting_flow(code).await?),
            None => None,
        };
        Ok(waiting_deliveries(&self.database, flow).await?)
    }

    /// At most `limit` flows with waiting posts, by their ids after `after`. The second value is the id to continue after,
    /// if there are more.
    pub async fn deliveries_page(
        &self,
        flow: Option<&str>,
        after: Option<FlowId>,
        limit: usize,
    ) -> Result<(Vec<WaitingDeliveries>, Option<FlowId>), ControlError> {
        let mut waiting = self.deliveries(flow).await?;
        waiting.retain(|waiting| after.is_none_or(|after| waiting.flow > after));
        let has_more = waiting.len() > limit;
        waiting.truncate(limit);
        let last = waiting.last().map(|waiting| waiting.flow).filter(|_| has_more);
        Ok((waiting, last))
    }

    /// At most `limit` waiting posts of a flow behind a place, in the order of their numbers.
    pub async fn waiting_post_list(
        &self,
        flow: &str,
        after: Option<&PostPlace>,
        limit: usize,
    ) -> Result<Vec<WaitingPost>, ControlError> {
        let flow = self.posting_flow(flow).await?;
        Ok(waiting_post_list(&self.database, flow, after, limit).await?)
    }

    /// Makes the waiting posts of a flow due, and returns how many there are.
    pub async fn retry_deliveries(&self, flow: &str) -> Result<u64, ControlError> {
        let waiting = self.deliveries(Some(flow)).await?;
        for flow in &waiting {
            retry_deliveries(&self.database, flow.flow).await?;
        }
        Ok(waiting.iter().map(|flow| flow.posts).sum())
    }

    /// Counts the waiting posts of a flow; none if there are none.
    pub async fn count_posts(&self, flow: &str) -> Result<Option<(u64, CountedPosts)>, ControlError> {
        Ok(count_posts(&self.database, self.posting_flow(flow).await?).await?)
    }

    /// The keys of the counted posts of a flow, or of all, in order of their numbers.
    pub async fn delivery_keys(
        &self,
        flow: &str,
        counted: Option<CountedPosts>,
    ) -> Result<Vec<OutboxKey>, ControlError> {
        Ok(delivery_keys(&self.database, self.posting_flow(flow).await?, counted).await?)
    }

    /// Moves posts to the dead letters in small transactions. Calls `done` with the number of each.
    pub async fn cancel_deliveries(
        &self,
        posts: &[OutboxKey],
        done: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ControlError> {
        Ok(cancel_deliveries(&self.database, posts, done).await?)
    }

    /// The flow with this code. The code of a deleted flow is found at its waiting posts.
    async fn posting_flow(&self, code: &str) -> Result<FlowId, ControlError> {
        match self.flow(code).await {
            Ok(flow) => Ok(flow.id),
            Err(unknown) => {
                let waiting = waiting_deliveries(&self.database, None).await?;
                let found = waiting.iter().find(|waiting| waiting.code.as_deref() == Some(code));
                found.map(|waiting| waiting.flow).ok_or(unknown)
            }
        }
    }
}

//! Limit P: messages per second that the gateway's HTTP client posts without any other load.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt::System;
use tokio::task::JoinSet;

use super::per_second;
use crate::delivery::client::{EndpointClients, PostError};
use crate::delivery::queue::QueueLimits;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::posting::attempts::RecentAttempts;
use crate::settings::HttpRoute;

/// Time limit of one post.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Workload of the measurement.
#[derive(Clone)]
pub struct PostLoad {
    /// Code and URL of each flow. Message `i` is posted for flow `i % flows`. Must not be empty.
    pub flows: Vec<(Arc<str>, Arc<str>)>,
    /// Number of posted messages.
    pub messages: u64,
    /// Returns the body of the message with this number, from 0.
    pub payload: Arc<dyn Fn(u64) -> Vec<u8>>,
}

/// Result of the measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostLimit {
    /// Limit P: posted messages divided by the time from the first post to the last answer.
    pub messages_per_second: f64,
    /// Number of concurrent posts.
    pub in_flight: u64,
}

/// Errors of the measurement of posts.
#[derive(Debug, thiserror::Error)]
pub enum PostLimitError {
    /// A post failed.
    #[error("a post failed: {0}")]
    Post(#[from] PostError),
    /// A post panicked.
    #[error("a post panicked")]
    Panicked,
    /// The runtime of the HTTP client cannot be created.
    #[error("cannot run the HTTP client: {0}")]
    Runtime(#[from] io::Error),
}

/// Measures limit P. The number of concurrent posts equals the gateway's: one per flow, up to the limit of its queue.
///
/// Blocks; the calling thread must not run inside a runtime.
pub fn post_limit(load: &PostLoad) -> Result<PostLimit, PostLimitError> {
    let in_flight = load.flow_count().min(QueueLimits::default().posts as u64);
    let begun = Instant::now();
    System::new().block_on(post_all(load, in_flight))?;
    Ok(PostLimit { messages_per_second: per_second(load.messages, begun.elapsed()), in_flight })
}

async fn post_all(load: &PostLoad, in_flight: u64) -> Result<(), PostLimitError> {
    let clients = Rc::new(EndpointClients::new(TIMEOUT, &HttpRoute::default()));
    let mut posters = JoinSet::new();
    for poster in 0..in_flight {
        let (load, clients) = (load.clone(), Rc::clone(&clients));
        posters.spawn_local(async move {
            // Like the gateway, post the messages of a flow one at a time.
            for number in load.numbers(poster, in_flight) {
                clients.post(&[Arc::new(load.item(number))]).await?;
            }
            Ok::<(), PostError>(())
        });
    }
    while let Some(ended) = posters.join_next().await {
        ended.map_err(|_| PostLimitError::Panicked)??;
    }
    Ok(())
}

impl PostLoad {
    fn flow_count(&self) -> u64 {
        self.flows.len().max(1) as u64
    }

    /// Returns the messages of every `step`th flow, starting with flow `first`, in order.
    fn numbers(&self, first: u64, step: u64) -> impl Iterator<Item = u64> + use<> {
        let (messages, flows) = (self.messages, self.flow_count());
        let turn = usize::try_from(flows).unwrap_or(usize::MAX);
        let begins = (0..messages).step_by(turn);
        let stride = usize::try_from(step).unwrap_or(usize::MAX);
        begins.flat_map(move |begin| (begin + first..(begin + flows).min(messages)).step_by(stride))
    }

    fn item(&self, number: u64) -> OutboxItem {
        let flow = number % self.flow_count();
        let flow_id = FlowId::try_from(flow).unwrap_or(FlowId::MAX);
        let known = usize::try_from(flow).ok().and_then(|flow| self.flows.get(flow));
        let (flow_code, url) = known.cloned().unwrap_or_default();
        OutboxItem {
            key: OutboxKey {
                inbox_id: "0123456789abcdef0123456789abcdef".into(),
                inbox_offset: number,
                flow_id,
            },
            message_id: number.cast_signed(),
            flow_code,
            destination: url.into(),
            topic: String::new(),
            payload: OutboxPayload::Loaded((self.payload)(number)),
            attempts: 0,
            recent_attempts: RecentAttempts::default(),
            created_at_us: 0,
        }
    }
}

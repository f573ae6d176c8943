//! P: how many messages a second the gateway's HTTP client posts when there is nothing else to do.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::rt::System;
use tokio::task::JoinSet;

use super::per_second;
use crate::delivery::client::{EndpointClients, PostError};
use crate::delivery::queue::Limits;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::settings::HttpRoute;

/// For one post.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is posted, and where.
#[derive(Clone)]
pub struct PostLoad {
    /// Code and address of each flow; message `i` is posted for flow `i % flows`. Not empty.
    pub flows: Vec<(Arc<str>, Arc<str>)>,
    /// How many messages are posted.
    pub messages: u64,
    /// Body of the message with this number, from 0.
    pub payload: Arc<dyn Fn(u64) -> Vec<u8>>,
}

/// What the client reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostLimit {
    /// P: messages posted, by the time from the first post to the last answer.
    pub messages_per_second: f64,
    /// Posts under way at a time.
    pub in_flight: u64,
}

/// Why the limit of the posts is not known.
#[derive(Debug, thiserror::Error)]
pub enum PostLimitError {
    /// A post failed.
    #[error("a post failed: {0}")]
    Post(#[from] PostError),
    /// A post ended in a panic.
    #[error("a post ended in a panic")]
    Panicked,
    /// The calling thread cannot wait for posts.
    #[error("cannot run the HTTP client: {0}")]
    Runtime(#[from] io::Error),
}

/// Measures P, with as many posts under way as the gateway has for so many flows: one for each, and no more than its
/// queue allows. Blocks; the calling thread must have no runtime of its own.
pub fn post_limit(load: &PostLoad) -> Result<PostLimit, PostLimitError> {
    let in_flight = load.flow_count().min(Limits::default().posts as u64);
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
            // The messages of a flow one after the other, as the gateway posts them.
            for number in load.numbers(poster, in_flight) {
                clients.post(Arc::new(load.item(number))).await?;
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

    /// The messages of every `step`th flow from `first` on, in order.
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
            url,
            topic: String::new(),
            payload: OutboxPayload::Loaded((self.payload)(number)),
            attempts: 0,
            created_at_us: 0,
        }
    }
}

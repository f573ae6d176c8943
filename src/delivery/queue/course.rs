//! How the messages of a flow are posted, by the options of their destination.

use crate::domain::posting::destination::PostDestination;
use crate::domain::posting::options::{BatchOptions, DeliveryOptions};
use crate::domain::posting::origin::Origin;
use crate::domain::posting::rate_limit::RateLimit;

/// A destination with its properties for the queue.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) destination: PostDestination,
    /// `None` for a URL that no post can be made to.
    pub(super) origin: Option<Origin>,
    max_in_flight: usize,
    pub(super) rate: Option<RateLimit>,
    pub(super) batch: Option<BatchOptions>,
}

impl Course {
    pub(super) fn new(destination: PostDestination) -> Self {
        let options = destination.options.as_deref();
        Self {
            origin: Origin::of(&destination.url),
            max_in_flight: options.map_or(1, DeliveryOptions::max_posts_in_flight),
            rate: options.and_then(|options| options.rate_per_second).map(RateLimit::new),
            batch: options.and_then(|options| options.batch),
            destination,
        }
    }

    pub(super) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }
}

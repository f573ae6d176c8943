//! Where a message is posted, and how.

use std::sync::Arc;

use super::options::DeliveryOptions;

/// The endpoint of a message with the options of its flow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostDestination {
    /// URL of the endpoint.
    pub url: Arc<str>,
    /// The options of the flow; `None` for the defaults.
    pub options: Option<Arc<DeliveryOptions>>,
}

impl<T: Into<Arc<str>>> From<T> for PostDestination {
    fn from(url: T) -> Self {
        Self { url: url.into(), options: None }
    }
}

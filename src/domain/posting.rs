//! The rules of posts: allowed addresses, the parts of a request, and the meaning of an answer.
//!
//! ```text
//!  options.rs        the options of posts in flows.options
//!  destination.rs    where a message is posted, and how
//!  origin.rs         scheme, host and port of an endpoint
//!  address_guard.rs  addresses that no post is sent to
//!  answers.rs        the meaning of a status
//!  attempts.rs       the last failed attempts of a message
//!  age_warnings.rs   when a message is about to be given up
//!  retry_after.rs    the delay that an endpoint asks for
//!  breaker.rs        an origin that is not available
//!  rate_limit.rs     the highest rate of a flow's posts
//!  signature.rs      Standard Webhooks
//!  batch.rs          several messages in one post
//!  cloud_events.rs   CloudEvents 1.0
//!  percent.rs        texts as values of headers and in paths
//! ```

use std::time::Duration;

pub mod address_guard;
pub mod age_warnings;
pub mod answers;
pub mod attempts;
pub mod batch;
pub mod breaker;
pub mod cloud_events;
pub mod destination;
pub mod options;
pub mod origin;
pub mod percent;
pub mod rate_limit;
pub mod retry_after;
pub mod signature;

/// A point in time, as the duration since an origin chosen by the caller.
pub type Moment = Duration;

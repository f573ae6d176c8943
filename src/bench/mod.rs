//! Measurements of the gateway, and of what bounds it.

pub mod limits;
pub mod sink;
pub mod subscriber;

//! The rules of posts.

pub mod address_guard;
pub mod retry_after;

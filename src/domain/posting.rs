//! The rules of posts.

pub mod address_guard;
pub mod header_text;
pub mod retry_after;

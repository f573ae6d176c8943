//! The rules of posts.

pub mod address_guard;

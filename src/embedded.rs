//! Embedded servers for commands that need no external infrastructure.

pub(crate) mod broker;

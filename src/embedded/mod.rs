//! Parts that are otherwise servers of their own, for commands that bring their surroundings with them.

pub(crate) mod broker;

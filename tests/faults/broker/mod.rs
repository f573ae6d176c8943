//! What befalls the broker and the way to it.

mod redelivery;
mod restart;

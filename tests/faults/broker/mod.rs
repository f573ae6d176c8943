//! What befalls the broker and the way to it.

mod away;
mod credentials;
mod kill;
mod refusal;
mod redelivery;
mod restart;
mod session;
mod way;

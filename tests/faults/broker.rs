//! What befalls the broker and the way to it.

mod away;
mod closing;
mod credentials;
mod kill;
mod redelivery;
mod refusal;
mod restart;
mod session;
mod way;

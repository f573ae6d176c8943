//! Faults of the broker and of the connection to it.

mod away;
mod closing;
mod credentials;
mod kill;
mod redelivery;
mod refusal;
mod restart;
mod session;
mod way;

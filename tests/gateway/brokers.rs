//! The real gateway with several brokers, with encrypted connections, and with a client library that does not come
//! back.

mod credentials;
mod failover;
mod table;
mod tls;
mod versions;
mod watchdog;

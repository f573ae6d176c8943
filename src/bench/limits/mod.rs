//! What the machine gives when there is no gateway: each limit is measured by itself, with nothing else running.

pub mod database;

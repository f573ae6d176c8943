//! Messages that the database refuses, on real databases: the cause, and flows whose messages are all
//! refused.

mod aside;
mod fault;

//! Messages that the database refuses, on real databases: whose fault it is, and what becomes of a flow
//! whose messages are all refused.

mod aside;
mod fault;

//! Posts to endpoints that misbehave, while the gateway is killed, the database is restarted or the flow is edited.

mod bad_endpoints;
mod waits;

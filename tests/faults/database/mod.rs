//! What befalls the database: kills, freezes, cuts, refusals, locks.

mod lagging;
mod outage;

//! Brokers of other makers: delivery through each of them, over restarts and kills.
//!
//! `scripts/faults` installs the brokers, and counts those that cannot be installed.

mod makers;
mod missing_ids;
mod mosquitto;
mod overlap;
mod peer;
mod rumqttd;

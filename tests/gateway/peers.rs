//! Brokers of other makers: what arrives at the gateway through each of them, over restarts and kills.
//!
//! `scripts/faults` installs the brokers. It counts one that cannot be installed.

mod makers;
mod missing_ids;
mod mosquitto;
mod overlap;
mod peer;
mod rumqttd;

//! Faults of the inbox's disk.

mod damage;
mod full;
mod power;
mod unusable;
mod volume;

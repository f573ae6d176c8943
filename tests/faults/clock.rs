//! The wall clock jumps while the gateway runs.

mod jumps;
mod wall_clock;

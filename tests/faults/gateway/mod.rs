//! What befalls the gateway itself: kills, panics, stops, freezes, a twin.

mod kill;
mod panics;

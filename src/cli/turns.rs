//! How the system deals out the processors between the gateway and those it shares them with.
//!
//! A thread that wakes up takes the processor from the one that is at work, unless it is of a batch process (`SCHED_BATCH`): then it
//! waits for its turn, with the same share in the end. A gateway under load wakes up for every few messages, and on a machine with
//! its database or its broker each of these interruptions costs them what they have in their caches, or keeps others waiting for
//! a latch that they hold. It loses nothing by waiting a moment: more messages have come by then. Where a processor is idle, nobody waits.

use uapi::c::{SCHED_BATCH, sched_param};

/// For this thread and all that it will start. Without it everything works as well, only slower.
pub(super) fn wait_for_turns() -> Result<(), uapi::Errno> {
    uapi::sched_setscheduler(0, SCHED_BATCH, &sched_param { sched_priority: 0 }).map(|_| ())
}

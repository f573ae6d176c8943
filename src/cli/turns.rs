//! How the system deals out the processors between the gateway and those it shares them with.
//!
//! A thread that wakes up takes the processor from the one that is at work, unless it is of a batch process (`SCHED_BATCH`): then it
//! waits for its turn, with the same share in the end. A gateway under load wakes up for every few messages, and on a machine with
//! its database or its broker each of these interruptions costs them what they have in their caches, or keeps others waiting for
//! a latch that they hold. It loses nothing by waiting a moment: more messages have come by then. Where a processor is idle, nobody waits.

use uapi::c::{SCHED_BATCH, sched_param};

/// For this thread and all that it will start. Without it everything works as well, only slower.
///
/// # Errors
///
/// Where the system does not have it or does not allow it.
pub(super) fn wait_for_turns() -> Result<(), uapi::Errno> {
    uapi::sched_setscheduler(0, SCHED_BATCH, &sched_param { sched_priority: 0 }).map(|_| ())
}

/// Leaves the processors to others that want them at the same time: this thread and all that it will start, by as much as
/// `nice` would.
///
/// Every message of every replica passes the broker and the database. Where several replicas share processors with them, each
/// of their threads would take as large a part as the broker's only one; and a thread of the database that has to make room for them
/// in the middle of an insert keeps the inserts of other replicas waiting.
///
/// # Errors
///
/// Where the system does not allow it.
pub(super) fn step_back(by: i32) -> Result<(), rustix::io::Errno> {
    rustix::process::nice(by).map(|_| ())
}

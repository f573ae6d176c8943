//! Decides when the delivery reads and writes its table: a pure state machine without clock and I/O.
//!
//! A failing database only costs time: outcomes are kept and written again, loads are repeated, and all work pauses
//! together. Messages in memory are posted meanwhile.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use super::queue::{DeliveryQueue, Moment, Turn};
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{CommittedRows, LoadOrder, Outcome, WaitingFlow};
use crate::domain::retry::Backoff;

/// Delay after the first outcome before outcomes are written. A full batch is written at once.
const FLUSH_DELAY: Duration = Duration::from_millis(50);
const FLUSH_AT: usize = 512;

/// Interval between two sweeps for unannounced and abandoned rows.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Interval at which the rows of flows with waiting messages are read, so that edits count soon.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Delay after a database error.
const PAUSE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(10) };

/// Pending and running database work.
#[derive(Debug)]
pub struct TableWork {
    renew_interval: Duration,
    /// Times of the next regular renewal, follow and sweep; `None` until the database was reached.
    next_regular: Option<[Moment; 3]>,
    /// Time from the last renewal of the lease in which posts may start.
    lease: Duration,
    /// No post starts from this moment on, because another process may claim the rows.
    lease_until: Moment,
    /// When the running renewal began.
    renewal_began_at: Moment,
    /// A sweep has determined the rows that existed at startup.
    ready: bool,
    /// The table may have rows that were not announced, and no sweep has found them yet.
    searching: bool,
    /// Outcomes of posts that are not written yet.
    outcomes: Vec<Outcome>,
    flush: Flush,
    tasks: BTreeSet<MaintenanceTask>,
    /// A maintenance task is running.
    maintaining: bool,
    /// Consecutive failures.
    failures: u32,
    pause: WorkPause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    Idle,
    At(Moment),
    Running,
}

/// No work starts during a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkPause {
    None,
    /// The connections are being replaced.
    Recovering,
    Until(Moment),
}

/// Work besides loads and writes. One task runs at a time, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaintenanceTask {
    /// Renew the lease.
    Renewal,
    /// Read the rows of the flows with waiting messages.
    FollowRows,
    /// Count the rows of the table and load every flow that has some.
    ThoroughSweep,
    /// Count the rows of the table; most of them should be in memory.
    RoutineSweep,
}

impl TableWork {
    /// Creates the work of a delivery that has not reached the database. Posts may start for three quarters of `lease`
    /// after its last renewal. The last quarter is for posts in flight.
    #[must_use]
    pub fn new(renew_interval: Duration, lease: Duration) -> Self {
        Self {
            renew_interval,
            lease: lease / 4 * 3,
            lease_until: Moment::ZERO,
            renewal_began_at: Moment::ZERO,
            next_regular: None,
            ready: false,
            searching: false,
            outcomes: Vec::new(),
            flush: Flush::Idle,
            tasks: BTreeSet::new(),
            maintaining: false,
            failures: 0,
            pause: WorkPause::None,
        }
    }

    /// Whether messages may be posted from memory.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the last database access failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Begins the regular work, after the database was reached.
    pub fn connected(&mut self, now: Moment) {
        self.next_regular = Some([now + self.renew_interval, now + FOLLOW_INTERVAL, now + SWEEP_INTERVAL]);
        self.want(MaintenanceTask::Renewal);
        self.want(MaintenanceTask::ThoroughSweep);
    }

    /// Requests a maintenance task.
    pub fn want(&mut self, task: MaintenanceTask) {
        self.tasks.insert(task);
    }

    /// Adds the outcome of a post to the next write.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Passes committed messages to the queue. Until a sweep, older rows may be in the table and must be posted first.
    pub fn deliver(&self, queue: &mut DeliveryQueue, items: Vec<OutboxItem>, now: Moment) {
        if self.ready && !self.searching {
            queue.deliver(items, now);
        } else {
            queue.committed(&CommittedRows::from_items(&items), now);
        }
    }

    /// Returns the next post, or messages that become dead letters. Their outcomes are written like outcomes of posts.
    pub fn next_turn(&mut self, queue: &mut DeliveryQueue, now: Moment) -> Option<Turn> {
        if !self.holds_lease(now) {
            return None;
        }
        let turn = queue.next_turn(now)?;
        if let Turn::GiveUp { outcomes, .. } = &turn {
            self.outcomes.extend(outcomes.iter().cloned());
        }
        Some(turn)
    }

    /// Ends a pause and requests the regular tasks that are due. Returns whether work may start.
    pub fn begin(&mut self, now: Moment) -> bool {
        let Some(times) = &mut self.next_regular else { return false };
        let regular = [
            (self.renew_interval, MaintenanceTask::Renewal),
            (FOLLOW_INTERVAL, MaintenanceTask::FollowRows),
            (SWEEP_INTERVAL, MaintenanceTask::RoutineSweep),
        ];
        for (at, (interval, task)) in times.iter_mut().zip(regular) {
            if *at <= now {
                *at = now + interval;
                self.tasks.insert(task);
            }
        }
        if matches!(self.pause, WorkPause::Until(at) if at <= now) {
            self.pause = WorkPause::None;
        }
        self.pause == WorkPause::None
    }

    /// Returns the outcomes to write now, if no write runs. Few outcomes are kept for a while, unless the delivery is
    /// `draining` or a flow waits for them.
    pub fn next_flush(&mut self, queue: &DeliveryQueue, draining: bool, now: Moment) -> Option<Vec<Outcome>> {
        if self.flush == Flush::Running || self.outcomes.is_empty() {
            return None;
        }
        let at = match self.flush {
            Flush::At(at) => at,
            Flush::Idle | Flush::Running => now + FLUSH_DELAY,
        };
        if now < at && !draining && !queue.flush_is_urgent() && self.outcomes.len() < FLUSH_AT {
            self.flush = Flush::At(at);
            return None;
        }
        self.flush = Flush::Running;
        Some(std::mem::take(&mut self.outcomes))
    }

    /// Returns the next load, once the rows that existed at startup are known.
    pub fn next_load(&self, queue: &mut DeliveryQueue, now: Moment) -> Option<LoadOrder> {
        if self.ready { queue.next_load(now) } else { None }
    }

    /// Returns the next maintenance task, if none is running.
    pub fn next_task(&mut self, now: Moment) -> Option<MaintenanceTask> {
        if self.maintaining {
            return None;
        }
        let task = self.tasks.pop_first()?;
        if task == MaintenanceTask::Renewal {
            self.renewal_began_at = now;
        }
        if task == MaintenanceTask::ThoroughSweep {
            self.tasks.remove(&MaintenanceTask::RoutineSweep);
        }
        self.maintaining = true;
        Some(task)
    }

    /// The next time at which work may start without an event.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        let regular = self.next_regular?.into_iter();
        let other = match (self.pause, self.flush) {
            (WorkPause::Until(at), _) | (WorkPause::None, Flush::At(at)) => Some(at),
            _ => None,
        };
        regular.chain(other).min()
    }

    /// Records a successful access. Returns whether it is the first after failures.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// Records that the outcomes of the last write are in the table.
    pub fn flushed(&mut self) {
        self.flush = Flush::Idle;
    }

    /// Takes back the outcomes of a failed write, which come before later ones.
    pub fn flush_failed(&mut self, outcomes: Vec<Outcome>) {
        self.flush = Flush::Idle;
        let later = std::mem::replace(&mut self.outcomes, outcomes);
        self.outcomes.extend(later);
    }

    /// Records that the running maintenance task has ended.
    pub fn task_ended(&mut self) {
        self.maintaining = false;
    }

    /// Whether the lease was certainly held since it was renewed last. Afterwards a renewal whose answer was lost may
    /// have begun a new one.
    #[must_use]
    pub fn holds_lease(&self, now: Moment) -> bool {
        now < self.lease_until
    }

    /// Records that the table may have rows that were not announced. They come before later ones, so all later ones are
    /// loaded until a sweep has found them.
    pub fn search_rows(&mut self) {
        self.searching = true;
        self.want(MaintenanceTask::ThoroughSweep);
    }

    /// Records that the lease was renewed. It counts from the beginning of the renewal, because it may have been
    /// renewed at any time since.
    pub fn lease_renewed(&mut self) {
        self.lease_until = self.renewal_began_at + self.lease;
    }

    /// Records that the lease begins now. Returns whether an earlier one was lost. Then other processes may have
    /// claimed rows, so nothing is posted from memory before it was loaded again.
    pub fn lease_begun(&mut self, queue: &mut DeliveryQueue, now: Moment) -> bool {
        let is_first = self.lease_until == Moment::ZERO;
        self.lease_renewed();
        if !is_first {
            queue.reload_all(now);
            self.want(MaintenanceTask::ThoroughSweep);
        }
        !is_first
    }

    /// Records the rows that a sweep found, `claimed` of them from other processes. Returns whether it was the first.
    pub fn swept(
        &mut self,
        sweep: MaintenanceTask,
        claimed: u64,
        waiting: &[WaitingFlow],
        queue: &mut DeliveryQueue,
        now: Moment,
    ) -> bool {
        if sweep == MaintenanceTask::ThoroughSweep || claimed > 0 {
            queue.spill(waiting.iter().map(|found| found.flow), now);
        } else {
            queue.swept(waiting, now);
        }
        // Another one may be wanted since this one began.
        let is_wanted = self.tasks.contains(&MaintenanceTask::ThoroughSweep);
        self.searching &= sweep != MaintenanceTask::ThoroughSweep || is_wanted;
        !std::mem::replace(&mut self.ready, true)
    }

    /// Records a failed access. Returns the delay before the next one. `random_unit`, from 0 to 1, spreads the delays.
    pub fn failed(&mut self, random_unit: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        PAUSE.delay(self.failures, random_unit)
    }

    /// Pauses all work until [`Self::resume_at`]. Returns false if it is paused already.
    pub fn pause(&mut self) -> bool {
        let begins = self.pause == WorkPause::None;
        if begins {
            self.pause = WorkPause::Recovering;
        }
        begins
    }

    /// Sets the end of the pause.
    pub fn resume_at(&mut self, at: Moment) {
        self.pause = WorkPause::Until(at);
    }
}

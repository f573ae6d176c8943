//! The steps that may happen next.

use proptest::prelude::*;

pub(crate) const TOPICS: [&str; 4] = ["t0", "t1", "t2", "#"];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// The broker hands a message over.
    Append {
        topic: usize,
        readable: bool,
        gap: u64,
    },
    /// The log is forced to the disk.
    Sync,
    /// The router takes a turn.
    Pump {
        tick: bool,
        scan_limit: usize,
    },
    /// A worker goes on, in a transaction with a maximum number of messages. It waits for a locked
    /// flow or leaves it behind.
    Work {
        lane: u32,
        most: usize,
        patient: bool,
    },
    /// COMMIT of a worker's transaction.
    End {
        lane: u32,
        end: End,
    },
    /// A replaced worker goes on.
    Zombie {
        index: usize,
        most: usize,
        end: Option<End>,
    },
    /// The server ends a transaction whose connection is gone.
    Orphan {
        index: usize,
        commits: bool,
    },
    /// Something reaches the router, in any order.
    Deliver {
        index: usize,
    },
    /// A worker panics, or falls silent and works on.
    ReplaceWorker {
        lane: u32,
        zombie: bool,
    },
    RestartRouter,
    /// kill -9. COMMITs that were sent may still happen.
    RestartProcess {
        power_was_lost: bool,
        commits: bool,
    },
    /// SIGTERM.
    Drain,
    /// Another client locks or releases a flow's row.
    Lock {
        flow: usize,
        locked: bool,
    },
    Enable {
        flow: usize,
        enabled: bool,
    },
    Retopic {
        flow: usize,
        topic: usize,
    },
    Delete {
        flow: usize,
    },
    Create {
        topic: usize,
    },
    /// The registry reads the flows, and the router gets a new table.
    Reload,
    /// The disk refuses to be read.
    FailReads {
        count: u32,
    },
    /// A backup of the database is made.
    Backup,
    /// The database goes back to its last backup.
    Restore,
    /// The gateway compares its memory with the database.
    Heartbeat,
    /// Finished segments were kept for long enough.
    Expire,
}

/// Outcome of a COMMIT.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Answered,
    /// The connection broke before it, and the server rolled back.
    NotReached,
    /// The connection broke after it.
    NotAnswered,
    /// The connection broke, and the server has yet to decide.
    InLimbo,
}

/// Numbers that steps are made of: thousands of them come about faster than steps would.
pub(crate) fn choices() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 1..400)
}

type Make = fn(&mut Dice) -> Step;

/// How often each kind of step comes, and how it is made.
const KINDS: &[(u64, Make)] = &[
    (18, |dice| Step::Append { topic: dice.index(3), readable: !dice.one_in(10), gap: dice.below(3) }),
    (2, |_| Step::Sync),
    (22, |dice| Step::Pump { tick: dice.one_in(3), scan_limit: 1 + dice.index(5) }),
    (26, |dice| Step::Work { lane: dice.lane(), most: 1 + dice.index(3), patient: dice.one_in(5) }),
    (22, |dice| Step::End { lane: dice.lane(), end: dice.end() }),
    (2, |dice| Step::Zombie { index: dice.index(3), most: 1 + dice.index(3), end: None }),
    (2, |dice| Step::Zombie { index: dice.index(3), most: 1, end: Some(dice.end()) }),
    (4, |dice| Step::Orphan { index: dice.index(3), commits: dice.one_in(2) }),
    (22, |dice| Step::Deliver { index: dice.index(3) }),
    (1, |dice| Step::ReplaceWorker { lane: dice.lane(), zombie: dice.one_in(2) }),
    (1, |_| Step::RestartRouter),
    (1, |dice| Step::RestartProcess { power_was_lost: dice.one_in(2), commits: dice.one_in(2) }),
    (1, |_| Step::Drain),
    (6, |dice| Step::Lock { flow: dice.index(8), locked: true }),
    (6, |dice| Step::Lock { flow: dice.index(8), locked: false }),
    (1, |dice| Step::Enable { flow: dice.index(8), enabled: dice.one_in(2) }),
    (1, |dice| Step::Retopic { flow: dice.index(8), topic: dice.index(TOPICS.len()) }),
    (1, |dice| Step::Delete { flow: dice.index(8) }),
    (1, |dice| Step::Create { topic: dice.index(TOPICS.len()) }),
    (3, |_| Step::Reload),
    (1, |dice| Step::FailReads { count: 1 + u32::from(dice.one_in(2)) }),
    (2, |_| Step::Backup),
    (1, |_| Step::Restore),
    (2, |_| Step::Heartbeat),
    (1, |_| Step::Expire),
];

impl Step {
    /// The step that a number stands for.
    pub(crate) fn of(choice: u64) -> Self {
        let mut dice = Dice(choice);
        let mut left = dice.below(KINDS.iter().map(|(weight, _)| weight).sum());
        for (weight, make) in KINDS {
            if left < *weight {
                return make(&mut dice);
            }
            left -= weight;
        }
        Self::Sync
    }
}

/// A number, taken apart into small ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        let value = self.0 % bound;
        self.0 /= bound;
        value
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    fn lane(&mut self) -> u32 {
        u32::from(self.one_in(2))
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) + 1 == odds
    }

    fn end(&mut self) -> End {
        match self.below(11) {
            8 => End::NotReached,
            9 => End::NotAnswered,
            10 => End::InLimbo,
            _ => End::Answered,
        }
    }
}

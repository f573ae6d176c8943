//! The lanes of an inbox under everything that may come between any two steps, thousands of times.
//!
//! The code under test is the one that the router runs: `domain::lanes` and the history of routing
//! tables. Around it are models: an inbox in memory, a database whose transactions happen wholly or
//! not at all and whose answers get lost, workers that are replaced and work on, a process that is
//! killed. A scheduler that is nothing but a list of numbers decides what happens next; so a failure
//! shrinks to the few steps that bring it about. After each step it is asserted that
//!
//! - a flow's numbers are consecutive and in the order of the inbox, so that none counts twice;
//! - what a committed transaction moved an offset past was stored, or waits for a flow that lags;
//! - nothing below the watermark is needed by anybody;
//!
//! and when faults end, that all comes to rest with each message in SQL once for each of its flows.
//!
//! `PROPTEST_CASES=100000 cargo test --test simulation` runs it for longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod claims;
mod copies;
mod inbox_model;
mod log;
mod oracle;
mod seen;
mod sql;
mod steps;
mod worker;
mod world;

use std::cell::RefCell;

use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};
use seen::Seen;
use steps::{Step, choices};
use world::World;

/// Number of runs, unless `PROPTEST_CASES` sets it. Fewer runs miss rare cases.
const RUNS: u32 = 2_000;

/// Steps that once brought a defect about are kept here and tried first.
const REGRESSIONS: &str = "tests/simulation/regressions.txt";

#[test]
fn simulated_failures_are_exactly_once() {
    let runs = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(RUNS);
    let mut runner = TestRunner::new(Config {
        cases: runs,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        source_file: Some(file!()),
        ..Config::default()
    });
    let seen = RefCell::new(Seen::default());
    let result = runner.run(&choices(), |choices| {
        let mut world = World::new();
        for choice in choices {
            world.perform(Step::of(choice));
        }
        world.come_to_rest();
        seen.borrow_mut().add(&world.seen);
        Ok(())
    });
    if let Err(TestError::Fail(why, choices)) = result {
        let steps: Vec<Step> = choices.into_iter().map(Step::of).collect();
        panic!("{why}\nafter {} steps: {steps:#?}", steps.len());
    }
    if runs >= RUNS {
        for (what, times) in seen.borrow().all() {
            assert!(times > 0, "the simulation had no {what}");
        }
    }
}

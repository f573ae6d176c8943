//! Random faults for a given time, while messages flow. Then all acknowledged messages must be in the tables.
//!
//! `scripts/soak [MINUTES] [SEED]` runs it for an hour; the fault tests run a short one with a settled seed. A seed
//! gives the same faults in the same order. What they hit differs from run to run, so a seed that found something is
//! worth several runs.
//!
//! The broker must lose no acknowledged message, because its losses would be counted as the gateway's. So it is
//! restarted in order, and killed only when it has just saved its state and has nothing to deliver.

mod fault;
mod memory;
mod scenario;
mod stage;
pub(crate) mod verdict;

use std::time::Duration;

use self::scenario::Scenario;
use self::stage::{Outcome, Stage};

/// As in the other tests under load; of a debug build.
const MOST_MEMORY_KIB: u64 = 128 * 1024;

#[test]
#[ignore = "takes a minute or two; run by scripts/faults, and for an hour by scripts/soak"]
fn random_faults_lose_and_double_nothing() {
    let minutes: f64 = given("SOAK_MINUTES").unwrap_or(1.0);
    let seed: u64 = given("SOAK_SEED").unwrap_or(3);
    println!("soak: {minutes} minutes, seed {seed}");
    let mut stage = Stage::set();
    let time = Duration::from_secs_f64(minutes * 60.0);
    for step in Scenario::from_seed(seed) {
        if stage.has_run_for() >= time {
            break;
        }
        println!("soak: {:5} s  {:?}", stage.has_run_for().as_secs(), step.fault);
        stage.strike(step.after, step.fault);
    }
    let outcome = stage.end();
    print(&outcome, seed);
    assert!(outcome.verdict.keeps_the_promise(), "seed {seed}: {:?}", outcome.verdict);
    assert_eq!(outcome.surprises, [""; 0], "seed {seed}");
    assert!(outcome.memory.most_kib < MOST_MEMORY_KIB, "seed {seed}: {:?}", outcome.memory);
}

fn given<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

fn print(outcome: &Outcome, seed: u64) {
    let Outcome { seconds, faults, triggered, verdict, memory, surprises } = outcome;
    println!("\n=== soak of {seconds} s, seed {seed}");
    println!("messages      {:8}", verdict.messages);
    println!("lost          {:8}", verdict.lost);
    println!("duplicates    {:8}", verdict.duplicates);
    println!("gaps          {:8}", verdict.gaps);
    println!("out of order  {:8}", verdict.misordered);
    println!("torn          {:8}", verdict.torn);
    println!("dead letters  {:8}", verdict.dead_letters);
    println!("left in outbox{:8}", verdict.left_over);
    println!("posted again  {:8}   (at least once is the promise)", verdict.posted_again);
    println!("faults        {:8}", faults.values().sum::<usize>());
    for (name, count) in faults {
        println!("  {count:4} {name}");
    }
    println!("  ({triggered} of the cuts at a packet came to pass)");
    println!(
        "memory, KiB: least {}, median {}, most {}, {:+.0} a minute; by tenths {:?} ({} samples)",
        memory.least_kib,
        memory.median_kib,
        memory.most_kib,
        memory.slope_kib_per_minute,
        memory.tenths_kib,
        memory.samples
    );
    for surprise in surprises {
        println!("surprise: {surprise}");
    }
}

//! Fuzzing on the stable toolchain: what reads bytes from outside is fed bytes that nobody would send.
//!
//! ```text
//! corpus/<target>/* ──▶ pool ──mutate──▶ input ──▶ check ──▶ behaviour ──new──▶ pool
//!                                                    │ panic
//!                                                    └──▶ minimise ──▶ corpus/<target>/crash-…
//! ```
//!
//! Each target is a function of bytes that panics when something is wrong, and otherwise names the
//! behaviour it saw (which error, how many records …). An input with a new behaviour joins the pool. So
//! mutation is guided by what comes out, not by coverage: the compiler's counters can be read by unsafe
//! code alone, which this crate forbids.
//!
//! A test run replays the corpus and does [`SHORT_RUN`] random inputs. `scripts/fuzz` runs for longer
//! and keeps what it finds in the corpus; `FUZZ_SECONDS`, `FUZZ_TARGET` and `FUZZ_SEED` are its words to us.

mod mutate;
mod payload;
mod schema;
mod topic;

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::{Mutator, Random};

/// Random inputs of a target in a test run.
const SHORT_RUN: u64 = 400;

/// Inputs that long runs let a target's corpus grow to, and how long those may be: the corpus is kept in
/// the repository. What made a target fail is always added.
const MOST_KEPT: usize = 30;
const LONGEST_KEPT: usize = 400;

/// Longest input that is tried.
const LONGEST_INPUT: usize = 100_000;

/// Inputs that mutation begins with.
const MOST_POOLED: usize = 5_000;

/// Names a behaviour.
pub(crate) fn behaviour(seen: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    seen.hash(&mut hasher);
    hasher.finish()
}

/// Replays the corpus of `name`, then feeds `check` mutations of it made with the words of `dictionary`.
pub(crate) fn fuzz(name: &str, dictionary: &[&str], check: impl Fn(&[u8]) -> u64) {
    fuzz_from(name, &[], dictionary, check);
}

/// The same, with seeds that the program itself makes and a file would only keep from changing.
pub(crate) fn fuzz_from(name: &str, seeds: &[&[u8]], dictionary: &[&str], check: impl Fn(&[u8]) -> u64) {
    if std::env::var("FUZZ_TARGET").is_ok_and(|only| only != name) {
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let seed = setting("FUZZ_SEED").unwrap_or_else(rand::random);
    let long = setting("FUZZ_SECONDS").map(Duration::from_secs);
    let mut run = Run { name, directory, check, seed, long, pool: Vec::new(), seen: HashSet::new() };
    run.replay(seeds);
    run.explore(dictionary);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

struct Run<'a, C> {
    name: &'a str,
    directory: PathBuf,
    check: C,
    seed: u64,
    long: Option<Duration>,
    pool: Vec<Vec<u8>>,
    seen: HashSet<u64>,
}

impl<C: Fn(&[u8]) -> u64> Run<'_, C> {
    /// What was found before must not come again.
    fn replay(&mut self, seeds: &[&[u8]]) {
        let seeds = seeds.iter().map(|seed| seed.to_vec());
        for input in seeds.chain(self.corpus()) {
            self.try_input(&input);
            self.pool.push(input);
        }
        assert!(!self.pool.is_empty(), "the corpus of {} is empty", self.name);
    }

    fn explore(&mut self, dictionary: &[&str]) {
        let mut mutator = Mutator { random: Random(self.seed), dictionary, longest: LONGEST_INPUT };
        let (begun, mut tried, mut kept) = (Instant::now(), 0, self.pool.len());
        while self.long.map_or(tried < SHORT_RUN, |time| begun.elapsed() < time) {
            let input = mutator.next(&self.pool);
            tried += 1;
            if self.try_input(&input) && self.pool.len() < MOST_POOLED {
                if self.long.is_some() && kept < MOST_KEPT && input.len() <= LONGEST_KEPT {
                    kept += 1;
                    self.keep("found", &input);
                }
                self.pool.push(input);
            }
        }
        if self.long.is_some() {
            let Run { name, seed, seen, .. } = self;
            let behaviours = seen.len();
            eprintln!("{name}: {tried} inputs, {behaviours} behaviours, {kept} in the corpus, seed {seed}");
        }
    }

    /// Whether the behaviour is new. A panic ends the run, with the input that made it in the corpus.
    fn try_input(&mut self, input: &[u8]) -> bool {
        if self.long.is_some() {
            // What overflows the stack ends the process and cannot be caught.
            fs::write(std::env::temp_dir().join(format!("mqtt-gateway-fuzz-{}", self.name)), input).unwrap();
        }
        match catch_unwind(AssertUnwindSafe(|| (self.check)(input))) {
            Ok(seen) => self.seen.insert(seen),
            Err(panic) => {
                let input = self.minimised(input);
                let path = self.keep("crash", &input);
                let message = panic.downcast_ref::<String>().map_or("see above", String::as_str);
                panic!("{} fails with seed {} for {}: {message}", self.name, self.seed, path.display());
            }
        }
    }

    /// As short as taking out pieces makes it.
    fn minimised(&self, input: &[u8]) -> Vec<u8> {
        const MOST_ATTEMPTS: usize = 2_000;
        let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (self.check)(input))).is_err();
        let (mut least, mut attempts) = (input.to_vec(), 0);
        let mut size = least.len() / 2;
        while size > 0 && attempts < MOST_ATTEMPTS {
            let mut at = 0;
            while at < least.len() && attempts < MOST_ATTEMPTS {
                attempts += 1;
                let shorter = [&least[..at], &least[(at + size).min(least.len())..]].concat();
                if fails(&shorter) { least = shorter } else { at += size }
            }
            size /= 2;
        }
        least
    }

    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<PathBuf> = match fs::read_dir(&self.directory) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn keep(&self, kind: &str, input: &[u8]) -> PathBuf {
        let mut name = format!("{kind}-");
        // Writing to a string cannot fail.
        let _ = write!(name, "{:016x}", behaviour(input));
        let path = self.directory.join(name);
        fs::create_dir_all(&self.directory).unwrap();
        fs::write(&path, input).unwrap();
        path
    }
}

#[test]
fn what_makes_a_target_fail_is_found_shortened_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let check = |input: &[u8]| {
        assert!(!input.windows(2).any(|bytes| bytes == b"{{"), "two braces");
        behaviour(input.len())
    };
    let name = "self-test";
    let path = directory.path().to_path_buf();
    let mut run =
        Run { name, directory: path, check, seed: 1, long: None, pool: Vec::new(), seen: HashSet::new() };
    run.replay(&[b"some text, a { and more"]);
    let failure = catch_unwind(AssertUnwindSafe(|| run.explore(&["{"]))).unwrap_err();
    assert!(failure.downcast_ref::<String>().unwrap().contains("seed 1"));
    assert_eq!(run.corpus(), [b"{{"]);
    assert!(catch_unwind(AssertUnwindSafe(|| run.replay(&[]))).is_err(), "the next run begins with it");
}

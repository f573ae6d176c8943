//! Fuzzing on the stable toolchain: feeds mutated bytes to every parser of external data.
//!
//! ```text
//! corpus/<target>/* ──▶ pool ──mutate──▶ input ──▶ check ──▶ behaviour ──new──▶ pool
//!                                                    │ panic
//!                                                    └──▶ minimise ──▶ corpus/<target>/crash-…
//! ```
//!
//! A target is a function of bytes. It panics if it finds an error. Otherwise it returns a hash of the observed
//! behaviour, such as the kind of an error or the number of records. An input with a new behaviour joins the pool.
//! Mutation is guided by behaviour instead of coverage, because coverage counters need unsafe code, which this crate
//! forbids.
//!
//! A test run replays the corpus and tries [`SHORT_RUN`] random inputs. `scripts/fuzz` runs longer and adds its finds
//! to the corpus. It passes its options in `FUZZ_SECONDS`, `FUZZ_TARGET` and `FUZZ_SEED`.

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

/// Number of random inputs per target in a test run.
const SHORT_RUN: u64 = 400;

/// Maximum number of inputs in the corpus of a target, and their maximum length in bytes. The limits are small because
/// the corpus is part of the repository. Failing inputs are always added.
const MAX_CORPUS_INPUTS: usize = 30;
const MAX_CORPUS_INPUT_BYTES: usize = 400;

/// Maximum length of an input, in bytes.
const MAX_INPUT_BYTES: usize = 100_000;

/// Maximum number of inputs in the pool from which mutation starts.
const MAX_POOL_INPUTS: usize = 5_000;

/// Hashes an observed behaviour.
pub(crate) fn behaviour(seen: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    seen.hash(&mut hasher);
    hasher.finish()
}

/// Replays the corpus of `name`, then calls `check` with mutated inputs. Mutations may insert words of `dictionary`.
pub(crate) fn fuzz(name: &str, dictionary: &[&str], check: impl Fn(&[u8]) -> u64) {
    fuzz_from(name, &[], dictionary, check);
}

/// Fuzzes as [`fuzz`] does, with additional seeds. The program generates the seeds, so that they follow its formats.
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
    /// Tries all seeds and the whole corpus, which holds the inputs of former failures.
    fn replay(&mut self, seeds: &[&[u8]]) {
        let seeds = seeds.iter().map(|seed| seed.to_vec());
        for input in seeds.chain(self.corpus()) {
            self.try_input(&input);
            self.pool.push(input);
        }
        assert!(!self.pool.is_empty(), "the corpus of {} is empty", self.name);
    }

    fn explore(&mut self, dictionary: &[&str]) {
        let mut mutator = Mutator { random: Random(self.seed), dictionary, max_bytes: MAX_INPUT_BYTES };
        let (begun, mut tried, mut kept) = (Instant::now(), 0, self.pool.len());
        while self.long.map_or(tried < SHORT_RUN, |time| begun.elapsed() < time) {
            let input = mutator.next(&self.pool);
            tried += 1;
            if self.try_input(&input) && self.pool.len() < MAX_POOL_INPUTS {
                if self.long.is_some() && kept < MAX_CORPUS_INPUTS && input.len() <= MAX_CORPUS_INPUT_BYTES {
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

    /// Runs the check and returns true if its behaviour is new. After a panic, the minimised input is saved in the
    /// corpus and the run ends.
    fn try_input(&mut self, input: &[u8]) -> bool {
        if self.long.is_some() {
            // A stack overflow aborts the process and cannot be caught, so the input is saved first.
            fs::write(std::env::temp_dir().join(format!("mqtt-gateway-fuzz-{}", self.name)), input).unwrap();
        }
        match catch_unwind(AssertUnwindSafe(|| (self.check)(input))) {
            Ok(seen) => self.seen.insert(seen),
            Err(panic) => {
                let input = self.minimise(input);
                let path = self.keep("crash", &input);
                let message = panic.downcast_ref::<String>().map_or("see above", String::as_str);
                panic!("{} fails with seed {} for {}: {message}", self.name, self.seed, path.display());
            }
        }
    }

    /// Removes pieces of a failing input as long as it still fails.
    fn minimise(&self, input: &[u8]) -> Vec<u8> {
        const MAX_ATTEMPTS: usize = 2_000;
        let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (self.check)(input))).is_err();
        let (mut least, mut attempts) = (input.to_vec(), 0);
        let mut size = least.len() / 2;
        while size > 0 && attempts < MAX_ATTEMPTS {
            let mut at = 0;
            while at < least.len() && attempts < MAX_ATTEMPTS {
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
fn failing_inputs_are_minimised_and_kept() {
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

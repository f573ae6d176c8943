//! The gateway's memory over time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

/// Memory settles after a while.
const WARM_UP: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    process: u32,
    kib: u64,
}

/// Looks at the process every second, whichever it is at the time.
pub(super) struct Memory {
    process: Arc<AtomicU32>,
    ended: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    thread: JoinHandle<()>,
}

/// The samples.
#[derive(Debug)]
pub(super) struct MemoryReport {
    pub(super) samples: usize,
    pub(super) least_kib: u64,
    pub(super) median_kib: u64,
    pub(super) most_kib: u64,
    /// Over the whole run, all processes together; those just started left out.
    pub(super) slope_kib_per_minute: f64,
    /// The median of each tenth of the run.
    pub(super) tenths_kib: Vec<u64>,
}

impl Memory {
    pub(super) fn of(process: u32) -> Memory {
        let process = Arc::new(AtomicU32::new(process));
        let (ended, samples) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (whose, over, seen) = (Arc::clone(&process), Arc::clone(&ended), Arc::clone(&samples));
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let process = whose.load(Ordering::Relaxed);
                if let Some(kib) = resident_kib(process) {
                    seen.lock().unwrap().push(Sample { at: begun.elapsed(), process, kib });
                }
                std::thread::park_timeout(INTERVAL);
            }
        });
        Memory { process, ended, samples, thread }
    }

    pub(super) fn now_of(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
    }

    pub(super) fn end(self) -> MemoryReport {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap();
        let samples = self.samples.lock().unwrap();
        report(&samples)
    }
}

fn resident_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn report(samples: &[Sample]) -> MemoryReport {
    let warm: Vec<Sample> = samples.iter().copied().filter(|sample| is_warm(samples, sample)).collect();
    let tenth = samples.len().div_ceil(10).max(1);
    MemoryReport {
        samples: samples.len(),
        least_kib: samples.iter().map(|sample| sample.kib).min().unwrap_or(0),
        median_kib: median(samples),
        most_kib: samples.iter().map(|sample| sample.kib).max().unwrap_or(0),
        slope_kib_per_minute: slope(&warm),
        tenths_kib: samples.chunks(tenth).map(median).collect(),
    }
}

fn is_warm(samples: &[Sample], sample: &Sample) -> bool {
    let first = samples.iter().find(|other| other.process == sample.process);
    first.is_some_and(|first| sample.at >= first.at + WARM_UP)
}

fn median(samples: &[Sample]) -> u64 {
    let mut sizes: Vec<u64> = samples.iter().map(|sample| sample.kib).collect();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or(0)
}

/// By least squares.
#[allow(clippy::cast_precision_loss, reason = "kibibytes of one process")]
fn slope(samples: &[Sample]) -> f64 {
    let points = samples.iter().map(|sample| (sample.at.as_secs_f64() / 60.0, sample.kib as f64));
    let count = samples.len().max(1) as f64;
    let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (across, along) = points.fold((0.0, 0.0), |(across, along), (x, y)| {
        (across + (x - mean_x) * (y - mean_y), along + (x - mean_x) * (x - mean_x))
    });
    if along > 0.0 { across / along } else { 0.0 }
}

#[test]
fn slope_fits_the_samples() {
    let at = |second, kib| Sample { at: Duration::from_secs(second), process: 1, kib };
    let rising: Vec<Sample> = (0..10).map(|minute| at(60 * minute, 1_000 + 7 * minute)).collect();
    assert!((slope(&rising) - 7.0).abs() < 1e-6);
    assert!(slope(&[at(0, 5), at(9, 5)]).abs() < 1e-6);
}

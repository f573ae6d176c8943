//! What a process has used, by the kernel's own count.

use std::time::Duration;

use procfs::process::Process;

use super::error::BenchError;

/// Processor time and memory of a process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system, of all its threads.
    pub(super) cpu: Duration,
    /// The most memory that it has held at once, in bytes.
    pub(super) peak_memory_bytes: u64,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(pid: u32) -> Result<Self, BenchError> {
        let unreadable = |error: procfs::ProcError| BenchError::Usage(error.to_string());
        let process = i32::try_from(pid).map_err(|error| BenchError::Usage(error.to_string()))?;
        let process = Process::new(process).map_err(unreadable)?;
        let stat = process.stat().map_err(unreadable)?;
        let status = process.status().map_err(unreadable)?;
        let ticks = u32::try_from(procfs::ticks_per_second()).unwrap_or(100).max(1);
        Ok(Self {
            cpu: Duration::from_secs(stat.utime + stat.stime) / ticks,
            peak_memory_bytes: status.vmhwm.unwrap_or(0) * 1_024,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_processor_and_memory() {
        let usage = || Usage::of(std::process::id()).unwrap();
        let before = usage();
        assert!(before.peak_memory_bytes > 0);
        // Until the count moves: it goes in steps of the kernel's clock.
        while usage().cpu == before.cpu {}
        assert!(usage().cpu > before.cpu);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Usage::of(u32::MAX).is_err());
    }
}

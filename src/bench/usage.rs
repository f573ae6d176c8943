//! Resource usage of a process, as counted by the kernel.

use std::time::Duration;

use procfs::process::Process;

use super::error::BenchError;

/// Processor time and memory of a process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all threads.
    pub(super) cpu: Duration,
    /// Peak resident memory, in bytes.
    pub(super) peak_memory_bytes: u64,
}

impl Usage {
    /// Reads the usage of the process with this id.
    pub(super) fn from_pid(pid: u32) -> Result<Self, BenchError> {
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
    fn busy_processes_use_cpu_and_memory() {
        let usage = || Usage::from_pid(std::process::id()).unwrap();
        let before = usage();
        assert!(before.peak_memory_bytes > 0);
        // The kernel counts in clock ticks, so the loop runs until the next tick.
        while usage().cpu == before.cpu {}
        assert!(usage().cpu > before.cpu);
    }

    #[test]
    fn missing_processes_are_errors() {
        assert!(Usage::from_pid(u32::MAX).is_err());
    }
}

//! Handles the signals of the operating system.

use std::fs::{self, File};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalAction {
    /// SIGHUP without a terminal: reload the flows.
    Reload,
    /// SIGHUP after the terminal was closed: shut down in order. Shell and kernel may both send it, so a second one is
    /// ignored.
    HungUp,
    /// SIGTERM or SIGINT: shut down in order; the second one exits at once.
    End,
}

/// The handled signals.
pub(crate) struct Signals {
    hangup: Signal,
    on_hangup: SignalAction,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        // Before the first handler, which replaces the setting of `nohup`. At startup, because a process loses its
        // terminal when that is closed.
        let on_hangup =
            if has_terminal() && !ignores_hangup() { SignalAction::HungUp } else { SignalAction::Reload };
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            on_hangup,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.hangup.recv() => self.on_hangup,
            _ = self.terminate.recv() => SignalAction::End,
            _ = self.interrupt.recv() => SignalAction::End,
        }
    }

    /// Waits for a signal that requests a shutdown.
    pub(crate) async fn end(&mut self) {
        while matches!(self.next().await, SignalAction::Reload) {}
    }
}

/// Whether a terminal controls the process. Only then can the kernel open this path.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does.
fn ignores_hangup() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| names_hangup_as_ignored(&status))
}

fn names_hangup_as_ignored(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1, the lowest bit.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_hangup_is_read_from_the_mask() {
        let status =
            |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        assert!(names_hangup_as_ignored(&status("0000000000001001")));
        assert!(!names_hangup_as_ignored(&status("0000000000001000")));
        assert!(!names_hangup_as_ignored(""));
    }
}

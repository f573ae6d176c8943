//! What the process is told from outside.

use std::fs::{self, File};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// SIGHUP without a terminal: read the flows again.
    Reload,
    /// SIGHUP with a terminal, which was closed: end in order. It may come twice, from the shell and from the kernel, so the second
    /// one asks for nothing more.
    HungUp,
    /// SIGTERM or SIGINT: end in order, and at once the second time.
    End,
}

/// The signals that the gateway obeys.
pub(super) struct Signals {
    hangup: Signal,
    on_hangup: Told,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        // Before the first handler, which replaces what `nohup` has set; and at the start, because a process whose terminal was
        // closed has none any more.
        let on_hangup = if has_terminal() && !ignores_hangup() { Told::HungUp } else { Told::Reload };
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            on_hangup,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => self.on_hangup,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
        }
    }

    /// Waits until it is told to end.
    pub(super) async fn end(&mut self) {
        while matches!(self.next().await, Told::Reload) {}
    }
}

/// Whether a terminal controls the process: only then the kernel finds one under this name.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does it.
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
    fn an_ignored_hangup_is_read_from_the_mask() {
        let status =
            |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t0000000000000001\n");
        assert!(names_hangup_as_ignored(&status("0000000000001001")));
        assert!(!names_hangup_as_ignored(&status("0000000000001000")));
        assert!(!names_hangup_as_ignored(""));
    }
}

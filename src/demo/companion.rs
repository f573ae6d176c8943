//! A background thread with a stop signal.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Time limit for the end of the thread. A thread that writes to a blocked terminal might never end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Handle of the thread. Both channels signal by disconnecting and carry no values. A panicked thread therefore counts
/// as ended.
pub(super) struct Companion {
    stop: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

/// Signals the thread to stop.
pub(super) struct StopSignal(Receiver<Infallible>);

impl Companion {
    /// Starts a thread. The body must return soon after its signal fires.
    pub(super) fn start(name: &str, body: impl FnOnce(&StopSignal) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let (ending, ended) = channel::<Infallible>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ending = ending;
            body(&StopSignal(stopped));
        })?;
        Ok(Self { stop, ended })
    }

    /// Stops the thread and waits for its end, for at most [`END_TIMEOUT`].
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.ended.recv_timeout(END_TIMEOUT);
    }
}

impl StopSignal {
    /// Waits until the signal fires or `timeout` has passed. Returns true if the signal has fired.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        matches!(self.0.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn end_waits_for_the_thread() {
        let (done, is_done) = channel();
        let companion = Companion::start("t", move |stop| {
            while !stop.wait(END_TIMEOUT) {}
            done.send(()).unwrap();
        });
        companion.unwrap().end();
        assert!(is_done.try_recv().is_ok());
    }
}

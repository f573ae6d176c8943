//! A thread beside the gateway that runs until it is told to end.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long an ending thread is waited for: one that writes to a terminal that is held up might
/// never end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The thread, as its owner holds it. Nothing is ever sent: that an end of a channel is gone is the
/// message, so a thread that panicked has ended too.
pub(super) struct Companion {
    stop: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

/// Tells the thread whether to go on.
pub(super) struct StopSignal(Receiver<Infallible>);

impl Companion {
    /// Starts a thread that ends soon after its signal says so.
    pub(super) fn start(name: &str, body: impl FnOnce(&StopSignal) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let (ending, ended) = channel::<Infallible>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ending = ending;
            body(&StopSignal(stopped));
        })?;
        Ok(Self { stop, ended })
    }

    /// Tells the thread to end, and waits until it has, or the patience is spent.
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

impl StopSignal {
    /// Waits for so long, or less if the thread is to end, and says whether it is.
    pub(super) fn wait(&self, longest: Duration) -> bool {
        matches!(self.0.recv_timeout(longest), Err(RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_told_to_end_is_waited_for() {
        let (done, is_done) = channel();
        let companion = Companion::start("t", move |stop| {
            while !stop.wait(PATIENCE) {}
            done.send(()).unwrap();
        });
        companion.unwrap().end();
        assert!(is_done.try_recv().is_ok());
    }
}

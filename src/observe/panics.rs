//! Panic hook that logs panics, because output outside the log is easily missed.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

/// Installs a hook that logs panics of all threads as ERROR, with a backtrace if `RUST_BACKTRACE` is set.
///
/// The hook calls `written` to wait for the writer, because the panic may end the process.
pub(super) fn install_hook(written: impl Fn() + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let message = message(info);
        // The location is a field, so that the repeat limiter separates panics of different locations.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let place = place.as_str();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            log::error!(target: "panic", place, backtrace:% = backtrace; "{message}");
        } else {
            log::error!(target: "panic", place; "{message}");
        }
        written();
    }));
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let cause = info.payload_as_str().unwrap_or("no message");
    match info.location() {
        Some(location) => format!("Panic in thread {thread} at {location}: {cause}"),
        None => format!("Panic in thread {thread}: {cause}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn panic_names_thread_place_and_message() {
        const THREAD: &str = "a worker that panics";
        let (tell, told) = mpsc::channel();
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() == Some(THREAD) {
                tell.send(message(info)).unwrap();
            } else {
                others(info);
            }
        }));
        let worker = thread::Builder::new().name(THREAD.to_owned());
        worker.spawn(|| panic!("no {}", "luck")).unwrap().join().unwrap_err();
        let _ = panic::take_hook();

        let message = told.recv().unwrap();
        assert!(
            message.starts_with("Panic in thread a worker that panics at src/observe/panics.rs:"),
            "{message}"
        );
        assert!(message.ends_with(": no luck"), "{message}");
    }
}

//! Panics as records of the log, because nobody reads what is printed beside it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

/// From now on a panic of any thread is logged as ERROR, with its backtrace if `RUST_BACKTRACE`
/// asks for one, and `written` waits until it is: this panic may be the last that the process does.
pub(super) fn install_hook(written: impl Fn() + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let message = message(info);
        // Panics at two places are not repetitions of each other.
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
    fn a_panic_is_told_with_thread_place_and_message() {
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

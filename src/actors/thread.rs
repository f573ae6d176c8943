//! Creates the thread of an actor.

use std::io;

use actix::Arbiter;
use tokio::runtime::Builder;

/// Starts a thread for one actor whose tasks may hold database connections when the thread ends.
///
/// These tasks are dropped after the event loop has ended. The SQL driver then spawns a task to return the connection
/// and panics without a runtime. The thread therefore stays inside its runtime context until it exits. The spawned
/// task never runs; dropping it closes the connection.
///
/// # Errors
/// The operating system has no thread or file descriptor left.
pub(super) fn arbiter() -> io::Result<Arbiter> {
    Arbiter::try_with_tokio_rt(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // Dropping the guard would leave the runtime context.
        std::mem::forget(runtime.enter());
        Ok(runtime)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use actix::System;
    use tokio::runtime::Handle;

    use super::*;

    struct RuntimeProbe(mpsc::Sender<bool>);

    impl Drop for RuntimeProbe {
        fn drop(&mut self) {
            self.0.send(Handle::try_current().is_ok()).unwrap();
        }
    }

    #[test]
    fn tasks_dropped_at_thread_end_have_a_runtime() {
        let _system = System::new();
        let (found, told) = mpsc::channel();
        let held = RuntimeProbe(found);
        let arbiter = arbiter().unwrap();
        arbiter.spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        arbiter.stop();
        arbiter.join().unwrap();
        assert!(told.recv().unwrap());
    }
}

//! The thread of an actor.

use std::io;

use actix::Arbiter;
use tokio::runtime::Builder;

/// A thread for one actor, whose tasks may hold connections to the database when it ends.
///
/// They are dropped with the tasks, after the loop has ended. The SQL driver then gives a connection back by a task of its own,
/// and panics where it finds no runtime for that; so the thread keeps to its runtime until its last breath. The
/// driver's task does not run any more: it is dropped as well, and that closes the connection.
///
/// # Errors
/// The operating system has no thread or no descriptor left.
pub(super) fn arbiter() -> io::Result<Arbiter> {
    Arbiter::try_with_tokio_rt(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // Dropped, the guard would leave the runtime again.
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

    struct Looks(mpsc::Sender<bool>);

    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.send(Handle::try_current().is_ok()).unwrap();
        }
    }

    #[test]
    fn what_a_task_still_holds_when_its_thread_ends_finds_a_runtime() {
        let _system = System::new();
        let (found, told) = mpsc::channel();
        let held = Looks(found);
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

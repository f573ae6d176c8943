//! Wakes the router when the inbox has grown: once, however many messages came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::Slot;
use super::messages::InboxGrew;
use super::router::RouterActor;

/// Shared by the broker's callback, which raises it, and the router, which takes it down before
/// it reads.
#[derive(Debug, Clone)]
pub struct InboxSignal {
    raised: Arc<AtomicBool>,
    router: Slot<RouterActor>,
}

impl InboxSignal {
    /// A signal for this router.
    #[must_use]
    pub fn new(router: Slot<RouterActor>) -> Self {
        Self { raised: Arc::default(), router }
    }

    /// Something was appended.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.router.tell(InboxGrew);
        }
    }

    /// The router is about to read: what is appended from now on raises the signal again.
    pub fn take_down(&self) {
        // A swap, not a store: it reads what the last `raise` wrote, so that what was appended before
        // that is seen; a store could take a signal down unseen, and nobody would come for the message.
        self.raised.swap(false, Ordering::AcqRel);
    }
}

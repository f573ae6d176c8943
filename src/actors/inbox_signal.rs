//! Wakes the router when the inbox has grown. Several appends between two reads cause one wake-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::directory::Slot;
use super::messages::InboxGrew;
use super::router::RouterActor;

/// A flag shared by the broker's callback, which raises it, and the router, which lowers it before reading.
#[derive(Debug, Clone)]
pub struct InboxSignal {
    raised: Arc<AtomicBool>,
    router: Slot<RouterActor>,
}

impl InboxSignal {
    /// Creates a lowered signal for this router.
    #[must_use]
    pub fn new(router: Slot<RouterActor>) -> Self {
        Self { raised: Arc::default(), router }
    }

    /// Signals that a message was appended; wakes the router if the signal was down.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.router.tell(InboxGrew);
        }
    }

    /// Lowers the signal before a read. Every later append raises it again.
    pub fn take_down(&self) {
        // A swap, not a store: the swap acquires the last `raise` and so sees every append before it.
        // A store could lower the signal without that, and the appended message would not be read.
        self.raised.swap(false, Ordering::AcqRel);
    }
}

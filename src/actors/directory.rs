//! Current addresses of all actors.
//!
//! Actors resolve addresses here at every send. After a restart the slot holds the new address, so senders need no
//! notification.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};

use super::delivery::DeliveryActor;
use super::mailbox::{Envelope, Mailbox};
use super::mqtt::MqttActor;
use super::registry::FlowRegistryActor;
use super::router::RouterActor;
use super::worker::FlowWorkerActor;

/// The slots of all actors. The supervisor has only a mailbox, because no message reaches it through a slot.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Counters of the supervisor's work.
    pub supervisor: Arc<Mailbox>,
    /// The actor that holds the broker connection.
    pub mqtt: Slot<MqttActor>,
    /// The actor that loads the flows.
    pub registry: Slot<FlowRegistryActor>,
    /// The actor that reads the inbox.
    pub router: Slot<RouterActor>,
    /// One worker for each lane.
    pub workers: Vec<Slot<FlowWorkerActor>>,
    /// The actor that posts messages.
    pub delivery: Slot<DeliveryActor>,
}

/// An actor's mailbox and, while the actor runs, its address.
pub struct Slot<A: Actor> {
    mailbox: Arc<Mailbox>,
    address: Arc<Mutex<Option<Addr<A>>>>,
}

impl<A: Actor> fmt::Debug for Slot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.mailbox.name()).finish()
    }
}

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), address: Arc::clone(&self.address) }
    }
}

impl<A: Actor> Slot<A> {
    /// Creates an empty slot with a mailbox of `capacity` permits.
    #[must_use]
    pub fn new(name: impl Into<String>, capacity: usize) -> Self {
        Self { mailbox: Mailbox::new(name, capacity), address: Arc::default() }
    }

    /// The mailbox, which outlives the actor.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Sets the actor's address; `None` while it is down.
    pub fn set(&self, address: Option<Addr<A>>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// The actor's current address; `None` while it is down.
    #[must_use]
    pub fn address(&self) -> Option<Addr<A>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a control message without waiting. A message to an actor that is down is dropped: actors request their
    /// state when they start.
    pub fn tell<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
    {
        if let Some(address) = self.address() {
            address.do_send(self.mailbox.enclose(message));
        }
    }

    /// Sends a control message and waits for the reply.
    ///
    /// # Errors
    /// `Closed` when the actor is down or ends before it replies.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, MailboxError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<Envelope<M>>,
        A::Context: ToEnvelope<A, Envelope<M>>,
    {
        let address = self.address().ok_or(MailboxError::Closed)?;
        address.send(self.mailbox.enclose(message)).await
    }
}

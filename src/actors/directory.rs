//! Where every actor is reached now.
//!
//! Actors find each other here at every send instead of keeping addresses: after a restart the
//! new address is in its slot, and nobody has to be told.

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

/// The slots of all actors but the supervisor, to which nobody sends by its mailbox.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Counts what the supervisor does.
    pub supervisor: Arc<Mailbox>,
    /// The actor that holds the broker connection.
    pub mqtt: Slot<MqttActor>,
    /// The actor that knows the flows.
    pub registry: Slot<FlowRegistryActor>,
    /// The actor that reads the inbox.
    pub router: Slot<RouterActor>,
    /// One worker for each lane.
    pub workers: Vec<Slot<FlowWorkerActor>>,
    /// The actor that posts.
    pub delivery: Slot<DeliveryActor>,
}

/// One actor's mailbox and, while it lives, its address.
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
    /// An empty slot with a mailbox of `capacity` permits.
    #[must_use]
    pub fn new(name: impl Into<String>, capacity: usize) -> Self {
        Self { mailbox: Mailbox::new(name, capacity), address: Arc::default() }
    }

    /// The mailbox, which outlives the actor.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// From now on the actor is reached at `address`; `None` while it is down.
    pub fn set(&self, address: Option<Addr<A>>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Where the actor is reached now.
    #[must_use]
    pub fn address(&self) -> Option<Addr<A>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a message of the actors' own protocol. An actor that is down does not get it: each
    /// asks for what it needs when it starts.
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

    /// Sends a message of the actors' own protocol and waits for the reply.
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

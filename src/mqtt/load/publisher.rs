//! Publishes as fast as the broker acknowledges.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use paho_mqtt::{AsyncClient, DeliveryToken, Message};

use super::connection::{LoadTarget, connect, reject_nul};
use super::{ANSWER_TIMEOUT, LoadError, UserPassword};

/// Maximum number of unacknowledged messages. Paho scans all of them twice per published message. A larger window costs
/// more than the fewer pauses save.
const WINDOW: usize = 500;

/// Number of acknowledgements to wait for when the window is full. Waking up for each one would cost more than all
/// other work.
const STEP: usize = WINDOW / 2;

/// Publisher with its own connection. Undelivered messages are reported by [`publish`](Self::publish) or, at the
/// latest, by [`finish`](Self::finish).
pub struct Publisher {
    client: AsyncClient,
    qos: i32,
    /// Delivery tokens, oldest first.
    unacknowledged: VecDeque<DeliveryToken>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("unacknowledged", &self.unacknowledged.len())
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Connects with a clean session.
    pub fn connect(
        host: &str,
        port: u16,
        client_id: &str,
        qos: u8,
        credentials: Option<UserPassword<'_>>,
    ) -> Result<Publisher, LoadError> {
        if qos > 2 {
            return Err(LoadError::Qos(qos));
        }
        let client = connect(&LoadTarget { host, port, client_id, credentials }, |_| ())?;
        let unacknowledged = VecDeque::with_capacity(WINDOW);
        Ok(Publisher { client, qos: i32::from(qos), unacknowledged })
    }

    /// Publishes without waiting for the acknowledgement, unless 500 are outstanding. At `QoS` 0 a message counts as
    /// acknowledged once it is written to the connection.
    pub fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), LoadError> {
        reject_nul(topic, "a topic")?;
        if self.unacknowledged.len() >= WINDOW {
            self.await_oldest(STEP)?;
        }
        let message = Message::new(topic, payload, self.qos);
        let token =
            self.client.try_publish(message).map_err(|error| LoadError::Publish(error.to_string()))?;
        self.unacknowledged.push_back(token);
        Ok(())
    }

    /// Waits until every message is acknowledged, and disconnects.
    pub fn finish(mut self) -> Result<(), LoadError> {
        self.await_oldest(self.unacknowledged.len())?;
        let disconnected = self.client.disconnect(None).wait_for(ANSWER_TIMEOUT);
        disconnected.map(|_| ()).map_err(|error| LoadError::Client(error.to_string()))
    }

    /// Waits for the newest message first. Acknowledgements arrive in order, so the others are then complete.
    fn await_oldest(&mut self, count: usize) -> Result<(), LoadError> {
        self.unacknowledged.drain(..count).rev().try_for_each(acknowledged)
    }
}

fn acknowledged(mut token: DeliveryToken) -> Result<(), LoadError> {
    let outcome = match Pin::new(&mut token).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => token.wait_for(ANSWER_TIMEOUT),
    };
    outcome.map_err(|error| LoadError::Publish(error.to_string()))
}

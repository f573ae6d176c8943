//! The subscriber of a measurement, which runs in a separate process. All MQTT clients of a process share one lock and
//! one thread, so a publisher would slow down the subscriber.
//!
//! ```text
//!  parent ── Order ──▶ child ──▶ broker
//!         ◀─ "ready" ──
//!         ◀─ Answer ───
//! ```
//! Each message is a line of JSON. The order comes over standard input, because it may contain a password.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mqtt::load::{Discarded, discard};

/// Order of the parent: the subscription and its end conditions.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) client_id: String,
    pub(super) qos: u8,
    pub(super) filter: String,
    pub(super) credentials: Option<(String, String)>,
    /// Number of messages after which the subscriber ends.
    pub(super) count: u64,
    /// Time without a message after which the subscriber ends, in milliseconds.
    pub(super) idle_ms: u64,
}

/// Answer of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// The broker has granted the subscription.
    Ready,
    /// The subscriber has ended.
    Done {
        /// Number of received messages.
        messages: u64,
        /// Time between the last message and this answer, in microseconds.
        quiet_us: u64,
    },
    /// The subscriber failed, with its reason.
    Failed(String),
}

/// Executes the order and writes the answers. Returns the exit code.
pub fn run(order: impl BufRead, answers: &mut impl Write) -> i32 {
    let answer = match execute(order, answers) {
        Ok(discarded) => Answer::Done {
            messages: discarded.messages,
            quiet_us: discarded.last_at.map_or(0, |at| u64::try_from(at.elapsed().as_micros()).unwrap_or(0)),
        },
        Err(error) => Answer::Failed(error),
    };
    let failed = matches!(answer, Answer::Failed(_));
    // The parent may have ended already.
    let sent = send(answers, &answer);
    i32::from(failed || sent.is_err())
}

fn execute(mut order: impl BufRead, answers: &mut impl Write) -> Result<Discarded, String> {
    let mut line = String::new();
    order.read_line(&mut line).map_err(|error| error.to_string())?;
    // The error text is discarded, because it could quote the password.
    let order: Order = serde_json::from_str(&line).map_err(|_| "cannot parse the order".to_owned())?;
    let credentials = order.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    let mut sent = Ok(());
    let discarded = discard(
        &order.host,
        order.port,
        &order.client_id,
        order.qos,
        &order.filter,
        credentials,
        order.count,
        Duration::from_millis(order.idle_ms),
        &mut || sent = send(answers, &Answer::Ready),
    );
    sent.map_err(|error| error.to_string())?;
    discarded.map_err(|error| error.to_string())
}

fn send(answers: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *answers, answer)?;
    answers.write_all(b"\n")?;
    answers.flush()
}

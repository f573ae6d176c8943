//! The subscriber of a measurement, in a process of its own: all MQTT clients of a process share one lock and one
//! thread, so one that publishes would hold up one that receives.
//!
//! ```text
//!  parent ── Order ──▶ child ──▶ broker
//!         ◀─ "ready" ──
//!         ◀─ Answer ───
//! ```
//! Each is a line of JSON; the order comes over standard input since it may hold a password.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mqtt::load::{Discarded, discard};

/// What is to be subscribed, and until when.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) client_id: String,
    pub(super) qos: u8,
    pub(super) filter: String,
    pub(super) credentials: Option<(String, String)>,
    /// It ends when so many messages have come.
    pub(super) count: u64,
    /// It ends when none has come for so long.
    pub(super) idle_ms: u64,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// The broker has granted the subscription.
    Ready,
    /// It is over.
    Done {
        /// Messages that came.
        messages: u64,
        /// Microseconds between the last of them and this answer.
        quiet_us: u64,
    },
    /// It came to nothing.
    Failed(String),
}

/// Does what `order` says and says so to `answers`. The exit code.
pub fn run(order: impl BufRead, answers: &mut impl Write) -> i32 {
    let answer = match obey(order, answers) {
        Ok(discarded) => Answer::Done {
            messages: discarded.messages,
            quiet_us: discarded.last_at.map_or(0, |at| u64::try_from(at.elapsed().as_micros()).unwrap_or(0)),
        },
        Err(error) => Answer::Failed(error),
    };
    let failed = matches!(answer, Answer::Failed(_));
    // Whoever asked may be gone.
    let told = say(answers, &answer);
    i32::from(failed || told.is_err())
}

fn obey(mut order: impl BufRead, answers: &mut impl Write) -> Result<Discarded, String> {
    let mut line = String::new();
    order.read_line(&mut line).map_err(|error| error.to_string())?;
    // The text of the error is not told: it could quote the password.
    let order: Order = serde_json::from_str(&line).map_err(|_| "the order is not understood".to_owned())?;
    let credentials = order.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    let mut told = Ok(());
    let discarded = discard(
        &order.host,
        order.port,
        &order.client_id,
        order.qos,
        &order.filter,
        credentials,
        order.count,
        Duration::from_millis(order.idle_ms),
        &mut || told = say(answers, &Answer::Ready),
    );
    told.map_err(|error| error.to_string())?;
    discarded.map_err(|error| error.to_string())
}

fn say(answers: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *answers, answer)?;
    answers.write_all(b"\n")?;
    answers.flush()
}

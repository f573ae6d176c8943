//! Limit B: messages per second that the broker forwards from a publisher to a subscriber, which discards them.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::per_second;
use crate::bench::subscriber::{Answer, Order};
use crate::mqtt::load::{LoadError, Publisher, UserPassword};

/// Time without a message after which the subscriber ends, because messages may be lost at `QoS` 0.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Workload of the measurement, and the broker.
pub struct BrokerLoad<'a> {
    /// Name or address of the broker.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<UserPassword<'a>>,
    /// Prefix of both client ids.
    pub client_id: &'a str,
    /// Quality of service of both clients.
    pub qos: u8,
    /// Topic filter of the subscriber, which must match all topics.
    pub filter: &'a str,
    /// Topics, used in turn. Must not be empty.
    pub topics: &'a [String],
    /// Number of published messages.
    pub messages: u64,
    /// Returns the payload of the message with this number, from 0.
    pub payload: &'a dyn Fn(u64) -> Vec<u8>,
}

/// Result of the measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrokerLimit {
    /// Limit B: received messages divided by the time from the first publish to the last arrival.
    pub messages_per_second: f64,
    /// Number of received messages, including repetitions.
    pub messages: u64,
}

/// Errors of the measurement of the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerLimitError {
    /// The publisher failed.
    #[error(transparent)]
    Publisher(#[from] LoadError),
    /// The subscriber process cannot be started, or its pipes failed.
    #[error("cannot run the subscriber: {0}")]
    Process(#[from] io::Error),
    /// The subscriber failed.
    #[error("the subscriber: {0}")]
    Subscriber(String),
    /// The subscriber received no message.
    #[error("the broker forwarded no message")]
    Nothing,
}

/// Measures limit B. `program` is this program, which a second process runs as the subscriber.
pub fn broker_limit(program: &Path, load: &BrokerLoad<'_>) -> Result<BrokerLimit, BrokerLimitError> {
    let subscriber = Subscriber::start(program, load)?;
    match subscriber.answer()? {
        (_, Answer::Ready) => {}
        (_, answer) => return Err(unexpected(answer)),
    }
    let client_id = format!("{}-publisher", load.client_id);
    let mut publisher = Publisher::connect(load.host, load.port, &client_id, load.qos, load.credentials)?;
    let begun = Instant::now();
    for (number, topic) in (0..load.messages).zip(load.topics.iter().cycle()) {
        publisher.publish(topic, (load.payload)(number))?;
    }
    publisher.finish()?;
    let (messages, elapsed) = match subscriber.answer()? {
        (_, Answer::Done { messages: 0, .. }) => return Err(BrokerLimitError::Nothing),
        (at, Answer::Done { messages, quiet_us }) => {
            (messages, (at - begun).saturating_sub(Duration::from_micros(quiet_us)))
        }
        (_, answer) => return Err(unexpected(answer)),
    };
    Ok(BrokerLimit { messages_per_second: per_second(messages, elapsed), messages })
}

fn unexpected(answer: Answer) -> BrokerLimitError {
    BrokerLimitError::Subscriber(match answer {
        Answer::Failed(why) => why,
        answer => format!("unexpected answer {answer:?}"),
    })
}

/// The subscriber process, which is killed on drop.
struct Subscriber {
    child: Child,
    answers: Receiver<(Instant, Answer)>,
}

impl Subscriber {
    fn start(program: &Path, load: &BrokerLoad<'_>) -> Result<Self, BrokerLimitError> {
        let mut child = Command::new(program)
            .arg("bench-subscriber")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        };
        let subscriber = Self { child, answers: answers_of(stdout)? };
        let mut order = serde_json::to_vec(&order(load)).map_err(io::Error::from)?;
        order.push(b'\n');
        stdin.write_all(&order)?;
        Ok(subscriber)
    }

    /// Waits for the next answer and returns it with its time.
    fn answer(&self) -> Result<(Instant, Answer), BrokerLimitError> {
        self.answers.recv().map_err(|_| BrokerLimitError::Subscriber("ended unexpectedly".to_owned()))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // The error is ignored, because the process may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn order(load: &BrokerLoad<'_>) -> Order {
    Order {
        host: load.host.to_owned(),
        port: load.port,
        client_id: format!("{}-subscriber", load.client_id),
        qos: load.qos,
        filter: load.filter.to_owned(),
        credentials: load.credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
        count: load.messages,
        idle_ms: u64::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Reads answers on a separate thread, so that each gets its exact time of arrival.
fn answers_of(stdout: ChildStdout) -> io::Result<Receiver<(Instant, Answer)>> {
    let (sender, answers) = channel();
    thread::Builder::new().name("bench-subscriber".to_owned()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let at = Instant::now();
            let answer = serde_json::from_str(&line)
                .unwrap_or_else(|_| Answer::Failed(format!("cannot parse {line:?}")));
            if sender.send((at, answer)).is_err() {
                return;
            }
        }
    })?;
    Ok(answers)
}

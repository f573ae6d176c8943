//! Measures the limits of the machine without a gateway, before and after the gateway's own measurement.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::environment::Environment;
use super::error::BenchError;
use super::limits::broker::{BrokerLoad, broker_limit};
use super::limits::database::{CommitTimes, commit_times, database_limit, outbox_limit};
use super::limits::post::{PostLoad, post_limit};
use super::options::BenchOptions;
use super::progress_bar::ProgressBar;
use super::sink::Sink;
use super::workload::Workload;
use crate::store::Database;
use crate::store::bench::outbox::SamplePost;
use crate::store::bench::progress::flow_code;
use crate::store::bench::rows::{SampleMessage, empty};

/// Number of distinct messages that are inserted repeatedly.
const SAMPLES: u64 = 1_024;

/// Maximum number of messages per limit, which is enough for a stable result.
const MAX_MESSAGES: u64 = 60_000;

/// Minimum time per statement size at the database. It is reduced in proportion for small workloads.
const MIN_DURATION: Duration = Duration::from_secs(2);

/// The measured limits; `None` where a limit was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bounds {
    /// Messages per second whose rows the database inserts.
    pub(super) database: Option<f64>,
    /// Messages per second whose outbox rows the database inserts and deletes.
    pub(super) outbox: Option<f64>,
    /// Messages per second that the broker forwards.
    pub(super) broker: Option<f64>,
    /// Messages per second that the HTTP client posts.
    pub(super) post: Option<f64>,
    /// Median time of a commit of one row, in seconds.
    pub(super) commit: Option<f64>,
    /// 99th percentile of the time of a commit of one row, in seconds.
    pub(super) commit_p99: Option<f64>,
}

impl Bounds {
    /// Returns the mean of the limits before and after.
    pub(super) fn mean(self, after: Self) -> Self {
        let mean = |before: Option<f64>, after: Option<f64>| match before.zip(after) {
            Some((before, after)) => Some(f64::midpoint(before, after)),
            None => before.or(after),
        };
        Self {
            database: mean(self.database, after.database),
            outbox: mean(self.outbox, after.outbox),
            broker: mean(self.broker, after.broker),
            post: mean(self.post, after.post),
            commit: mean(self.commit, after.commit),
            commit_p99: mean(self.commit_p99, after.commit_p99),
        }
    }

    /// Returns the combined limit in messages per second. All parts share one machine, so their times per message add
    /// up.
    pub(super) fn together(&self) -> Option<f64> {
        let each: Vec<f64> =
            [self.database, self.outbox, self.broker, self.post].into_iter().flatten().collect();
        let seconds: f64 = each.iter().map(|rate| 1.0 / rate).sum();
        (seconds > 0.0 && seconds.is_finite()).then(|| 1.0 / seconds)
    }
}

/// Measures the limits that are relevant for these options. Returns no limits if they are disabled.
pub(super) async fn measure(
    options: &BenchOptions,
    environment: &Environment,
    workload: &Workload,
    database: &Database,
) -> Result<Bounds, BenchError> {
    let mut bounds = Bounds::default();
    if !options.limits {
        return Ok(bounds);
    }
    let _bar = ProgressBar::waiting("measuring the limits");
    empty(database).await?;
    if options.rate.is_some() {
        let times = commits(environment, workload).await?;
        bounds.commit = Some(times.median.as_secs_f64());
        bounds.commit_p99 = Some(times.p99.as_secs_f64());
    } else if options.stores() {
        bounds.database = Some(inserts(environment, workload).await?);
        if !options.backlog {
            bounds.broker = Some(passes(environment, workload).await?);
        }
    } else {
        bounds.outbox = Some(outbox_rows(environment, workload).await?);
        bounds.broker = Some(passes(environment, workload).await?);
        bounds.post = Some(posts(workload).await?);
    }
    Ok(bounds)
}

async fn commits(environment: &Environment, workload: &Workload) -> Result<CommitTimes, BenchError> {
    let (settings, sample) = (environment.database.clone(), sample(workload, 0));
    Ok(run_blocking(move || commit_times(&settings, &sample)).await??)
}

async fn inserts(environment: &Environment, workload: &Workload) -> Result<f64, BenchError> {
    let samples: Vec<SampleMessage> = (0..SAMPLES).map(|message| sample(workload, message)).collect();
    let (settings, messages) = (environment.database.clone(), workload.messages.min(MAX_MESSAGES));
    let min_duration = MIN_DURATION.mul_f64(share_of_max(messages));
    let limit = run_blocking(move || database_limit(&settings, &samples, messages, min_duration)).await??;
    Ok(limit.messages_per_second)
}

async fn outbox_rows(environment: &Environment, workload: &Workload) -> Result<f64, BenchError> {
    let post = |message| {
        let flow = workload.flow_of(message);
        SamplePost {
            flow_id: flow.cast_signed(),
            flow_code: flow_code(flow),
            topic: workload.topic_of(flow),
            url: format!("http://127.0.0.1:65535/{}", flow_code(flow)),
            payload: workload.payload_of(message),
        }
    };
    let samples: Vec<SamplePost> = (0..SAMPLES).map(post).collect();
    let (settings, messages) = (environment.database.clone(), workload.messages.min(MAX_MESSAGES));
    let min_duration = MIN_DURATION.mul_f64(share_of_max(messages));
    Ok(run_blocking(move || outbox_limit(&settings, &samples, messages, min_duration)).await??)
}

async fn passes(environment: &Environment, workload: &Workload) -> Result<f64, BenchError> {
    let (broker, name, qos) = (environment.broker.clone(), environment.limit_name(), environment.qos());
    let program = std::env::current_exe().map_err(BenchError::Start)?;
    let workload = Workload { prefix: name.clone(), ..workload.clone() };
    let limit = run_blocking(move || {
        let topics: Vec<String> = (0..workload.flows).map(|flow| workload.topic_of(flow)).collect();
        let load = BrokerLoad {
            host: &broker.host,
            port: broker.port,
            credentials: broker.login(),
            client_id: &name,
            qos,
            filter: &format!("{}/#", workload.prefix),
            topics: &topics,
            messages: workload.messages.min(MAX_MESSAGES),
            payload: &|message| workload.payload_of(message),
        };
        broker_limit(&program, &load)
    });
    Ok(limit.await??.messages_per_second)
}

async fn posts(workload: &Workload) -> Result<f64, BenchError> {
    let workload = workload.clone();
    let (arrivals, arrived) = channel();
    let sink = Sink::start(arrivals).map_err(BenchError::Thread)?;
    // Arrivals are discarded, so that the channel does not grow.
    let draining = thread::spawn(move || arrived.into_iter().for_each(drop));
    let url = |flow| (flow_code(flow).into(), sink.url(&flow_code(flow)).into());
    let flows: Vec<(Arc<str>, Arc<str>)> = (0..workload.flows).map(url).collect();
    let limit = run_blocking(move || {
        let messages = workload.messages.min(MAX_MESSAGES);
        let payload = Arc::new(move |message| workload.payload_of(message));
        post_limit(&PostLoad { flows, messages, payload })
    });
    let limit = limit.await;
    sink.end();
    let _ = draining.join();
    Ok(limit??.messages_per_second)
}

/// Runs `measure` on a blocking thread, because each limit creates its own runtime.
async fn run_blocking<T: Send + 'static>(
    measure: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BenchError> {
    let measured = tokio::task::spawn_blocking(measure).await;
    measured.map_err(|error| BenchError::Thread(error.into()))
}

fn sample(workload: &Workload, message: u64) -> SampleMessage {
    SampleMessage {
        flow_code: flow_code(workload.flow_of(message)),
        attributes: workload.attributes_of(message),
    }
}

#[allow(clippy::cast_precision_loss, reason = "both are small")]
fn share_of_max(messages: u64) -> f64 {
    messages as f64 / MAX_MESSAGES as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shared_limits_add_their_times() {
        let bounds = Bounds { database: Some(60_000.0), broker: Some(30_000.0), ..Bounds::default() };
        assert!((bounds.together().unwrap() - 20_000.0).abs() < 1e-6);
        assert_eq!(Bounds::default().together(), None);
    }

    #[test]
    fn mean_covers_limits_measured_twice() {
        let before = Bounds { database: Some(10.0), broker: Some(4.0), ..Bounds::default() };
        let after = Bounds { database: Some(20.0), ..Bounds::default() };
        let mean = before.mean(after);
        assert_eq!((mean.database, mean.broker, mean.commit), (Some(15.0), Some(4.0), None));
    }
}

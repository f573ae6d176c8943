//! Requests at the gateway's port of health and metrics, in every other second of a measurement: what they cost the
//! messages is the ratio of two rates taken in turn.
//!
//! ```text
//! requests   ┤without├┤ with  ├┤without├┤ with  ├ …
//! messages   ────┴────────┴────────┴────────┴──── the observer's looks, on the same clock
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::error::BenchError;
use super::schedule::PublishTimes;

/// Long against the observer's looks, short against what the machine does otherwise.
const WINDOW: Duration = Duration::from_secs(1);

/// Windows at the beginning that do not count: caches are cold, and queues fill.
const WARM_UP: usize = 2;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asked in turn, as a kubelet and a Prometheus would.
const PATHS: [&str; 3] = ["/metrics", "/health/live", "/health/ready"];

/// Somebody who asks.
pub(super) struct Probes {
    is_over: Arc<AtomicBool>,
    asking: JoinHandle<Asked>,
}

/// What was asked, and when.
#[derive(Debug, Default)]
pub(super) struct Asked {
    windows: Vec<Window>,
    /// How long answers took, in microseconds.
    took_us: Vec<u64>,
    failed: u64,
}

/// A stretch of time with requests, or without.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Duration,
    to: Duration,
    is_probed: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProbesReport {
    /// The rate of messages with requests, as a share of the rate without; none if there was too little time for both.
    pub(super) share: Option<f64>,
    pub(super) answers: u64,
    pub(super) failed: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Probes {
    /// Begins to ask at `address`, so often a second, each time by a new connection as a probe does.
    pub(super) fn start(
        address: String,
        per_second: f64,
        times: Arc<PublishTimes>,
    ) -> Result<Self, BenchError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let pause = Duration::from_secs_f64(1.0 / per_second);
        let asking = thread::Builder::new().name("probes".to_owned());
        let asking = asking.spawn(move || {
            actix_rt::System::new().block_on(Client::of(address).ask_in_turns(pause, &times, &told))
        });
        Ok(Self { is_over, asking: asking.map_err(BenchError::Thread)? })
    }

    /// Ends it.
    pub(super) fn end(self) -> Asked {
        self.is_over.store(true, Relaxed);
        // It panics nowhere.
        self.asking.join().unwrap_or_default()
    }
}

struct Client {
    http: awc::Client,
    address: String,
    asked: Asked,
    next: usize,
}

impl Client {
    fn of(address: String) -> Self {
        let http = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
        Self { http, address, asked: Asked::default(), next: 0 }
    }

    async fn ask_in_turns(mut self, pause: Duration, times: &PublishTimes, is_over: &AtomicBool) -> Asked {
        let mut is_probed = false;
        while !is_over.load(Relaxed) {
            let from = times.now();
            if is_probed {
                self.ask_for_a_window(pause).await;
            } else {
                sleep(WINDOW).await;
            }
            self.asked.windows.push(Window { from, to: times.now(), is_probed });
            is_probed = !is_probed;
        }
        self.asked
    }

    async fn ask_for_a_window(&mut self, pause: Duration) {
        let mut due = interval(pause);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = sleep(WINDOW);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                _ = due.tick() => {}
            }
            self.ask().await;
        }
    }

    async fn ask(&mut self) {
        let path = PATHS[self.next % PATHS.len()];
        self.next += 1;
        let began = std::time::Instant::now();
        let request = self.http.get(format!("http://{}{path}", self.address)).force_close();
        let answered = match request.send().await {
            Ok(mut response) => response.status().is_success() && response.body().await.is_ok(),
            Err(_) => false,
        };
        if answered {
            self.asked.took_us.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        } else {
            self.asked.failed += 1;
        }
    }
}

impl Asked {
    /// `progress`: how many messages were through at which time, as the observer saw it.
    pub(super) fn report(&self, progress: &[(u64, Duration)]) -> ProbesReport {
        let mut took = Histogram::<u64>::new(3).ok();
        if let Some(took) = &mut took {
            self.took_us.iter().for_each(|us| took.saturating_record(*us));
        }
        let at = |quantile| {
            Duration::from_micros(took.as_ref().map_or(0, |took| took.value_at_quantile(quantile)))
        };
        ProbesReport {
            share: share(&self.windows, progress),
            answers: self.took_us.len() as u64,
            failed: self.failed,
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

fn share(windows: &[Window], progress: &[(u64, Duration)]) -> Option<f64> {
    let rate = |is_probed: bool| {
        let counting = windows.iter().skip(WARM_UP).filter(|window| window.is_probed == is_probed);
        // Where the messages had come to an end before the window, it says nothing.
        let known = counting.filter_map(|window| {
            let through = through_at(progress, window.to)? - through_at(progress, window.from)?;
            Some((through, window.to.saturating_sub(window.from).as_secs_f64()))
        });
        let (through, seconds) = known.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (seconds > 0.0 && through > 0.0).then(|| through / seconds)
    };
    Some(rate(true)? / rate(false)?)
}

/// Messages that were through at a moment between two looks, as if they had come evenly; none before the first look and
/// after the last.
fn through_at(progress: &[(u64, Duration)], at: Duration) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "2^53 messages are never published")]
    let look = |index: usize| progress.get(index).map(|(through, at)| (*through as f64, at.as_secs_f64()));
    let later = progress.partition_point(|(_, looked)| *looked <= at);
    let ((through, began), (more, ended)) = (look(later.checked_sub(1)?)?, look(later)?);
    Some(through + (more - through) * (at.as_secs_f64() - began) / (ended - began))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn windows(count: u64) -> Vec<Window> {
        (0..count)
            .map(|second| Window { from: at(second), to: at(second + 1), is_probed: second % 2 == 1 })
            .collect()
    }

    #[test]
    fn the_share_is_of_the_rates_in_turn_and_the_beginning_does_not_count() {
        // Slow at first, then 100 a second without and 90 with requests.
        let progress = [0, 1, 2, 102, 192, 292, 382].into_iter().zip((0..).map(at)).collect::<Vec<_>>();
        assert_eq!(share(&windows(6), &progress), Some(0.9));
    }

    #[test]
    fn without_both_kinds_of_windows_there_is_no_share() {
        let progress: Vec<_> = (0..4).map(|second| (second * 10, at(second))).collect();
        assert_eq!(share(&windows(2), &progress), None, "nothing but the beginning");
        assert_eq!(share(&windows(4), &progress), None, "the last window is not over");
        assert_eq!(share(&[], &[]), None);
    }

    #[test]
    fn between_two_looks_messages_come_evenly() {
        let progress = [(10, at(1)), (30, at(3))];
        let through = [0, 1, 2, 3].map(|second| through_at(&progress, at(second)));
        assert_eq!(through, [None, Some(10.0), Some(20.0), None]);
    }
}

//! The gateway under test, which runs in a separate process.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::BenchError;
use super::gateway_log::LogState;
use super::usage::Usage;
use crate::child_gateway;

/// The command of the program that runs as `run` does, and ends with the measurement.
pub(crate) const COMMAND: &str = "bench-gateway";

/// Environment variables that the process inherits. None of them is a setting of the gateway.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD"];

/// Time limit for the start and the subscriptions of the gateway.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// Time limit for the end of the gateway, longer than the gateway's own shutdown limit.
const END_TIMEOUT: Duration = Duration::from_mins(1);

/// Interval between two checks whether the process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running gateway.
pub(super) struct GatewayProcess {
    child: Child,
    log: Arc<GatewayLog>,
}

/// Log of the gateway, as far as the reader thread has parsed it.
#[derive(Default)]
struct GatewayLog {
    state: Mutex<LogState>,
    changed: Condvar,
    /// Errors are expected and therefore not printed.
    is_muted: AtomicBool,
}

impl GatewayProcess {
    /// Starts this program as a gateway in `directory`, with these settings only.
    pub(super) fn start(directory: &Path, settings: &[(String, String)]) -> Result<Self, BenchError> {
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = child_gateway::command(COMMAND)
            .map_err(BenchError::Start)?
            .current_dir(directory)
            .env_clear()
            .envs(inherited)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(BenchError::Start)?;
        let (stderr, log) = (child.stderr.take(), Arc::new(GatewayLog::default()));
        let gateway = Self { child, log: Arc::clone(&log) };
        if let Some(stderr) = stderr {
            let reading = thread::Builder::new().name("gateway-log".to_owned());
            reading.spawn(move || log.read(stderr)).map_err(BenchError::Thread)?;
        }
        Ok(gateway)
    }

    /// Waits until the gateway has subscribed to this number of flows. Meanwhile the caller can be interrupted.
    pub(super) async fn wait_until_subscribed(&mut self, flows: u64) -> Result<(), BenchError> {
        let log = Arc::clone(&self.log);
        let waiting = tokio::task::spawn_blocking(move || {
            let state = log.wait(READY_TIMEOUT, |state| state.is_over || state.filters >= flows);
            (state.filters >= flows, state.is_over)
        });
        match waiting.await.map_err(|error| BenchError::Thread(error.into()))? {
            (true, _) => Ok(()),
            (false, true) => Err(self.ended()),
            (false, false) => {
                Err(BenchError::NotReady { waited: READY_TIMEOUT, last_lines: self.last_lines() })
            }
        }
    }

    /// Returns an error if the gateway has ended.
    pub(super) fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    /// Returns the last lines of the log.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.log.state().last_lines()
    }

    /// Returns the MQTT version of the connection to the broker.
    pub(super) fn mqtt_version(&self) -> String {
        self.log.state().version.clone()
    }

    /// Sets whether errors are expected. Expected errors are not printed.
    pub(super) fn expect_errors(&self, expected: bool) {
        self.log.is_muted.store(expected, Relaxed);
    }

    /// Returns the resource usage of the gateway so far.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        Usage::from_pid(self.child.id())
    }

    /// Returns the number of committed transactions. Each second the gateway logs those that have changed.
    pub(super) fn transactions(&self) -> Option<u64> {
        const REPORTED_WITHIN: Duration = Duration::from_millis(2_500);
        self.log.wait(REPORTED_WITHIN, |state| state.is_over).transactions()
    }

    /// Ends the gateway with SIGTERM and waits for its exit.
    pub(super) fn end(mut self) -> Result<(), BenchError> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // The loop below reports a process that has already ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Ok(Some(status)) if status.success() => return Ok(()),
                _ => return Err(self.ended()),
            }
        }
        Err(self.ended())
    }

    fn ended(&mut self) -> BenchError {
        let status = self.child.try_wait().ok().flatten();
        let status =
            status.map_or_else(|| "still running".to_owned(), |status: ExitStatus| status.to_string());
        BenchError::GatewayEnded { status, last_lines: self.last_lines() }
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // The error is ignored, because the process may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl GatewayLog {
    fn read(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let error = self.state().apply(&line);
            self.changed.notify_all();
            if let Some(error) = error.filter(|_| !self.is_muted.load(Relaxed)) {
                log::error!(target: "gateway", "{error}");
            }
        }
        self.state().is_over = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&LogState) -> bool,
    ) -> MutexGuard<'_, LogState> {
        let waiting = self.changed.wait_timeout_while(self.state(), timeout, |state| !condition(state));
        waiting.unwrap_or_else(PoisonError::into_inner).0
    }
}

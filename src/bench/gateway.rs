//! The gateway under test: a process of its own, as it would run anywhere.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::BenchError;
use super::gateway_log::LogState;
use super::usage::Usage;

/// What a process needs of the machine; none of it is a setting of the gateway.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD"];

/// How long it may take to start and to subscribe.
const READY: Duration = Duration::from_mins(2);

/// How long it may take to end; longer than it gives itself.
const END: Duration = Duration::from_mins(1);

/// Between two looks whether the process is gone.
const LOOK: Duration = Duration::from_millis(20);

/// A running gateway.
pub(super) struct Gateway {
    child: Child,
    log: Arc<Log>,
}

/// Its log, as the thread that reads it leaves it behind.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
    /// Errors are expected, and not shown.
    is_muted: AtomicBool,
}

impl Gateway {
    /// Starts this very program as a gateway in `directory`, with these settings and no others.
    pub(super) fn start(directory: &Path, settings: &[(String, String)]) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::Start)?;
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(program)
            .arg("run")
            .current_dir(directory)
            // What a terminal sends to all of a command's processes is the bench's to deal with.
            .process_group(0)
            .env_clear()
            .envs(inherited)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(BenchError::Start)?;
        let (stderr, log) = (child.stderr.take(), Arc::new(Log::default()));
        let gateway = Self { child, log: Arc::clone(&log) };
        if let Some(stderr) = stderr {
            let reading = thread::Builder::new().name("gateway-log".to_owned());
            reading.spawn(move || log.read(stderr)).map_err(BenchError::Thread)?;
        }
        Ok(gateway)
    }

    /// Waits until it takes the messages of so many flows.
    pub(super) fn wait_until_subscribed(&mut self, flows: u64) -> Result<(), BenchError> {
        let state = self.log.wait(READY, |state| state.is_over || state.filters >= flows);
        if state.filters >= flows {
            return Ok(());
        }
        let (is_over, last_lines) = (state.is_over, state.last_lines());
        drop(state);
        if is_over { Err(self.ended()) } else { Err(BenchError::NotReady { waited: READY, last_lines }) }
    }

    /// An error when it has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    /// The last lines of its log.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.log.state().last_lines()
    }

    /// The version of MQTT that it speaks with the broker.
    pub(super) fn mqtt_version(&self) -> String {
        self.log.state().version.clone()
    }

    /// Whether errors are what is wanted, and so not worth being shown.
    pub(super) fn expect_errors(&self, expected: bool) {
        self.log.is_muted.store(expected, Relaxed);
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        Usage::of(self.child.id())
    }

    /// Transactions that it has committed until now, by its own count, which it tells every second.
    pub(super) fn transactions(&self) -> Option<u64> {
        const PATIENCE: Duration = Duration::from_secs(15);
        let now = Instant::now();
        let has_counts = |state: &LogState| state.is_over || state.transactions_since(now).is_some();
        self.log.wait(PATIENCE, has_counts).transactions_since(now)
    }

    /// Ends it as an operator would, and waits for that.
    pub(super) fn end(mut self) -> Result<(), BenchError> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // One that is gone already shows below.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(LOOK),
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

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that has ended is not there to be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn read(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let error = self.state().apply(&line, Instant::now());
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
        patience: Duration,
        mut condition: impl FnMut(&LogState) -> bool,
    ) -> MutexGuard<'_, LogState> {
        let waiting = self.changed.wait_timeout_while(self.state(), patience, |state| !condition(state));
        waiting.unwrap_or_else(PoisonError::into_inner).0
    }
}

//! The gateway as a process: its environment, its standard error, its end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{PATIENCE, eventually};

/// Variables that a process inherits from the machine. None of them is a setting of the gateway.
const INHERITED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The gateway's settings by variable.
pub type Settings = BTreeMap<String, String>;

pub struct Gateway {
    child: Child,
    stderr: Arc<Lines>,
}

/// Path of the program under test. Cargo sets the variable for integration tests of the package that has the program.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("CARGO_BIN_EXE_mqtt-gateway");
    path.expect("CARGO_BIN_EXE_mqtt-gateway is not set: run the test by cargo 1.94 or later").into()
}

/// A command in `directory` with these settings and the `INHERITED` variables alone.
pub fn command(program: &str, settings: &Settings, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(settings);
    command
}

impl Gateway {
    /// Starts `mqtt-gateway` with `arguments` in `directory`, with these settings and no inherited ones.
    pub fn start(arguments: &[&str], settings: &Settings, directory: &Path) -> Gateway {
        // The terminal that runs the tests would control the gateway, which then would end at SIGHUP.
        Gateway::start_by("nohup", arguments, settings, directory)
    }

    /// The same by a program that becomes the gateway.
    pub fn start_by(program: &str, arguments: &[&str], settings: &Settings, directory: &Path) -> Gateway {
        let mut command = command(program, settings, directory);
        command.arg(binary()).args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = Lines::collect(child.stderr.take().unwrap());
        Gateway { child, stderr }
    }

    /// Waits for a line of standard error that contains `text`, from the first line on.
    pub fn wait_for_line(&self, text: &str) -> String {
        self.wait_for_line_that(text, &|line| line.contains(text))
    }

    pub fn wait_for_line_that(&self, what: &str, is_it: &dyn Fn(&str) -> bool) -> String {
        self.stderr.wait_for(what, is_it, PATIENCE)
    }

    /// Waits longer, for a line that takes the gateway a minute.
    pub fn wait_long_for_line(&self, text: &str) -> String {
        self.stderr.wait_for(text, &|line| line.contains(text), 3 * PATIENCE)
    }

    /// All of standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.seen.lock().unwrap().lines.join("\n")
    }

    pub fn count_lines(&self, text: &str) -> usize {
        self.stderr.seen.lock().unwrap().lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Number of errors whose message contains `text`, including errors that are summed up.
    pub fn count_errors(&self, text: &str) -> u64 {
        self.count_records("ERROR", text)
    }

    /// The same of warnings.
    pub fn count_warnings(&self, text: &str) -> u64 {
        self.count_records("WARN", text)
    }

    fn count_records(&self, level: &str, text: &str) -> u64 {
        let seen = self.stderr.seen.lock().unwrap();
        let records = seen.lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        let of_this_kind = records.filter(|record: &serde_json::Value| {
            record["level"] == level
                && record["message"].as_str().is_some_and(|message| message.contains(text))
        });
        of_this_kind.map(|record| record["repeated"].as_u64().unwrap_or(1)).sum()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and the wait until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Stops reading standard error.
    pub fn leave_unread(&self) {
        self.stderr.seen.lock().unwrap().unread = true;
    }

    /// Reads standard error again.
    pub fn read_on(&self) {
        self.stderr.seen.lock().unwrap().unread = false;
        self.stderr.changed.notify_all();
    }

    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let status = eventually("the exit of the gateway", || self.child.try_wait().unwrap());
        // The rest of the pipe.
        self.read_on();
        self.stderr.wait_for_end();
        status
    }

    /// SIGTERM and the exit code; `None` when a signal ended the process.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_for_exit().code()
    }

    /// The threads by name, each with by how much it steps back for others.
    pub fn threads(&self) -> Vec<(String, i32)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
        let thread = |stat: String| {
            let (before, after) = stat.rsplit_once(") ").unwrap();
            let (_, name) = before.split_once('(').unwrap();
            // The 19th of all values; two are before the state.
            (name.to_owned(), after.split(' ').nth(16).unwrap().parse().unwrap())
        };
        stats.map(thread).collect()
    }

    /// The most memory the process has held so far, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let seen = self.stderr.seen.lock().unwrap();
            let tail = seen.lines.len().saturating_sub(60);
            eprintln!("--- the gateway's last lines\n{}\n---", seen.lines[tail..].join("\n"));
        }
    }
}

/// Sends a signal by the shell's own `kill`, which is there where no program of that name is.
pub fn signal(process: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().unwrap();
    assert!(status.success(), "kill -{name} {process}: {status}");
}

#[derive(Default)]
struct Lines {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    ended: bool,
    unread: bool,
}

impl Lines {
    fn collect(source: impl std::io::Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut seen = writer.seen.lock().unwrap();
                seen.lines.push(text);
                writer.changed.notify_all();
                drop(writer.changed.wait_while(seen, |seen| seen.unread).unwrap());
                line.clear();
            }
            writer.seen.lock().unwrap().ended = true;
            writer.changed.notify_all();
        });
        lines
    }

    fn wait_for(&self, what: &str, is_it: &dyn Fn(&str) -> bool, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        let mut seen = self.seen.lock().unwrap();
        let mut next = 0;
        loop {
            if let Some(line) = seen.lines[next..].iter().find(|line| is_it(line)) {
                return line.clone();
            }
            next = seen.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                // To panic with the lock held would keep the last lines from being shown.
                let how = if seen.ended { "the gateway ended" } else { "the time is over" };
                drop(seen);
                panic!("{how} without a line of: {what}");
            }
            seen = self.changed.wait_timeout(seen, left).unwrap().0;
        }
    }

    fn wait_for_end(&self) {
        let seen = self.seen.lock().unwrap();
        drop(self.changed.wait_timeout_while(seen, PATIENCE, |seen| !seen.ended).unwrap());
    }
}

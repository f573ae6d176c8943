//! `mqtt-gateway check`: shows the settings and checks that they work.
//!
//! The settings come first, one per line. Then each check prints one line: `ok`, `FAIL` with a remedy, or `warn` for a
//! future failure. The command changes nothing and does not disturb a running gateway.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::delivery::client::check_root_certificates;
use crate::domain::invisible::is_invisible;
use crate::observe::check_writable;
use crate::settings::{EffectiveSetting, Loaded};

/// File in the inbox that a running gateway keeps locked.
const INBOX_LOCK: &str = "lock";

/// Result of one check: a fact to print, or a failure.
pub(super) type CheckResult = Result<String, CheckFailure>;

/// Reason of a failed check, and its remedy.
pub(super) struct CheckFailure {
    pub reason: String,
    pub remedy: String,
}

impl CheckFailure {
    pub(super) fn new(reason: &impl ToString, remedy: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), remedy: remedy.into() }
    }
}

/// Prints the results as they arrive, and remembers whether any check failed.
pub(super) struct CheckReport<'a> {
    out: &'a mut dyn Write,
    all_ok: bool,
}

impl CheckReport<'_> {
    /// Prints the result of one check on one line.
    pub(super) fn add(&mut self, subject: &str, outcome: &CheckResult) -> io::Result<()> {
        let line = match outcome {
            Ok(fact) => format!("ok   {subject} {fact}"),
            Err(CheckFailure { reason, remedy }) => {
                self.all_ok = false;
                format!("FAIL {subject}: {reason} — {remedy}")
            }
        };
        writeln!(self.out, "{}", on_one_line(&line))
    }

    /// Prints a warning about a problem that does not fail the check.
    pub(super) fn warn(&mut self, subject: &str, warning: &str) -> io::Result<()> {
        writeln!(self.out, "{}", on_one_line(&format!("warn {subject} {warning}")))
    }
}

/// Prints the settings and runs all checks. Returns true if none failed.
pub(super) fn run(loaded: &Loaded, out: &mut dyn Write) -> io::Result<bool> {
    for setting in &loaded.effective {
        writeln!(out, "{}", on_one_line(&shown(setting)))?;
    }
    writeln!(out)?;
    let mut report = CheckReport { out, all_ok: true };
    super::check_probes::run(&loaded.settings, &mut report)?;
    if let Err(problem) = check_root_certificates(&loaded.settings.http_route) {
        report.warn("endpoints", &format!("cannot be reached by https: {problem}"))?;
    }
    report.add("log", &log_dir(&loaded.settings.log_dir))?;
    report.add("inbox", &inbox_dir(&loaded.settings.inbox.dir))?;
    Ok(report.all_ok)
}

fn on_one_line(text: &str) -> String {
    text.replace(is_invisible, " ")
}

fn shown(setting: &EffectiveSetting) -> String {
    let EffectiveSetting { name, value, origin } = setting;
    match value {
        Some(value) => format!("{name} = {value}  ({origin})"),
        None => format!("{name} is unset"),
    }
}

fn log_dir(dir: &Path) -> CheckResult {
    directory(dir).map_err(|error| {
        let remedy = "allow this user to write there, or set LOG_DIR to another directory";
        CheckFailure::new(&format!("{}: {error}", dir.display()), remedy)
    })
}

/// Checks the inbox directory and names the gateway that uses it. The lock is not taken, because a gateway that starts
/// at that moment would fail to get it.
fn inbox_dir(dir: &Path) -> CheckResult {
    let fact = directory(dir).map_err(|error| {
        let remedy = "allow this user to write there, or set INBOX_DIR to another directory";
        CheckFailure::new(&format!("{}: {error}", dir.display()), remedy)
    })?;
    Ok(match inbox_holder(dir) {
        Some(process) => format!("{fact}, in use by the gateway with process id {process}"),
        None => fact,
    })
}

/// Returns the process id of the gateway that uses an inbox.
pub(super) fn inbox_holder(dir: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let lock = fs::metadata(dir.join(INBOX_LOCK)).ok()?;
    holder(&locks, lock.ino()).map(str::to_owned)
}

/// Checks that files can be created in a directory, or in its nearest existing ancestor.
fn directory(dir: &Path) -> io::Result<String> {
    if dir.exists() {
        check_writable(dir)?;
        return Ok(format!("{} can be written", dir.display()));
    }
    let absolute = std::path::absolute(dir)?;
    match absolute.ancestors().find(|ancestor| ancestor.exists()) {
        Some(existing) => {
            check_writable(existing)?;
            Ok(format!("{} will be created", dir.display()))
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Returns the process that holds a lock on the file with this inode, from the text of `/proc/locks`:
///
/// ```text
/// 1: FLOCK  ADVISORY  WRITE 4242 08:01:131081 0 EOF
/// ```
fn holder(locks: &str, inode: u64) -> Option<&str> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let kind = fields.next()?;
        let process = fields.nth(2)?;
        let locked = fields.next()?.rsplit(':').next()?;
        (kind == "FLOCK" && locked.parse() == Ok(inode)).then_some(process)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn setting(name: &'static str, value: Option<&str>) -> EffectiveSetting {
        EffectiveSetting { name, value: value.map(str::to_owned), origin: ".env".to_owned() }
    }

    #[test]
    fn settings_show_their_origin() {
        assert_eq!(shown(&setting("LANES", Some("3"))), "LANES = 3  (.env)");
        assert_eq!(shown(&setting("DATABASE_URL", None)), "DATABASE_URL is unset");
    }

    #[test]
    fn failures_print_their_remedy() {
        let mut out = Vec::new();
        let mut report = CheckReport { out: &mut out, all_ok: true };
        report.add("log", &Ok("./log can be written".to_owned())).unwrap();
        assert!(report.all_ok);
        report.add("broker", &Err(CheckFailure::new(&"refused\nagain", "start it"))).unwrap();
        assert!(!report.all_ok);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ok   log ./log can be written\nFAIL broker: refused again — start it\n");
    }

    #[test]
    fn checking_a_directory_creates_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert!(directory(root.path()).unwrap().ends_with("can be written"));
        assert!(directory(&root.path().join("a/b")).unwrap().ends_with("a/b will be created"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn unusable_directories_fail_with_a_remedy() {
        let failure = log_dir(Path::new("/proc/none")).err().unwrap();
        assert!(failure.reason.starts_with("/proc/none: "), "{}", failure.reason);
        assert!(failure.remedy.contains("LOG_DIR"));
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(inbox_dir(&root.path().join("file")).err().unwrap().remedy.contains("INBOX_DIR"));
    }

    #[test]
    fn lock_holder_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4242 08:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 08:01:42 0 EOF\n";
        assert_eq!(holder(locks, 42), Some("4242"));
        assert_eq!(holder(locks, 43), None);
        assert_eq!(holder("", 42), None);
    }

    #[test]
    fn running_gateways_keep_their_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = fs::File::create(dir.path().join(INBOX_LOCK)).unwrap();
        assert!(!inbox_dir(dir.path()).ok().unwrap().contains("in use"));
        lock.lock().unwrap();
        let fact = inbox_dir(dir.path()).ok().unwrap();
        assert!(
            fact.ends_with(&format!("in use by the gateway with process id {}", std::process::id())),
            "{fact}"
        );
        assert!(fs::File::open(dir.path().join(INBOX_LOCK)).unwrap().try_lock().is_err(), "still held");
    }
}

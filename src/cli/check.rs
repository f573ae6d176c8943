//! `mqtt-gateway check`: what is set, and whether it works, before the gateway depends on it.
//!
//! First the settings, one a line; then one line for each thing tried, either `ok` or `FAIL` with
//! what to do about it, and `warn` where it will fail some day. Nothing is changed, and a gateway that runs meanwhile is not disturbed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::domain::invisible::is_invisible;
use crate::observe::check_writable;
use crate::settings::{EffectiveSetting, Loaded};

/// Name of the file in the inbox that a running gateway holds a lock on.
const INBOX_LOCK: &str = "lock";

/// What came of trying one thing: a fact, or a failure.
pub(super) type Outcome = Result<String, Failure>;

/// Why something does not work, and what may mend it.
pub(super) struct Failure {
    pub reason: String,
    pub remedy: String,
}

impl Failure {
    pub(super) fn new(reason: &impl ToString, remedy: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), remedy: remedy.into() }
    }
}

/// Prints what was found as it is found, and remembers whether all of it was well.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    all_well: bool,
}

impl Report<'_> {
    /// One line for one thing that was tried.
    pub(super) fn tell(&mut self, what: &str, outcome: &Outcome) -> io::Result<()> {
        let line = match outcome {
            Ok(fact) => format!("ok   {what} {fact}"),
            Err(Failure { reason, remedy }) => {
                self.all_well = false;
                format!("FAIL {what}: {reason} — {remedy}")
            }
        };
        writeln!(self.out, "{}", on_one_line(&line))
    }

    /// What is well today and will not stay so.
    pub(super) fn warn(&mut self, what: &str, warning: &str) -> io::Result<()> {
        writeln!(self.out, "{}", on_one_line(&format!("warn {what} {warning}")))
    }
}

/// Shows the settings, tries everything, and says whether all is well.
pub(super) fn run(loaded: &Loaded, out: &mut dyn Write) -> io::Result<bool> {
    for setting in &loaded.effective {
        writeln!(out, "{}", on_one_line(&shown(setting)))?;
    }
    writeln!(out)?;
    let mut report = Report { out, all_well: true };
    super::check_probes::run(&loaded.settings, &mut report)?;
    report.tell("log", &log_dir(&loaded.settings.log_dir))?;
    report.tell("inbox", &inbox_dir(&loaded.settings.inbox.dir))?;
    Ok(report.all_well)
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

fn log_dir(dir: &Path) -> Outcome {
    directory(dir).map_err(|error| {
        let remedy = "let this user write there, or set LOG_DIR to another directory";
        Failure::new(&format!("{}: {error}", dir.display()), remedy)
    })
}

/// Looks for a gateway at work there, but leaves the lock alone: taking it only for a moment could
/// keep one that is just starting from it.
fn inbox_dir(dir: &Path) -> Outcome {
    let fact = directory(dir).map_err(|error| {
        let remedy = "let this user write there, or set INBOX_DIR to another directory";
        Failure::new(&format!("{}: {error}", dir.display()), remedy)
    })?;
    Ok(match inbox_holder(dir) {
        Some(process) => format!("{fact}, in use by the gateway with process id {process}"),
        None => fact,
    })
}

/// The process id of the gateway at work on an inbox.
pub(super) fn inbox_holder(dir: &Path) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let lock = fs::metadata(dir.join(INBOX_LOCK)).ok()?;
    holder(&locks, lock.ino()).map(str::to_owned)
}

/// Whether files can be created in a directory, or in the one that it would be created in.
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

/// The process that holds a lock on the file with this inode, from the text of `/proc/locks`:
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
    fn a_setting_is_shown_with_where_it_was_set() {
        assert_eq!(shown(&setting("LANES", Some("3"))), "LANES = 3  (.env)");
        assert_eq!(shown(&setting("DATABASE_URL", None)), "DATABASE_URL is unset");
    }

    #[test]
    fn what_was_found_is_one_line_and_a_failure_has_its_remedy() {
        let mut out = Vec::new();
        let mut report = Report { out: &mut out, all_well: true };
        report.tell("log", &Ok("./log can be written".to_owned())).unwrap();
        assert!(report.all_well);
        report.tell("broker", &Err(Failure::new(&"refused\nagain", "start it"))).unwrap();
        assert!(!report.all_well);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ok   log ./log can be written\nFAIL broker: refused again — start it\n");
    }

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        assert!(directory(root.path()).unwrap().ends_with("can be written"));
        assert!(directory(&root.path().join("a/b")).unwrap().ends_with("a/b will be created"));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_used_fails_with_its_remedy() {
        let failure = log_dir(Path::new("/proc/none")).err().unwrap();
        assert!(failure.reason.starts_with("/proc/none: "), "{}", failure.reason);
        assert!(failure.remedy.contains("LOG_DIR"));
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(inbox_dir(&root.path().join("file")).err().unwrap().remedy.contains("INBOX_DIR"));
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_the_inode_of_its_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4242 08:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 08:01:42 0 EOF\n";
        assert_eq!(holder(locks, 42), Some("4242"));
        assert_eq!(holder(locks, 43), None);
        assert_eq!(holder("", 42), None);
    }

    #[test]
    fn a_gateway_at_work_is_told_and_keeps_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = fs::File::create(dir.path().join(INBOX_LOCK)).unwrap();
        assert!(!inbox_dir(dir.path()).ok().unwrap().contains("in use"));
        lock.lock().unwrap();
        let told = inbox_dir(dir.path()).ok().unwrap();
        assert!(
            told.ends_with(&format!("in use by the gateway with process id {}", std::process::id())),
            "{told}"
        );
        assert!(fs::File::open(dir.path().join(INBOX_LOCK)).unwrap().try_lock().is_err(), "still held");
    }
}

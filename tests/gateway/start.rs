//! Message and exit code when the binary cannot start.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const DATABASE: &[(&str, &str)] =
    &[("DB_HOST", "127.0.0.1"), ("DB_NAME", "gateway"), ("DB_USER", "me"), ("DB_PASSWORD", "s3cret")];

/// Runs the binary in a directory of its own and with nothing but this in its environment.
fn gateway(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mqtt-gateway"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(dir)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn wrong_settings_exit_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), "DB_HOST=db\nDB_PORT=many\nDB_PASSWORD=s3cret\n").unwrap();
    for arguments in [&[][..], &["run"], &["check"], &["migrate"]] {
        let output = gateway(dir.path(), arguments, &[("MQTT_KEEPALIVE", "-1")]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = stderr(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("Fatal error during startup: 4 settings are missing or malformed"), "{text}");
        for name in [
            "DB_PORT = \\\"many\\\" (.env)",
            "DB_NAME",
            "DB_USER",
            "MQTT_KEEPALIVE = \\\"-1\\\" (environment)",
        ] {
            assert!(text.contains(name), "{name} in {text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn people_read_a_problem_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = gateway(dir.path(), &[], &[("LOG_FORMAT", "human")]);
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("\n      DB_HOST is not set: expected host"), "{text}");
}

#[test]
fn unwritable_log_directory_exits_with_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let output = gateway(dir.path(), &["run"], &[DATABASE, &[("LOG_DIR", "/proc/none")]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("Fatal error during startup: the log directory /proc/none cannot be written"),
        "{text}"
    );
}

#[test]
fn migration_needs_no_log_directory() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("gateway.sqlite").display());
    let settings = [("DATABASE_URL", url.as_str()), ("LOG_DIR", "/proc/none")];
    let output = gateway(dir.path(), &["migrate"], &settings);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("Added to the schema: "), "{}", stderr(&output));
}

#[test]
fn migration_needs_no_log_lines() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("gateway.sqlite").display());
    for (level, line) in [("off", None), ("info", Some("Added to the schema: nothing"))] {
        let settings = [("DATABASE_URL", url.as_str()), ("RUST_LOG", level)];
        let output = gateway(dir.path(), &["migrate"], &settings);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(line.is_none_or(|line| stderr(&output).contains(line)), "{}", stderr(&output));
    }
}

#[test]
fn missing_root_certificates_are_a_warning_of_check() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("gateway.sqlite").display());
    let settings = [("DATABASE_URL", url.as_str()), ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")];
    let output = gateway(dir.path(), &["check"], &settings);
    let text = String::from_utf8_lossy(&output.stdout);
    let warning =
        "warn endpoints cannot be reached by https: No usable root certificates in /nowhere/ca.pem;";
    assert!(text.contains(warning), "{text}");
}

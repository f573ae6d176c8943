//! Fuzz tests of the settings: arbitrary input causes no panic and reveals no password.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::assemble::load_settings_for;
use super::files::Files;
use super::layers::Sources;
use super::replicas::Purpose;
use super::{Loaded, SettingsError};
use crate::fuzzing::{behaviour, fuzz};

/// Unique password. Any output that contains this text has revealed a secret.
const PASSWORD: &str = "xq7zPASSWORDxq7z";

/// A `.env` file and a TOML file.
struct TwoFiles {
    dotenv: Vec<u8>,
    toml: Vec<u8>,
}

impl Files for TwoFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(match path.to_str() {
            Some(".env") => Some(self.dotenv.clone()),
            Some("config/a.toml") => Some(self.toml.clone()),
            Some("secret") => Some(PASSWORD.as_bytes().to_vec()),
            _ => None,
        })
    }

    fn toml_files(&self, directory: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok((directory == Path::new("config")).then(|| vec!["config/a.toml".into()]))
    }
}

fn load(environment: &[(&str, Vec<u8>)], dotenv: &[u8], toml: &[u8]) -> Result<Loaded, SettingsError> {
    let environment: BTreeMap<String, OsString> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from_vec(value.clone())))
        .collect();
    let files = TwoFiles { dotenv: dotenv.to_vec(), toml: toml.to_vec() };
    load_settings_for(Purpose::Running, &Sources { environment, files: &files })
}

/// Checks all displayable output for the password.
fn judged(loaded: &Result<Loaded, SettingsError>) -> u64 {
    let shown = match loaded {
        Ok(loaded) => format!("{:?} {:?} {:?}", loaded.settings, loaded.effective, loaded.warnings),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(PASSWORD), "{shown}");
    match loaded {
        Ok(loaded) => behaviour(("read", loaded.warnings.len())),
        Err(error) => {
            let text = error.to_string();
            let words: Vec<&str> = text.split_whitespace().take(3).collect();
            behaviour((words, text.lines().count()))
        }
    }
}

#[test]
fn dotenv_input_reveals_no_password() {
    let dictionary = [
        "\n",
        "=",
        "#",
        "'",
        "\"",
        "\\",
        "${",
        "}",
        "$",
        "export ",
        "DB_HOST=",
        "DB_PASSWORD_FILE=secret",
        "${DB_PASSWORD}",
        "DATABASE_URL=",
        "mysql://",
        "LANES=",
        "MQTT_QOS=",
        "INBOX_FSYNC=",
        "LOG_FORMAT=",
        "1e9",
        "-1",
        "18446744073709551616",
        "\r",
        "\0",
        ":-",
        "sqlite:",
        "\u{feff}",
    ];
    fuzz("settings_dotenv", &dictionary, |input| {
        // The file ends with the password, and no input before it may reveal it. Inputs that refer to the password
        // variable are skipped, because such a reference reveals it legitimately.
        let names_it = input.windows(8).any(|bytes| bytes == b"PASSWORD");
        let quoted = input.iter().any(|byte| matches!(byte, b'\'' | b'"' | b'\\'));
        if names_it || quoted || input.contains(&b'$') {
            return judged(&load(&[], input, b""));
        }
        let file = [b"DB_PASSWORD=", PASSWORD.as_bytes(), b"\nDB_USER=u\n", input].concat();
        judged(&load(&[("DB_NAME", b"n".to_vec())], &file, b""))
    });
}

#[test]
fn database_url_input_reveals_no_password() {
    let dictionary = [
        "@",
        ":",
        "/",
        "?",
        "&",
        "charset=utf8",
        "mode=rwc",
        "%40",
        "%",
        "[::1]",
        ":3306",
        "#",
        "host",
        "/db",
    ];
    fuzz("settings_url", &dictionary, |input| {
        let url = [b"mysql://user:", PASSWORD.as_bytes(), input].concat();
        judged(&load(&[("DATABASE_URL", url)], b"", b""))
            ^ judged(&load(&[("DATABASE_URL", input.to_vec()), ("DB_PASSWORD", PASSWORD.into())], b"", b""))
    });
}

const TRIED: [&str; 9] = [
    "HTTPS_PROXY",
    "LANES",
    "MQTT_QOS",
    "INBOX_MAX_BYTES",
    "HTTP_TIMEOUT_SECONDS",
    "LOG_FORMAT",
    "VALUE_STYLE",
    "INBOX_FSYNC",
    "MQTT_SKIP_REPEATED_RETAINED",
];

/// An input consists of a setting to test, a TOML text, and the value of the setting.
#[test]
fn any_value_parses_or_fails() {
    let dictionary = [
        "\0",
        "\n",
        "=",
        "[",
        "]",
        "\"",
        "lanes = ",
        "LANES = ",
        "mqtt_qos = ",
        "1",
        "-1",
        "1.5",
        "1e400",
        "inf",
        "true",
        "off",
        "18446744073709551616",
        "json",
        "interval",
        " ",
        "_",
        "1_000",
        "٣",
        "DB_PASSWORD = ",
        "log_level = ",
        "{",
        "}",
        "'''",
        "2024-01-01",
    ];
    fuzz("settings_values", &dictionary, |input| {
        let Some((which, rest)) = input.split_first() else { return 0 };
        let mut parts = rest.splitn(2, |byte| *byte == 0);
        let toml = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let name = TRIED[usize::from(*which) % TRIED.len()];
        let mut environment = ["DB_HOST", "DB_NAME", "DB_USER"].map(|name| (name, b"x".to_vec())).to_vec();
        environment.extend([("DB_PASSWORD", PASSWORD.into()), (name, value.to_vec())]);
        judged(&load(&environment, b"", toml))
    });
}

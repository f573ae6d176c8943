//! A broker's list of passwords, with one user in it.

use std::process::Command;

use tempfile::NamedTempFile;

use super::mosquitto::{Broker, BrokerOptions, path_with_sbin};

/// The name of the user.
pub const USER: &str = "device";

/// Lives as long as the value.
pub struct Passwords(NamedTempFile);

impl Passwords {
    pub fn with(password: &str) -> Passwords {
        let passwords = Passwords(NamedTempFile::new().unwrap());
        passwords.set(password);
        passwords
    }

    /// A broker that accepts anonymous clients.
    pub fn broker(&self) -> Broker {
        let access = format!("allow_anonymous true\npassword_file {}", self.0.path().display());
        Broker::with(&BrokerOptions { access, ..BrokerOptions::default() })
    }

    /// Applies at the broker's next reload, which also closes connections with another password.
    pub fn set(&self, password: &str) {
        let status = Command::new("mosquitto_passwd")
            .env("PATH", path_with_sbin())
            .args(["-b", self.0.path().to_str().unwrap(), USER, password])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

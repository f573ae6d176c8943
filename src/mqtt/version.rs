//! The two versions of MQTT that the gateway speaks.

/// Version of the protocol on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V5,
    V311,
}

impl Version {
    /// As people write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Version::V5 => "5",
            Version::V311 => "3.1.1",
        }
    }
}

//! Classification of failed connection attempts.

use paho_mqtt::{Error, ReasonCode};

/// Failed attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectFailure {
    /// Code of the broker, positive; otherwise the code of paho, negative.
    pub(super) code: i32,
    pub(super) kind: FailureKind,
    pub(super) text: String,
}

/// Kind of a failure, which decides the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The broker does not support this version of MQTT.
    VersionRefused,
    /// The broker accepted the connection, but its answer is not valid in this version. Brokers of an older version do
    /// this, and so do brokers during start or stop.
    NotUnderstood,
    /// The broker accepted the connection and did not answer. Some brokers of an older version do this, and so does a
    /// hung broker.
    Silent,
    /// The broker refused the connection.
    Refused,
    /// The broker cannot be reached.
    Unreachable,
}

/// General failure code of paho.
const GENERAL_FAILURE: i32 = -1;

impl ConnectFailure {
    /// Classifies an error of paho. `reachable` probes the broker, because paho gives the same error for an unreachable
    /// broker and for a refusal of MQTT 5.
    pub(super) fn new(error: &Error, reachable: impl FnOnce() -> Result<(), String>) -> ConnectFailure {
        match error {
            Error::ReasonCode(code, _) => ConnectFailure {
                code: i32::from(*code as u8),
                kind: if *code == ReasonCode::UnsupportedProtocolVersion {
                    FailureKind::VersionRefused
                } else {
                    FailureKind::Refused
                },
                text: code.to_string(),
            },
            Error::ConnectReturn(code) => ConnectFailure {
                code: i32::from(*code as u8),
                kind: FailureKind::Refused,
                text: code.to_string(),
            },
            error => match reachable() {
                Ok(()) => ConnectFailure::unclear(error),
                Err(reason) => ConnectFailure {
                    text: reason,
                    kind: FailureKind::Unreachable,
                    ..ConnectFailure::unclear(error)
                },
            },
        }
    }

    /// Creates a failure that occurred before any broker was contacted.
    pub(super) fn unprepared(error: &impl ToString) -> ConnectFailure {
        ConnectFailure { code: GENERAL_FAILURE, kind: FailureKind::Unreachable, text: error.to_string() }
    }

    /// Creates the failure of an overdue attempt.
    pub(super) fn overdue() -> ConnectFailure {
        ConnectFailure::unprepared(&"the MQTT client did not finish the connection attempt")
    }

    /// Classifies an error of a reachable broker that did not answer properly.
    fn unclear(error: &Error) -> ConnectFailure {
        let code = match error {
            Error::SocketError(code) | Error::ReceivedDisconnect(code) => *code,
            _ => GENERAL_FAILURE,
        };
        let (kind, text) = match error {
            Error::Failure => {
                (FailureKind::NotUnderstood, "the broker's answer was not understood".to_owned())
            }
            Error::TcpConnectCompletionFailure | Error::SocketError(_) => {
                (FailureKind::NotUnderstood, "the broker closed the connection without an answer".to_owned())
            }
            Error::TcpConnectTimeout => (FailureKind::Silent, "the broker did not answer in time".to_owned()),
            other => (FailureKind::Unreachable, other.to_string()),
        };
        ConnectFailure { code, kind, text }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use paho_mqtt::{ConnectReturnCode, Properties};

    use super::*;

    fn refused_by_the_system() -> Result<(), String> {
        Err(std::io::ErrorKind::ConnectionRefused.to_string())
    }

    #[test]
    fn broker_codes_are_kept() {
        let v5 = Error::ReasonCode(ReasonCode::NotAuthorized, Properties::new());
        let v5 = ConnectFailure::new(&v5, || panic!("an answer needs no probe"));
        assert_eq!((v5.code, v5.kind), (135, FailureKind::Refused));
        let v311 = Error::ConnectReturn(ConnectReturnCode::NotAuthorized);
        let v311 = ConnectFailure::new(&v311, || panic!("an answer needs no probe"));
        assert_eq!((v311.code, v311.kind), (5, FailureKind::Refused));
    }

    #[test]
    fn version_is_blamed_only_when_reachable() {
        for error in [Error::Failure, Error::TcpConnectCompletionFailure] {
            assert_eq!(ConnectFailure::new(&error, || Ok(())).kind, FailureKind::NotUnderstood);
            assert_eq!(ConnectFailure::new(&error, refused_by_the_system).kind, FailureKind::Unreachable);
        }
    }

    #[test]
    fn silence_differs_from_absence() {
        assert_eq!(ConnectFailure::new(&Error::TcpConnectTimeout, || Ok(())).kind, FailureKind::Silent);
        let away = ConnectFailure::new(&Error::TcpConnectTimeout, refused_by_the_system);
        assert_eq!(away.kind, FailureKind::Unreachable);
    }
}

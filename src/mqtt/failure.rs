//! Classification of failed connection attempts.

use paho_mqtt::{Error, ReasonCode};

/// Failed attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
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

impl Failure {
    /// Classifies an error of paho. `reachable` probes the broker, because paho gives the same error for an unreachable
    /// broker and for a refusal of MQTT 5.
    pub(super) fn new(error: &Error, reachable: impl FnOnce() -> Result<(), String>) -> Failure {
        match error {
            Error::ReasonCode(code, _) => Failure {
                code: i32::from(*code as u8),
                kind: if *code == ReasonCode::UnsupportedProtocolVersion {
                    FailureKind::VersionRefused
                } else {
                    FailureKind::Refused
                },
                text: code.to_string(),
            },
            Error::ConnectReturn(code) => {
                Failure { code: i32::from(*code as u8), kind: FailureKind::Refused, text: code.to_string() }
            }
            error => match reachable() {
                Ok(()) => Failure::unclear(error),
                Err(reason) => {
                    Failure { text: reason, kind: FailureKind::Unreachable, ..Failure::unclear(error) }
                }
            },
        }
    }

    /// Creates a failure that occurred before any broker was contacted.
    pub(super) fn unprepared(error: &impl ToString) -> Failure {
        Failure { code: GENERAL_FAILURE, kind: FailureKind::Unreachable, text: error.to_string() }
    }

    /// Creates the failure of an overdue attempt.
    pub(super) fn overdue() -> Failure {
        Failure::unprepared(&"the MQTT client did not finish the connection attempt")
    }

    /// Classifies an error of a reachable broker that did not answer properly.
    fn unclear(error: &Error) -> Failure {
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
        Failure { code, kind, text }
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
        let v5 = Failure::new(&v5, || panic!("an answer needs no probe"));
        assert_eq!((v5.code, v5.kind), (135, FailureKind::Refused));
        let v311 = Error::ConnectReturn(ConnectReturnCode::NotAuthorized);
        let v311 = Failure::new(&v311, || panic!("an answer needs no probe"));
        assert_eq!((v311.code, v311.kind), (5, FailureKind::Refused));
    }

    #[test]
    fn version_is_blamed_only_when_reachable() {
        for error in [Error::Failure, Error::TcpConnectCompletionFailure] {
            assert_eq!(Failure::new(&error, || Ok(())).kind, FailureKind::NotUnderstood);
            assert_eq!(Failure::new(&error, refused_by_the_system).kind, FailureKind::Unreachable);
        }
    }

    #[test]
    fn silence_differs_from_absence() {
        assert_eq!(Failure::new(&Error::TcpConnectTimeout, || Ok(())).kind, FailureKind::Silent);
        let away = Failure::new(&Error::TcpConnectTimeout, refused_by_the_system);
        assert_eq!(away.kind, FailureKind::Unreachable);
    }
}

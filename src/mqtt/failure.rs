//! What a failed attempt to connect says.

use paho_mqtt::{Error, ReasonCode};

/// A failed attempt to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The broker's code, positive; else paho's, negative.
    pub(super) code: i32,
    pub(super) kind: FailureKind,
    pub(super) text: String,
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The broker says that it does not speak this version of MQTT.
    VersionRefused,
    /// Connected, but what came back was no answer in this version. Brokers that only know an older one do that,
    /// but so does one that is just starting or stopping.
    NotUnderstood,
    /// Connected, and nothing came back. Some brokers that only know an older version do that, but so does one that
    /// stands still.
    Silent,
    /// The broker answered with a refusal.
    Refused,
    /// Nobody answered.
    Unreachable,
}

/// Paho's general failure, where nothing more precise is known.
const GENERAL_FAILURE: i32 = -1;

impl Failure {
    /// Reads paho's error. `reachable` says whether the broker accepted a connection, or why not, because paho answers
    /// the same whether nobody listens or a broker of MQTT 3.1.1 refuses MQTT 5.
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

    /// Nothing was asked of any broker: it would be of no use.
    pub(super) fn unprepared(error: &impl ToString) -> Failure {
        Failure { code: GENERAL_FAILURE, kind: FailureKind::Unreachable, text: error.to_string() }
    }

    /// Paho owes the outcome of the attempt.
    pub(super) fn overdue() -> Failure {
        Failure::unprepared(&"the MQTT client did not come to an end with the attempt")
    }

    /// The broker can be reached, and has not answered what was asked.
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
    fn the_brokers_own_code_is_kept() {
        let v5 = Error::ReasonCode(ReasonCode::NotAuthorized, Properties::new());
        let v5 = Failure::new(&v5, || panic!("an answer needs no probe"));
        assert_eq!((v5.code, v5.kind), (135, FailureKind::Refused));
        let v311 = Error::ConnectReturn(ConnectReturnCode::NotAuthorized);
        let v311 = Failure::new(&v311, || panic!("an answer needs no probe"));
        assert_eq!((v311.code, v311.kind), (5, FailureKind::Refused));
    }

    #[test]
    fn an_unclear_failure_counts_as_a_wrong_version_only_where_somebody_listens() {
        for error in [Error::Failure, Error::TcpConnectCompletionFailure] {
            assert_eq!(Failure::new(&error, || Ok(())).kind, FailureKind::NotUnderstood);
            assert_eq!(Failure::new(&error, refused_by_the_system).kind, FailureKind::Unreachable);
        }
    }

    #[test]
    fn silence_is_told_from_a_broker_that_is_away() {
        assert_eq!(Failure::new(&Error::TcpConnectTimeout, || Ok(())).kind, FailureKind::Silent);
        let away = Failure::new(&Error::TcpConnectTimeout, refused_by_the_system);
        assert_eq!(away.kind, FailureKind::Unreachable);
    }
}

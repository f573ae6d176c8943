//! Errors of `PostgreSQL`.

use super::{ErrorClass, is_about_data};

/// Errors for statements that the server does not know.
const UNKNOWN: [&str; 3] = [
    "42601", // syntax
    "42704", // variable
    "42883", // function
];

/// Invalid authorization, invalid password.
const REFUSED_LOGIN: [&str; 2] = ["28000", "28P01"];

const UNDEFINED_COLUMN: &str = "42703";

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// The server refuses to execute a prepared statement whose columns were altered.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

const READ_ONLY: &str = "25006";

/// SQLSTATEs of other classes that are about the data.
const SUSPECTS: [&str; 7] = [
    "21000", // a trigger's subquery gives more than one row
    "44000", // refused by the CHECK OPTION of a view
    "54000", // beyond a limit of the server's: a value too long for an index on it
    "P0001", // refused by a trigger (RAISE)
    "P0002", // a trigger selects one row, and there is none
    "P0003", // the same, and there are more
    "P0004", // refused by an ASSERT of a trigger
];

/// The class, by SQLSTATE and the name of the constraint that was violated.
pub(super) fn class_of(sqlstate: &str, constraint: Option<&str>) -> ErrorClass {
    const CHECK_VIOLATION: &str = "23514";
    const SEQUENCE_AT_ITS_END: &str = "2200H";
    match sqlstate {
        SEQUENCE_AT_ITS_END => ErrorClass::Outage,
        // No partition for the row. A violated CHECK has a name.
        CHECK_VIOLATION if constraint.is_none() => ErrorClass::Outage,
        // Serialisation failure; deadlock found.
        "40001" | "40P01" => ErrorClass::Deadlock,
        // Lock timeout, or NOWAIT; statement took too long or was cancelled.
        "55P03" | "57014" => ErrorClass::LockTimeout,
        // Idle in a transaction for too long; transaction took too long; server shutting down, after a
        // crash or not yet up; database dropped; session idle for too long.
        "25P03" | "25P04" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => ErrorClass::ConnectionLost,
        _ if sqlstate.starts_with("08") => ErrorClass::ConnectionLost,
        _ if is_about_data(sqlstate) || SUSPECTS.contains(&sqlstate) => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

pub(super) fn is_refused_login(sqlstate: &str) -> bool {
    REFUSED_LOGIN.contains(&sqlstate)
}

pub(super) fn is_unknown_statement(sqlstate: &str) -> bool {
    UNKNOWN.contains(&sqlstate)
}

pub(super) fn is_unknown_column(sqlstate: &str) -> bool {
    sqlstate == UNDEFINED_COLUMN
}

pub(super) fn is_denied(sqlstate: &str) -> bool {
    sqlstate == INSUFFICIENT_PRIVILEGE
}

/// GRANTs apply to all connections at once, so a missing privilege is not among these errors.
pub(super) fn is_about_the_connection(sqlstate: &str) -> bool {
    [FEATURE_NOT_SUPPORTED, READ_ONLY].contains(&sqlstate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_go_by_class_but_for_those_that_a_person_has_to_mend() {
        for (sqlstate, fault) in [
            ("22021", ErrorClass::Poison),
            ("22012", ErrorClass::Poison),
            ("23505", ErrorClass::Poison),
            ("23503", ErrorClass::Poison),
            ("23P01", ErrorClass::Poison),
            ("P0001", ErrorClass::Poison),
            ("40P01", ErrorClass::Deadlock),
            ("55P03", ErrorClass::LockTimeout),
            ("57P01", ErrorClass::ConnectionLost),
            ("08006", ErrorClass::ConnectionLost),
            ("53100", ErrorClass::Outage),
            ("53300", ErrorClass::Outage),
            ("25006", ErrorClass::Outage),
            ("2200H", ErrorClass::Outage),
            ("42P01", ErrorClass::Outage),
            ("42703", ErrorClass::Outage),
            ("42501", ErrorClass::Outage),
            ("XX000", ErrorClass::Outage),
        ] {
            assert_eq!(class_of(sqlstate, None), fault, "{sqlstate}");
        }
    }

    #[test]
    fn a_missing_partition_is_told_from_a_violated_check() {
        assert_eq!(class_of("23514", Some("no_red")), ErrorClass::Poison);
        assert_eq!(class_of("23514", None), ErrorClass::Outage);
    }
}

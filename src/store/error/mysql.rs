//! Errors of `MySQL`, `MariaDB` and their relatives.

use super::{ErrorClass, is_about_data};

/// Errors for statements that the server does not know.
const UNKNOWN: [u16; 7] = [
    1064, // syntax
    1128, // function
    1193, // variable
    1231, // value of a variable
    1235, // not supported by this version
    1305, // function, where it could be one of the database's own
    1630, // the same, with a hint
];

/// Access denied, with a password and without one.
const REFUSED_LOGIN: [u16; 2] = [1045, 1698];

/// A column that its table does not have.
const BAD_FIELD: u16 = 1054;

/// Errors of a server that accepts no writes, or no statements at all, and may have been replaced.
const NOT_THE_PRIMARY: [u16; 4] = [
    1047, // Galera: the node is not ready
    1290, // started or set read-only
    1836, // the same, in a mode of its own
    3168, // Vitess: no primary here
];

/// The error for a missing privilege on the server as a whole.
const NEEDS_PRIVILEGE: u16 = 1227;

/// Errors for a missing privilege.
const DENIED: [u16; 4] = [
    1044, // on the database
    1142, // on the table
    1143, // on the column
    1370, // on the routine, say one that a trigger calls
];

/// Errors that are about the data although their SQLSTATE may not say so.
const SUSPECTS: [u16; 25] = [
    1048, // column cannot be null
    1153, // statement above max_allowed_packet: to split the batch is what cures it
    1172, // a trigger selects one row, and there are more
    1242, // the same in a subquery
    1264, // number out of range
    1265, // data truncated
    1292, // incorrect date or number
    1300, // invalid character string
    1329, // a trigger fetches a row, and there is none
    1365, // division by zero
    1366, // incorrect string value
    1406, // data too long
    1411, // incorrect value for a function, say STR_TO_DATE
    1644, // refused by a trigger (SIGNAL)
    1690, // result out of range, say below zero and unsigned
    3140, // invalid JSON text
    3141, // the same in a parameter
    3144, // JSON in a character set without Unicode
    3150, // JSON value too big
    3157, // JSON nested too deeply
    3819, // CHECK violated; for MariaDB see below
    3854, // no such character in the column's character set
    // TiDB's own numbers. As with 1153, splitting the batch cures the first and the last.
    8004, // transaction too large
    8025, // row too large
    9500, // transaction too large, by size
];

/// The class, by error number and SQLSTATE.
pub(super) fn class_of(number: u16, sqlstate: &str) -> ErrorClass {
    match number {
        // Deadlock found; record has changed since last read (MariaDB's snapshot isolation). TiDB: rows have
        // changed (8002, 8005, 9007), safe to be tried again (8022), tables have changed (8028).
        1213 | 1020 | 8002 | 8005 | 8022 | 8028 | 9007 => ErrorClass::Deadlock,
        // Lock wait timeout, of a row or of the table's definition (on MariaDB also with NOWAIT, for which MySQL has a
        // separate number); statement took too long; TiDB's resolving of locks.
        1205 | 3572 | 1969 | 3024 | 9004 => ErrorClass::LockTimeout,
        // Server shutting down; aborted connections and network errors; query interrupted; client errors that proxies
        // pass on; connection killed (MariaDB, MySQL); idle for too long.
        1053 | 1152 | 1158..=1161 | 1184 | 1317 | 2006 | 2013 | 1927 | 3169 | 4031 => {
            ErrorClass::ConnectionLost
        }
        // A violated CHECK of MariaDB (4025) is recognised by its class: on MySQL the number means something else.
        _ if is_about_data(sqlstate) || SUSPECTS.contains(&number) => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

pub(super) fn is_refused_login(number: u16) -> bool {
    REFUSED_LOGIN.contains(&number)
}

pub(super) fn is_unknown_statement(number: u16) -> bool {
    UNKNOWN.contains(&number)
}

pub(super) fn is_unknown_column(number: u16) -> bool {
    number == BAD_FIELD
}

pub(super) fn is_denied(number: u16) -> bool {
    number == NEEDS_PRIVILEGE || DENIED.contains(&number)
}

/// Some GRANTs apply to new connections only.
pub(super) fn is_about_the_connection(number: u16) -> bool {
    NOT_THE_PRIMARY.contains(&number) || DENIED.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_sqlstate_that_says_so_only_known_numbers_are_suspects() {
        let suspects = (0..=u16::MAX).filter(|number| class_of(*number, "HY000") == ErrorClass::Poison);
        assert!(suspects.eq(SUSPECTS));
    }

    #[test]
    fn constraints_and_refused_values_are_suspects_by_class() {
        for (number, sqlstate) in [
            (1062, "23000"), // duplicate key
            (1452, "23000"), // foreign key
            (1365, "22012"), // division by zero
            (1690, "22003"), // below zero and unsigned
            (4711, "45000"), // SIGNAL with a number of the site's own
        ] {
            assert_eq!(class_of(number, sqlstate), ErrorClass::Poison, "{number}");
        }
    }

    #[test]
    fn a_full_disk_and_a_read_only_server_are_outages() {
        for number in [1114, 1021, 1047, 1290, 1836, 3168, 1040, 1142, 1467, 1364, 1526] {
            assert_eq!(class_of(number, "HY000"), ErrorClass::Outage, "{number}");
        }
        for (number, sqlstate) in [(1054, "42S22"), (1146, "42S02"), (1142, "42000")] {
            assert_eq!(class_of(number, sqlstate), ErrorClass::Outage, "{number}");
        }
    }

    #[test]
    fn missing_privileges_want_new_connections() {
        for number in [1044, 1142, 1143, 1370, 1290] {
            assert!(is_about_the_connection(number), "{number}");
        }
        for number in [1062, 1054, 1205] {
            assert!(!is_about_the_connection(number), "{number}");
        }
    }

    #[test]
    fn a_violated_check_of_mariadb_is_told_from_what_mysql_means_by_its_number() {
        assert_eq!(class_of(4025, "23000"), ErrorClass::Poison);
        assert_eq!(class_of(4025, "HY000"), ErrorClass::Outage);
    }
}

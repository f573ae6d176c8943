//! Errors of `SQLite`.

use super::ErrorClass;

/// The class, by extended result code. Its low byte is the plain code.
pub(super) fn class_of(code: i32) -> ErrorClass {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    match code & 0xff {
        BUSY | LOCKED => ErrorClass::LockTimeout,
        TOO_BIG | CONSTRAINT | MISMATCH => ErrorClass::Poison,
        _ => ErrorClass::Outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_and_refused_values_are_suspects() {
        const UNIQUE: i32 = 2067;
        const PRIMARY_KEY: i32 = 1555;
        const FOREIGN_KEY: i32 = 787;
        const TOO_BIG: i32 = 18;
        const MISMATCH: i32 = 20;
        for code in [UNIQUE, PRIMARY_KEY, FOREIGN_KEY, TOO_BIG, MISMATCH] {
            assert_eq!(class_of(code), ErrorClass::Poison, "{code}");
        }
    }

    #[test]
    fn a_full_disk_and_a_read_only_file_are_outages() {
        const READ_ONLY: i32 = 8;
        const IO: i32 = 10;
        const CORRUPT: i32 = 11;
        const FULL: i32 = 13;
        for code in [READ_ONLY, IO, CORRUPT, FULL] {
            assert_eq!(class_of(code), ErrorClass::Outage, "{code}");
        }
    }

    #[test]
    fn a_locked_file_is_a_lock_timeout_in_all_its_variants() {
        const BUSY_SNAPSHOT: i32 = 517;
        const LOCKED_SHARED_CACHE: i32 = 262;
        for code in [5, 6, BUSY_SNAPSHOT, LOCKED_SHARED_CACHE] {
            assert_eq!(class_of(code), ErrorClass::LockTimeout, "{code}");
        }
    }
}

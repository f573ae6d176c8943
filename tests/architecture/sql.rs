//! SQL that every supported server understands.

use std::collections::BTreeSet;
use std::fs;

use super::source::{root, rust_files, texts_of, words_before};

/// All functions of SQL that the gateway calls. Before adding one, look it up for every server of the list in
/// `docs/TABLES.md`.
const SQL_FUNCTIONS: &[&str] = &[
    // In every dialect; `ROW_NUMBER` is not in MySQL before 8, where `audit` cannot run.
    "CAST",
    "COALESCE",
    "COUNT",
    "LENGTH",
    "LOWER",
    "MAX",
    "MIN",
    "NULLIF",
    "ROUND",
    "ROW_NUMBER",
    "SUM",
    // MySQL and MariaDB; `VALUES` is also the list of rows, and `DATETIME` a type.
    "DATABASE",
    "DATETIME",
    "GET_LOCK",
    "INSTR",
    "RELEASE_LOCK",
    "TIMESTAMPDIFF",
    "UTC_TIMESTAMP",
    "VALUES",
    "VERSION",
    // PostgreSQL.
    "EXTRACT",
    "POSITION",
    "concat_ws",
    "current_database",
    "current_schema",
    "current_setting",
    "format",
    "host",
    "pg_advisory_xact_lock",
    "pg_blocking_pids",
    "pg_get_serial_sequence",
    "pg_is_in_recovery",
    "pg_terminate_backend",
    "set_config",
    "statement_timestamp",
    "unnest",
    // SQLite, which is part of the binary.
    "julianday",
    "pragma_table_info",
    "printf",
    "sqlite_version",
    "strftime",
    "wal_checkpoint",
];

/// The same for session variables.
const SQL_VARIABLES: &[&str] = &[
    // MySQL and MariaDB.
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
    "sql_mode",
    "time_zone",
    "wait_timeout",
    // PostgreSQL; `plan_cache_mode` and `tcp_user_timeout` came with version 12.
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "plan_cache_mode",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
];

#[test]
fn sql_uses_only_what_the_supported_servers_have() {
    let (mut functions, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for path in [rust_files(&root().join("src/store")), rust_files(&root().join("migration/src"))].concat() {
        let source = fs::read_to_string(path).unwrap();
        for text in texts_of(source.split("#[cfg(test)]").next().unwrap()) {
            functions.extend(words_before(text, "(").map(str::to_owned));
            if text.trim_start().starts_with("SET ") {
                variables.extend(words_before(text, " = ").map(str::to_owned));
            }
        }
    }
    let listed = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(functions, listed(SQL_FUNCTIONS));
    assert_eq!(variables, listed(SQL_VARIABLES));
}

#[test]
fn functions_are_found_in_texts_alone() {
    let source = r##"// MD5(a)
        let sql = "SELECT MAX(id), lower(x) FROM t WHERE a IN (1)"; call(r#"SET a = 1"#);"##;
    let texts = texts_of(source);
    assert_eq!(texts.len(), 2);
    assert_eq!(words_before(texts[0], "(").collect::<Vec<_>>(), ["MAX", "lower"]);
    assert_eq!(words_before(texts[1], " = ").collect::<Vec<_>>(), ["a"]);
}

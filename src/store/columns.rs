//! The columns of the live schema.

use mqtt_gateway_entity::{data, flows};
use sea_orm::{DbErr, FromQueryResult, IdenStatic, Statement};

use super::connect::Database;
use super::dialect::Dialect;

/// A column as it is declared in the database.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub(super) struct LiveColumn {
    pub(super) table_name: String,
    pub(super) column_name: String,
    /// With length and sign: `varchar(255)`, `int(11) unsigned`.
    pub(super) column_type: String,
    /// Longest text in bytes; `SQLite` has no limit.
    pub(super) octets: Option<i64>,
    pub(super) character_set: Option<String>,
    pub(super) is_nullable: bool,
    /// As an expression; `NULL` counts as none.
    pub(super) default_value: Option<String>,
    pub(super) comment: String,
}

/// The columns of `data` and `flows`.
///
/// The casts give the answers of all servers one type: `MySQL` and `MariaDB` differ in sign and width of numbers, and
/// in whether names are text.
pub(super) async fn live_columns(
    database: &Database,
    session: &impl sea_orm::ConnectionTrait,
) -> Result<Vec<LiveColumn>, DbErr> {
    let sql = match database.dialect {
        Dialect::MySql => {
            "SELECT CAST(table_name AS CHAR) AS table_name, CAST(column_name AS CHAR) AS column_name, \
             CAST(column_type AS CHAR) AS column_type, CAST(character_octet_length AS SIGNED) AS octets, \
             CAST(character_set_name AS CHAR) AS character_set, is_nullable = 'YES' AS is_nullable, \
             CAST(column_default AS CHAR) AS default_value, CAST(column_comment AS CHAR) AS comment \
             FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name IN ('data', 'flows')"
        }
        // Its texts have no limit.
        Dialect::Postgres => {
            "SELECT CAST(table_name AS TEXT) AS table_name, CAST(column_name AS TEXT) AS column_name, \
             data_type || COALESCE('(' || character_maximum_length || ')', '') AS column_type, \
             CAST(NULL AS BIGINT) AS octets, CAST(NULL AS TEXT) AS character_set, \
             is_nullable = 'YES' AS is_nullable, CAST(column_default AS TEXT) AS default_value, \
             '' AS comment \
             FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name IN ('data', 'flows')"
        }
        Dialect::Sqlite => {
            "SELECT m.name AS table_name, c.name AS column_name, c.type AS column_type, NULL AS octets, \
             NULL AS character_set, NOT c.\"notnull\" AS is_nullable, c.dflt_value AS default_value, \
             '' AS comment \
             FROM sqlite_master AS m, pragma_table_info(m.name) AS c \
             WHERE m.type = 'table' AND m.name IN ('data', 'flows')"
        }
    };
    let statement = Statement::from_string(database.dialect.backend(), sql);
    LiveColumn::find_by_statement(statement).all(session).await
}

/// Finds a column of `data`.
pub(super) fn of_data(columns: &[LiveColumn], column: data::Column) -> Option<&LiveColumn> {
    find(columns, "data", column.as_str())
}

/// Finds a column of `flows`.
pub(super) fn of_flows(columns: &[LiveColumn], column: flows::Column) -> Option<&LiveColumn> {
    find(columns, "flows", column.as_str())
}

fn find<'a>(columns: &'a [LiveColumn], table: &str, column: &str) -> Option<&'a LiveColumn> {
    columns.iter().find(|live| live.table_name == table && live.column_name.eq_ignore_ascii_case(column))
}

impl LiveColumn {
    /// The largest number of the column. Other types than narrow integers count as 64 bits wide, which every integer of
    /// `SQLite` is.
    pub(super) fn max_integer(&self, dialect: Dialect) -> i64 {
        if dialect == Dialect::Sqlite {
            return i64::MAX;
        }
        let declared = self.column_type.to_ascii_lowercase();
        let base = declared.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let bits = match base {
            "tinyint" => 8,
            "smallint" => 16,
            "mediumint" => 24,
            "int" | "integer" => 32,
            _ => return i64::MAX,
        };
        let sign_bits = i32::from(!declared.contains("unsigned"));
        (1_i64 << (bits - sign_bits)) - 1
    }

    /// The number in the brackets of the type: characters of a `varchar(255)`.
    pub(super) fn declared_length(&self) -> Option<usize> {
        let (_, rest) = self.column_type.split_once('(')?;
        let (number, _) = rest.split_once(')')?;
        number.trim().parse().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn column(column_type: &str) -> LiveColumn {
        LiveColumn {
            table_name: "data".to_owned(),
            column_name: "id".to_owned(),
            column_type: column_type.to_owned(),
            octets: None,
            character_set: None,
            is_nullable: false,
            default_value: None,
            comment: String::new(),
        }
    }

    #[test]
    fn an_integer_column_holds_what_its_type_says() {
        for (declared, max) in [
            ("int(11)", i64::from(i32::MAX)),
            ("INT", i64::from(i32::MAX)),
            ("int(10) unsigned", i64::from(u32::MAX)),
            ("int unsigned", i64::from(u32::MAX)),
            ("mediumint(9)", 8_388_607),
            ("smallint(6)", i64::from(i16::MAX)),
            ("tinyint(4)", i64::from(i8::MAX)),
            ("bigint(20)", i64::MAX),
            ("bigint unsigned", i64::MAX),
        ] {
            assert_eq!(column(declared).max_integer(Dialect::MySql), max, "{declared}");
        }
        assert_eq!(column("INTEGER").max_integer(Dialect::Sqlite), i64::MAX);
    }

    #[test]
    fn a_length_is_read_from_the_brackets_of_a_type() {
        assert_eq!(column("varchar(255)").declared_length(), Some(255));
        assert_eq!(column("VARCHAR ( 64 )").declared_length(), Some(64));
        assert_eq!(column("text").declared_length(), None);
        assert_eq!(column("decimal(10,2)").declared_length(), None);
    }
}

//! The tables as the Python service's `create_all` makes them, in the words of `SQLAlchemy`.

pub const MARIADB: &str = include_str!("../fixtures/sqlalchemy_mariadb.sql");
pub const POSTGRES: &str = include_str!("../fixtures/sqlalchemy_postgres.sql");
pub const SQLITE: &str = include_str!("../fixtures/sqlalchemy_sqlite.sql");

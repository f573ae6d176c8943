//! The contract from outside, line by line: the real binary between a broker, a database and an endpoint, on MariaDB,
//! `PostgreSQL` and SQLite with the tables of the Python service.

/// Makes a test on each database of each function that takes a `World`.
macro_rules! on_each_database {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            use test_support::world::{Backend, World};
            $(#[test] fn $test() { super::$test(World::on(Backend::MariaDb)); })*
        }
        mod postgres {
            use test_support::world::{Backend, World};
            $(#[test] fn $test() { super::$test(World::on(Backend::Postgres)); })*
        }
        mod sqlite {
            use test_support::world::{Backend, World};
            $(#[test] fn $test() { super::$test(World::on(Backend::Sqlite)); })*
        }
    };
}

/// The same for functions that choose their own broker and take the `Backend`.
macro_rules! on_each_backend {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(Backend::MariaDb); })*
        }
        mod postgres {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(Backend::Postgres); })*
        }
        mod sqlite {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(Backend::Sqlite); })*
        }
    };
}

mod broker;
pub(super) mod dead_letters;
mod deliveries;
mod files;
mod flow_faults;
mod keys;
mod lifecycle;
mod logs;
mod malformed;
mod numbering;
mod posting;
mod reload;
mod routing;
mod schema;
mod settings;
mod tutorial;
mod validation;
mod values;
mod waiting_posts;

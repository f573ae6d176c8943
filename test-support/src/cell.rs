//! Values as tests ask for them: a number is an `i64`, however wide its column is.

use sea_orm::{DbErr, QueryResult};

pub trait Cell: Sized {
    fn of(row: &QueryResult, index: usize) -> Result<Self, DbErr>;
}

impl Cell for Option<i64> {
    /// The driver of `PostgreSQL` wants to be asked for the width that the column has.
    fn of(row: &QueryResult, index: usize) -> Result<Self, DbErr> {
        let wide = row.try_get_by_index::<Option<i64>>(index);
        wide.or_else(|error| {
            row.try_get_by_index::<Option<i32>>(index).map(|narrow| narrow.map(i64::from)).map_err(|_| error)
        })
    }
}

impl Cell for i64 {
    fn of(row: &QueryResult, index: usize) -> Result<Self, DbErr> {
        Option::<i64>::of(row, index)?.ok_or_else(|| DbErr::Type(format!("column {index} is NULL")))
    }
}

macro_rules! as_the_driver_reads_it {
    ($($kind:ty),*) => {$(
        impl Cell for $kind {
            fn of(row: &QueryResult, index: usize) -> Result<Self, DbErr> {
                row.try_get_by_index(index)
            }
        }
    )*};
}

as_the_driver_reads_it!(bool, Option<bool>, i32, String, Option<String>, Vec<u8>, Option<Vec<u8>>);

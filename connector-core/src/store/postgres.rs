//! PostgreSQL, shared by replicas.

use super::sql::{Arg, Row};
use super::{StoreError, Transaction};

#[derive(Debug)]
pub(super) struct Postgres;

impl Postgres {
    pub async fn run<T: Transaction>(&self, _: T) -> Result<T::Out, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn read<T: Transaction>(&self, _: T) -> Result<T::Out, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn close(&self) {}
}

pub(super) async fn exec(
    _: &deadpool_postgres::Transaction<'_>,
    _: &str,
    _: &[Arg<'_>],
) -> Result<u64, StoreError> {
    Err(StoreError::Closed)
}
pub(super) async fn rows(
    _: &deadpool_postgres::Transaction<'_>,
    _: &str,
    _: &[Arg<'_>],
) -> Result<Vec<Row>, StoreError> {
    Err(StoreError::Closed)
}

//! The SQL that a transaction may use, the same on SQLite and PostgreSQL.
//!
//! Written for SQLite with `?1` parameters; for PostgreSQL the parameters and, in `CREATE`, the types are replaced.
//! What keeps a statement portable: `ON CONFLICT` with the table named in its `SET` (`SET n = counter.n + 1`),
//! `RETURNING`, `coalesce`, `CAST(sum(..) AS BIGINT)`, comparisons instead of numbers as conditions. After a statement
//! failed the transaction is rolled back, whatever its code makes of the error.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::StoreError;
use super::crypt::Crypt;
use super::postgres;

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A whole number, also for truth (0, 1).
    Int(i64),
    /// Bytes.
    Blob(&'a [u8]),
    /// A digest.
    Key([u8; 16]),
    /// Text.
    Text(&'a str),
    /// Nothing.
    Null,
}

macro_rules! arg_from {
    ($($from:ty => |$v:ident| $make:expr;)*) => {
        $(impl<'a> From<$from> for Arg<'a> {
            fn from($v: $from) -> Self {
                $make
            }
        })*
    };
}

arg_from! {
    i64 => |v| Arg::Int(v);
    i32 => |v| Arg::Int(v.into());
    u32 => |v| Arg::Int(v.into());
    bool => |v| Arg::Int(v.into());
    &'a [u8] => |v| Arg::Blob(v);
    &'a Vec<u8> => |v| Arg::Blob(v);
    [u8; 16] => |v| Arg::Key(v);
    &'a [u8; 16] => |v| Arg::Key(*v);
    &'a str => |v| Arg::Text(v);
    &'a String => |v| Arg::Text(v);
}

impl<'a, T: Into<Arg<'a>>> From<Option<T>> for Arg<'a> {
    fn from(v: Option<T>) -> Self {
        v.map_or(Arg::Null, Into::into)
    }
}

/// Parameters of a statement, in order: `&args![seq, "name", None::<i64>]`.
macro_rules! args {
    ($($v:expr),* $(,)?) => { [$($crate::store::Arg::from($v)),*] };
}
pub(crate) use args;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Blob(Vec<u8>),
    Text(String),
    Null,
}

impl Value {
    pub fn of(arg: Arg<'_>) -> Self {
        match arg {
            Arg::Int(v) => Value::Int(v),
            Arg::Blob(v) => Value::Blob(v.to_vec()),
            Arg::Key(v) => Value::Blob(v.to_vec()),
            Arg::Text(v) => Value::Text(v.to_owned()),
            Arg::Null => Value::Null,
        }
    }

    pub fn as_arg(&self) -> Arg<'_> {
        match self {
            Value::Int(v) => Arg::Int(*v),
            Value::Blob(v) => Arg::Blob(v),
            Value::Text(v) => Arg::Text(v),
            Value::Null => Arg::Null,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "a number",
            Value::Blob(_) => "bytes",
            Value::Text(_) => "text",
            Value::Null => "nothing",
        }
    }
}

/// A row of an answer; columns by index from 0.
pub struct Row(pub(super) Vec<Value>);

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({} columns)", self.0.len())
    }
}

impl Row {
    fn wrong(&self, index: usize, wanted: &'static str) -> StoreError {
        let found = self.0.get(index).map_or("no such column", Value::kind);
        StoreError::Column { index, wanted, found }
    }

    fn or_null<'a, T>(
        &'a self,
        index: usize,
        get: impl Fn(&'a Self, usize) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.0.get(index) {
            Some(Value::Null) => Ok(None),
            _ => get(self, index).map(Some),
        }
    }

    pub(super) fn value(&self, index: usize) -> Result<&Value, StoreError> {
        self.0.get(index).ok_or_else(|| self.wrong(index, "a value"))
    }

    /// A number.
    pub fn int(&self, index: usize) -> Result<i64, StoreError> {
        match self.0.get(index) {
            Some(Value::Int(v)) => Ok(*v),
            _ => Err(self.wrong(index, "a number")),
        }
    }

    /// A number or null.
    pub fn opt_int(&self, index: usize) -> Result<Option<i64>, StoreError> {
        self.or_null(index, Self::int)
    }

    /// A number that is not 0.
    pub fn flag(&self, index: usize) -> Result<bool, StoreError> {
        self.int(index).map(|v| v != 0)
    }

    /// Bytes.
    pub fn blob(&self, index: usize) -> Result<&[u8], StoreError> {
        match self.0.get(index) {
            Some(Value::Blob(v)) => Ok(v),
            _ => Err(self.wrong(index, "bytes")),
        }
    }

    /// Bytes or null.
    pub fn opt_blob(&self, index: usize) -> Result<Option<&[u8]>, StoreError> {
        self.or_null(index, Self::blob)
    }

    /// A digest.
    pub fn key(&self, index: usize) -> Result<[u8; 16], StoreError> {
        self.blob(index)?.try_into().map_err(|_| self.wrong(index, "16 bytes"))
    }

    /// A digest or null.
    pub fn opt_key(&self, index: usize) -> Result<Option<[u8; 16]>, StoreError> {
        self.or_null(index, Self::key)
    }

    /// Text.
    pub fn text(&self, index: usize) -> Result<&str, StoreError> {
        match self.0.get(index) {
            Some(Value::Text(v)) => Ok(v),
            _ => Err(self.wrong(index, "text")),
        }
    }

    /// Text or null.
    pub fn opt_text(&self, index: usize) -> Result<Option<&str>, StoreError> {
        self.or_null(index, Self::text)
    }
}

pub(super) enum Engine<'a> {
    Sqlite(&'a mut rusqlite::Connection),
    Postgres(&'a deadpool_postgres::Transaction<'a>),
}

/// A transaction that is being run.
pub struct Tx<'a> {
    engine: Engine<'a>,
    crypt: &'a Crypt,
    now: i64,
    tick: Option<i64>,
    notify: bool,
    failed: Option<StoreError>,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(engine: Engine<'a>, crypt: &'a Crypt, now: i64) -> Self {
        Self { engine, crypt, now, tick: None, notify: false, failed: None }
    }

    /// What the engine made of the transaction that ended with `out`; the flag asks to wake those who wait for work.
    pub(super) fn end<T>(self, out: Result<T, StoreError>) -> Result<(T, bool), StoreError> {
        match (self.failed, out) {
            (Some(failed), _) => Err(failed),
            (None, out) => out.map(|out| (out, self.notify)),
        }
    }

    /// Runs a statement; the number of rows it touched.
    pub async fn exec(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        let done = match &mut self.engine {
            Engine::Sqlite(connection) => sqlite_exec(connection, sql, args),
            Engine::Postgres(tx) => postgres::exec(tx, &portable(sql), args).await,
        };
        self.keep(done)
    }

    /// Runs a query, or a statement with `RETURNING`; all its rows.
    pub async fn rows(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>, StoreError> {
        let done = match &mut self.engine {
            Engine::Sqlite(connection) => sqlite_rows(connection, sql, args),
            Engine::Postgres(tx) => postgres::rows(tx, &portable(sql), args).await,
        };
        self.keep(done)
    }

    /// Runs a query, or a statement with `RETURNING`, that gives at most one row.
    pub async fn row(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// When the transaction began, in milliseconds since 1970: by the engine's clock, or by the database's if several
    /// replicas share it.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The number of this transaction; later ones that ask get higher ones.
    pub async fn tick(&mut self) -> Result<i64, StoreError> {
        if let Some(tick) = self.tick {
            return Ok(tick);
        }
        let row = self.row("UPDATE tick SET n = n + 1 WHERE one = 1 RETURNING n", &[]).await?;
        let tick = row.ok_or(StoreError::Damaged("the row of table tick is missing"))?.int(0)?;
        self.tick = Some(tick);
        Ok(tick)
    }

    /// Seals, opens and digests.
    pub fn crypt(&self) -> &'a Crypt {
        self.crypt
    }

    /// Wakes [`Store::wait_for_work`](super::Store::wait_for_work) everywhere once this is committed.
    pub fn notify(&mut self) {
        self.notify = true;
    }

    /// Whether other replicas may run beside this one.
    pub fn is_postgres(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    fn keep<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &done {
            self.failed.get_or_insert_with(|| error.clone());
        }
        done
    }
}

fn sqlite_exec(connection: &rusqlite::Connection, sql: &str, args: &[Arg<'_>]) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.execute(rusqlite::params_from_iter(args))? as u64)
}

fn sqlite_rows(
    connection: &rusqlite::Connection,
    sql: &str,
    args: &[Arg<'_>],
) -> Result<Vec<Row>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(args))?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(Row((0..columns)
            .map(|i| row.get_ref(i).map_err(StoreError::from).and_then(from_sqlite))
            .collect::<Result<_, _>>()?));
    }
    Ok(out)
}

fn from_sqlite(value: rusqlite::types::ValueRef<'_>) -> Result<Value, StoreError> {
    use rusqlite::types::ValueRef;
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::Int(v),
        ValueRef::Blob(v) => Value::Blob(v.to_vec()),
        ValueRef::Text(v) => Value::Text(String::from_utf8_lossy(v).into_owned()),
        ValueRef::Real(_) => {
            return Err(StoreError::Damaged("a query gave a fraction; the store keeps none"));
        }
    })
}

impl rusqlite::ToSql for Arg<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Arg::Int(v) => ValueRef::Integer(*v),
            Arg::Blob(v) => ValueRef::Blob(v),
            Arg::Key(v) => ValueRef::Blob(v),
            Arg::Text(v) => ValueRef::Text(v.as_bytes()),
            Arg::Null => ValueRef::Null,
        }))
    }
}

/// The statement as PostgreSQL takes it; each is put together once.
fn portable(sql: &'static str) -> Arc<str> {
    static DONE: LazyLock<RwLock<HashMap<&'static str, Arc<str>>>> = LazyLock::new(RwLock::default);
    if let Some(done) = DONE.read().unwrap_or_else(PoisonError::into_inner).get(sql) {
        return done.clone();
    }
    let made: Arc<str> = for_postgres(sql).into();
    DONE.write().unwrap_or_else(PoisonError::into_inner).entry(sql).or_insert(made).clone()
}

fn for_postgres(sql: &str) -> String {
    let sql: Cow<'_, str> = if sql.trim_start().starts_with("CREATE TABLE") {
        let columns = sql.rsplit_once(')').map_or(sql, |(columns, _)| columns);
        format!("{columns})").replace("INTEGER", "BIGINT").replace("BLOB", "BYTEA").into()
    } else {
        sql.into()
    };
    sql.replace('?', "$")
}

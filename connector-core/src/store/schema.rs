//! The tables, their numbered format and how an older one becomes the present one.
//!
//! A store of the present format or the one before opens, the older one being brought up in one transaction; a newer
//! one and one still older are refused and left as they are.

use async_trait::async_trait;

use super::crypt::{Crypt, CryptError, StoreKey};
use super::sql::{Arg, Tx};
use super::{StoreError, Transaction, args};

/// The statements that make format `index + 1` out of the one before.
type Migration = &'static [&'static str];

const MIGRATIONS: &[Migration] = &[&[
    "CREATE TABLE tick(one INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
    "INSERT INTO tick(one, n) VALUES (1, 0)",
    "CREATE TABLE counter(name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE cursor(feed TEXT PRIMARY KEY, position BLOB, pass INTEGER NOT NULL, due INTEGER NOT NULL,
        moved INTEGER NOT NULL, began INTEGER NOT NULL, took INTEGER) STRICT, WITHOUT ROWID",
    "CREATE TABLE seen(record BLOB PRIMARY KEY, system TEXT NOT NULL, digest BLOB NOT NULL, read_at INTEGER NOT NULL,
        feed INTEGER, pass INTEGER, id BLOB) STRICT, WITHOUT ROWID",
    "CREATE TABLE refresh(record BLOB PRIMARY KEY, system TEXT NOT NULL, id BLOB NOT NULL, asked INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
    "CREATE TABLE halt(system TEXT PRIMARY KEY, probe INTEGER NOT NULL, pause INTEGER NOT NULL, why TEXT NOT NULL,
        since INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE outbox(seq INTEGER PRIMARY KEY, once BLOB UNIQUE, target TEXT NOT NULL, destination TEXT NOT NULL,
        flow TEXT NOT NULL, source BLOB NOT NULL, subject BLOB NOT NULL, person BLOB NOT NULL, lane BLOB NOT NULL,
        names BLOB NOT NULL, state INTEGER NOT NULL, head INTEGER NOT NULL, plan INTEGER NOT NULL,
        creates INTEGER NOT NULL, maybe INTEGER NOT NULL, attempt INTEGER NOT NULL, first_sent INTEGER,
        first_tick INTEGER, read_at INTEGER NOT NULL, not_before INTEGER NOT NULL, share INTEGER NOT NULL,
        owner INTEGER, until INTEGER, config INTEGER NOT NULL, created INTEGER NOT NULL, tries INTEGER NOT NULL,
        reason TEXT, change BLOB, command BLOB, notes BLOB) STRICT",
    "CREATE INDEX outbox_lane ON outbox(lane, seq)",
    "CREATE INDEX outbox_due ON outbox(target, not_before) WHERE head = 1 AND state IN (0, 1, 3)",
    "CREATE INDEX outbox_source ON outbox(source)",
    "CREATE INDEX outbox_person ON outbox(person)",
    "CREATE INDEX outbox_creates ON outbox(target) WHERE creates = 1",
    "CREATE INDEX outbox_state ON outbox(state) WHERE state IN (2, 4, 5, 6)",
    "CREATE TABLE need(record BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(record, seq)) STRICT, WITHOUT ROWID",
    "CREATE INDEX need_seq ON need(seq)",
    "CREATE TABLE name(name BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX name_seq ON name(seq)",
    "CREATE TABLE ledger(once BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE sent(source BLOB PRIMARY KEY, digest BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE link(record BLOB PRIMARY KEY, person BLOB NOT NULL, system TEXT NOT NULL, id BLOB NOT NULL,
        rule TEXT NOT NULL, state TEXT NOT NULL, at INTEGER NOT NULL, base BLOB) STRICT, WITHOUT ROWID",
    "CREATE INDEX link_person ON link(person)",
    "CREATE TABLE decision(pair BLOB PRIMARY KEY, verdict TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL)
        STRICT, WITHOUT ROWID",
    "CREATE TABLE review(id INTEGER PRIMARY KEY, seq INTEGER, kind TEXT NOT NULL, pair BLOB, evidence BLOB,
        opened INTEGER NOT NULL, decided INTEGER, verdict TEXT, who TEXT) STRICT",
    "CREATE INDEX review_seq ON review(seq)",
    "CREATE INDEX review_open ON review(opened) WHERE decided IS NULL",
    "CREATE TABLE conflict(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, record BLOB NOT NULL, field TEXT NOT NULL,
        body BLOB NOT NULL) STRICT",
    "CREATE TABLE attempt(seq INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, status TEXT NOT NULL,
        ms INTEGER NOT NULL, PRIMARY KEY(seq, n)) STRICT, WITHOUT ROWID",
    "CREATE TABLE delivery(identity BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE unreadable(record BLOB PRIMARY KEY, system TEXT NOT NULL, id BLOB NOT NULL, reason TEXT NOT NULL,
        at INTEGER NOT NULL, body BLOB) STRICT, WITHOUT ROWID",
]];

/// A column that holds sealed values; its name is what they are sealed for.
pub(super) struct Sealed {
    pub column: &'static str,
    /// Before the first key.
    pub first: Arg<'static>,
    /// Some keys and values after a key, in order of the key.
    pub page: &'static str,
    /// Puts another value in one row.
    pub put: &'static str,
}

macro_rules! sealed {
    ($($table:literal . $column:literal by $key:literal from $first:expr;)*) => {
        &[$(Sealed {
            column: concat!($table, ".", $column),
            first: $first,
            page: concat!("SELECT ", $key, ", ", $column, " FROM ", $table, " WHERE ", $key, " > ?1 AND ", $column,
                " IS NOT NULL ORDER BY ", $key, " LIMIT 256"),
            put: concat!("UPDATE ", $table, " SET ", $column, " = ?1 WHERE ", $key, " = ?2"),
        }),*]
    };
}

/// Every column with sealed values: a key rotation seals these anew, and nothing else may be sealed.
pub(super) const SEALED: &[Sealed] = sealed! {
    "cursor"."position" by "feed" from Arg::Text("");
    "seen"."id" by "record" from Arg::Blob(&[]);
    "refresh"."id" by "record" from Arg::Blob(&[]);
    "outbox"."change" by "seq" from Arg::Int(i64::MIN);
    "outbox"."command" by "seq" from Arg::Int(i64::MIN);
    "outbox"."notes" by "seq" from Arg::Int(i64::MIN);
    "link"."id" by "record" from Arg::Blob(&[]);
    "review"."evidence" by "id" from Arg::Int(i64::MIN);
    "conflict"."body" by "id" from Arg::Int(i64::MIN);
    "unreadable"."id" by "record" from Arg::Blob(&[]);
    "unreadable"."body" by "record" from Arg::Blob(&[]);
};

/// Makes or brings up the tables and checks the key; the secrets of the store, unless it was made just now.
pub(super) struct Setup {
    pub key: Option<StoreKey>,
    /// Whether a key rotation that was not ended is all right, because it is about to be ended.
    pub rotating: bool,
}

#[async_trait]
impl Transaction for Setup {
    type Out = Option<Crypt>;
    const NAME: &'static str = "setup";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Option<Crypt>, StoreError> {
        tx.exec("CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value BLOB NOT NULL)", &[]).await?;
        bring_up(tx, MIGRATIONS).await?;
        if !self.rotating && meta(tx, "digest-key-next").await?.is_some() {
            return Err(CryptError::HalfRotated.into());
        }
        match meta(tx, "digest-key").await? {
            Some(sealed) => Ok(Some(Crypt::unlock(self.key.as_ref(), &sealed)?)),
            None => {
                let sealed = tx.crypt().locked();
                put_meta(tx, "digest-key", &sealed).await?;
                Ok(None)
            }
        }
    }
}

async fn bring_up(tx: &mut Tx<'_>, migrations: &[Migration]) -> Result<(), StoreError> {
    let present = migrations.len();
    let found = match meta(tx, "format").await? {
        None => 0,
        Some(text) => std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(StoreError::Damaged("the format in table meta is not a number"))?,
    };
    if found > present {
        return Err(StoreError::Newer { found, known: present });
    }
    if found != 0 && found + 1 < present {
        return Err(StoreError::Older { found, known: present - 1 });
    }
    for migration in migrations.iter().skip(found) {
        for statement in *migration {
            tx.exec(statement, &[]).await?;
        }
    }
    put_meta(tx, "format", present.to_string().as_bytes()).await
}

pub(super) async fn meta(tx: &mut Tx<'_>, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row = tx.row("SELECT value FROM meta WHERE name = ?1", &args![name]).await?;
    row.map(|row| row.blob(0).map(<[u8]>::to_vec)).transpose()
}

pub(super) async fn put_meta(tx: &mut Tx<'_>, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta(name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    tx.exec(sql, &args![name, value]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rusqlite::Connection;

    use super::super::sql::Engine;
    use super::*;

    const ONE: Migration = &["CREATE TABLE a(x INTEGER)"];
    const TWO: Migration = &["ALTER TABLE a ADD COLUMN y INTEGER"];
    const THREE: Migration = &["ALTER TABLE a ADD COLUMN z INTEGER"];

    fn up(connection: &mut Connection, migrations: &[Migration]) -> Result<(), StoreError> {
        let crypt = Crypt::fresh(None);
        let mut tx = Tx::new(Engine::Sqlite(connection), &crypt, 0);
        let out = bring_up(&mut tx, migrations).now_or_never().unwrap();
        tx.end(out).map(drop)
    }

    #[test]
    fn the_last_two_formats_are_read_and_brought_up() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB)").unwrap();
        up(&mut connection, &[ONE]).unwrap();
        up(&mut connection, &[ONE]).unwrap();
        assert!(matches!(
            up(&mut connection, &[ONE, TWO, THREE]),
            Err(StoreError::Older { found: 1, known: 2 })
        ));
        up(&mut connection, &[ONE, TWO]).unwrap();
        connection.execute("INSERT INTO a(x, y) VALUES (1, 2)", []).unwrap();
        up(&mut connection, &[ONE, TWO, THREE]).unwrap();
        connection.execute("UPDATE a SET z = y", []).unwrap();
        assert!(matches!(up(&mut connection, &[ONE, TWO]), Err(StoreError::Newer { found: 3, known: 2 })));
    }
}

//! A store as it looks after a year at a site, made in a minute: records seen, effects settled, people linked, and rows
//! that wait for a partner.
//!
//! Open rows go through the core's own transaction. The others are written in the order of their keys, as a store that
//! was vacuumed would hold them, with digests and seals of the store itself.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use connector_core::change::{Body, Change, RecordId};
use connector_core::clock::SystemClock;
use connector_core::outbox::{Accept, Base, Item, Key, Keys, NewRow};
use connector_core::rules::Rules;
use connector_core::store::{
    Arg, Crypt, Place, Store, StoreError, StoreOptions, Transaction, Tx, make_key_file,
};
use serde_json::json;

/// Rows of one transaction.
const TOGETHER: usize = 20_000;

/// How many of each.
#[derive(Clone, Copy)]
pub struct Filling {
    pub seen: usize,
    pub ledger: usize,
    pub links: usize,
    pub open: usize,
}

/// Makes `store.key` in the folder and the store of the bridge `bench` below it.
pub async fn fill(folder: &Path, filling: Filling) -> Result<()> {
    let key = make_key_file(&folder.join("store.key"))?;
    std::fs::create_dir_all(folder.join("store"))?;
    let place = Place::Sqlite { path: folder.join("store/bench.sqlite") };
    let store = Store::open(&StoreOptions { place, key: Some(key) }, Arc::new(SystemClock::new())).await?;
    let crypt = store.crypt();

    let seen = (0..filling.seen).map(|n| Keys(crypt).record(&person("cht", n)));
    write(&store, Table::Seen, sorted(seen.map(|key| (key, vec![])))).await?;
    let once = |n| Keys(crypt).once(&format!("template//messaging/cht/report/{n}/sent"));
    write(&store, Table::Ledger, sorted((0..filling.ledger).map(|n| (once(n), vec![])))).await?;
    let ends = (0..filling.links).flat_map(|n| [end(crypt, "cht", n), end(crypt, "template", n)]);
    write(&store, Table::Link, sorted(ends)).await?;

    for first in (0..filling.open).step_by(1000) {
        let items = (first..filling.open.min(first + 1000)).map(|n| open(crypt, n)).collect();
        let accept = Accept {
            feed: None,
            began: 0,
            items,
            unread: vec![],
            refresh: vec![],
            answered: vec![],
            config: 0,
            rules: Rules::all(),
        };
        store.run(accept).await?;
    }
    store.run(Postpone).await?;
    store.close().await;
    Ok(())
}

fn person(system: &str, n: usize) -> RecordId {
    RecordId::person(system, format!("{n:08x}-5f1c-4000-8000-{n:012x}"))
}

/// A row's key, and what else the table holds of it.
type Line = (Key, Vec<Vec<u8>>);

fn sorted(lines: impl Iterator<Item = Line>) -> Vec<Line> {
    let mut lines: Vec<Line> = lines.collect();
    lines.sort_unstable();
    lines
}

/// One end of a link, with the base of six fields.
fn end(crypt: &Crypt, system: &str, n: usize) -> Line {
    let (keys, id) = (Keys(crypt), person(system, n));
    let fields = ["name", "sex", "birth_date", "phone", "address.village", "identifier.national"];
    let base: Base =
        fields.iter().map(|f| ((*f).to_owned(), (keys.value(f, &n.to_string()), n as i64))).collect();
    let sealed = crypt.seal("link.id", &serde_json::to_vec(&id).unwrap_or_default());
    let rest = vec![
        keys.record(&person("cht", n)).to_vec(),
        system.as_bytes().to_vec(),
        sealed,
        serde_json::to_vec(&base).unwrap_or_default(),
    ];
    (keys.record(&id), rest)
}

/// A document of 1 KiB on its way to the partner.
fn open(crypt: &Crypt, n: usize) -> Item {
    let id = person("cht", usize::MAX / 2 + n);
    let document = json!({ "_id": id.id, "type": "person", "name": "Open", "notes": "x".repeat(900) });
    let row = NewRow {
        target: "template".into(),
        destination: String::new(),
        exclusive: vec![],
        change: Change::state(id.clone(), Body::Document(document)),
    };
    Item { digest: Keys(crypt).content(id.id.as_bytes()), id, rows: vec![row], delivery: None, asked: None }
}

#[derive(Clone, Copy)]
enum Table {
    Seen,
    Ledger,
    Link,
}

async fn write(store: &Store, table: Table, mut lines: Vec<Line>) -> Result<()> {
    while !lines.is_empty() {
        let rest = lines.split_off(lines.len().min(TOGETHER));
        store.run(Insert { table, lines: std::mem::replace(&mut lines, rest) }).await?;
    }
    Ok(())
}

struct Insert {
    table: Table,
    lines: Vec<Line>,
}

#[async_trait]
impl Transaction for Insert {
    type Out = ();
    const NAME: &'static str = "bench-fill";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let now = tx.now();
        for (key, rest) in &self.lines {
            let (sql, args): (_, Vec<Arg<'_>>) = match (self.table, rest.as_slice()) {
                (Table::Seen, _) => (
                    "INSERT INTO seen (record, system, digest, read_at, feed, pass, id) \
                     VALUES (?1, 'cht', ?1, 1, NULL, NULL, NULL)",
                    vec![key.into()],
                ),
                (Table::Ledger, _) => {
                    ("INSERT INTO ledger (once, at) VALUES (?1, ?2)", vec![key.into(), now.into()])
                }
                (Table::Link, [person, system, id, base]) => (
                    "INSERT INTO link (record, person, system, id, rule, state, at, base) \
                     VALUES (?1, ?2, ?3, ?4, 'rule', 'active', ?5, ?6)",
                    vec![
                        key.into(),
                        person.into(),
                        std::str::from_utf8(system).unwrap_or_default().into(),
                        id.into(),
                        now.into(),
                        base.into(),
                    ],
                ),
                (Table::Link, _) => continue,
            };
            tx.exec(sql, &args).await?;
        }
        Ok(())
    }
}

/// All open rows have failed and come again tomorrow, as after a long outage.
struct Postpone;

#[async_trait]
impl Transaction for Postpone {
    type Out = ();
    const NAME: &'static str = "bench-postpone";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let tomorrow = tx.now() + 86_400_000;
        tx.exec("UPDATE outbox SET not_before = ?1, tries = 12", &[tomorrow.into()]).await?;
        Ok(())
    }
}

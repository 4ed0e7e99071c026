//! What operators look through: the links and the unreadable, in pages; and a record that is to be read again.

use async_trait::async_trait;
use serde::Serialize;

use super::feeds::ask;
use super::keys::{Key, Keys, hex};
use crate::change::RecordId;
use crate::store::{StoreError, Transaction, Tx};

/// One end of a link, as operators see it. Its id may be personal data.
#[derive(Clone, Debug, Serialize)]
pub struct LinkedRecord {
    /// The person's key, the same at all ends.
    pub person: String,
    /// The record.
    pub record: RecordId,
    /// How it was found: `rule`, `match`, `review`.
    pub rule: String,
    /// `active`, `merged` or `gone`.
    pub state: String,
    /// Since when, in milliseconds since 1970.
    pub at: i64,
}

/// Lists links by the person's key.
#[derive(Clone, Copy, Debug)]
pub struct ListLinks {
    /// Keys above this one.
    pub after: Key,
    /// Most people.
    pub limit: i64,
}

#[async_trait]
impl Transaction for ListLinks {
    /// The ends, and where the next page begins if there may be one.
    type Out = (Vec<LinkedRecord>, Option<Key>);
    const NAME: &'static str = "list-links";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let people = tx
            .rows(
                "SELECT DISTINCT person FROM link WHERE person > ?1 ORDER BY person LIMIT ?2",
                &[(&self.after).into(), self.limit.into()],
            )
            .await?;
        let mut out = vec![];
        let mut last = None;
        for row in &people {
            let person = row.key(0)?;
            let ends = tx
                .rows(
                    "SELECT id, rule, state, at FROM link WHERE person = ?1 ORDER BY system",
                    &[(&person).into()],
                )
                .await?;
            for r in &ends {
                out.push(LinkedRecord {
                    person: hex(&person),
                    record: tx.crypt().open_json("link.id", r.blob(0)?)?,
                    rule: r.text(1)?.to_owned(),
                    state: r.text(2)?.to_owned(),
                    at: r.int(3)?,
                });
            }
            last = Some(person);
        }
        let full = i64::try_from(people.len()).is_ok_and(|n| n == self.limit);
        Ok((out, last.filter(|_| full)))
    }
}

/// Has a record fetched and taken in again, whatever was known of it.
#[derive(Clone, Debug)]
pub struct FetchAgain {
    /// The record.
    pub record: RecordId,
}

#[async_trait]
impl Transaction for FetchAgain {
    type Out = ();
    const NAME: &'static str = "fetch-again";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        let key = Keys(tx.crypt()).record(&self.record);
        tx.exec("UPDATE seen SET digest = ?2 WHERE record = ?1", &[(&key).into(), [0; 16].as_slice().into()])
            .await?;
        let tick = tx.tick().await?;
        ask(tx, &self.record, tick).await
    }
}

/// A row of a feed that could not be read. Its id may be personal data.
#[derive(Clone, Debug, Serialize)]
pub struct UnreadableRow {
    /// Its name, as far as it could be made out.
    pub record: RecordId,
    /// What is wrong, by path.
    pub reason: String,
    /// When it was met, in milliseconds since 1970.
    pub at: i64,
}

/// Lists what could not be read, the oldest first.
#[derive(Clone, Copy, Debug)]
pub struct ListUnreadable {
    /// Most entries.
    pub limit: i64,
}

#[async_trait]
impl Transaction for ListUnreadable {
    type Out = Vec<UnreadableRow>;
    const NAME: &'static str = "list-unreadable";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx
            .rows("SELECT id, reason, at FROM unreadable ORDER BY at LIMIT ?1", &[self.limit.into()])
            .await?;
        rows.iter()
            .map(|r| {
                Ok(UnreadableRow {
                    record: tx.crypt().open_json("unreadable.id", r.blob(0)?)?,
                    reason: r.text(1)?.to_owned(),
                    at: r.int(2)?,
                })
            })
            .collect()
    }
}

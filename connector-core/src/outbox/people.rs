//! What planning asks about people: open creates, attempts in the other direction, decisions, lost values.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::keys::{Key, Keys};
use crate::change::RecordId;
use crate::store::{StoreError, Transaction, Tx};

/// Whether a create towards this system, claimed before a record of it was read, is still open: the record may be
/// that create (I8).
#[derive(Clone, Debug)]
pub struct OpenCreates {
    /// The record's system.
    pub system: String,
    /// The transaction before the record was read.
    pub read_at: i64,
}

#[async_trait]
impl Transaction for OpenCreates {
    type Out = bool;
    const NAME: &'static str = "open-creates";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let row = tx
            .row(
                "SELECT 1 FROM outbox WHERE state IN (0, 1, 2, 3, 5) AND target = ?1 AND creates = 1 AND first_tick > 0 AND first_tick <= ?2 \
                 AND (state IN (2, 3) OR maybe = 1 OR notes IS NOT NULL) LIMIT 1",
                &[self.system.as_str().into(), self.read_at.into()],
            )
            .await?;
        Ok(row.is_some())
    }
}

/// Whether a change of this record was read after another reading.
#[derive(Clone, Debug)]
pub struct NewerEdit {
    /// The record.
    pub source: Key,
    /// The transaction before the other reading.
    pub than: i64,
}

#[async_trait]
impl Transaction for NewerEdit {
    type Out = bool;
    const NAME: &'static str = "newer-edit";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let row = tx
            .row(
                "SELECT 1 FROM outbox WHERE source = ?1 AND read_at > ?2 LIMIT 1",
                &[(&self.source).into(), self.than.into()],
            )
            .await?;
        Ok(row.is_some())
    }
}

/// Whether the person has an open attempt in another lane.
pub(super) async fn open_elsewhere(tx: &mut Tx<'_>, person: &Key, lane: &Key) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 FROM outbox WHERE person = ?1 AND lane <> ?2 AND state IN (2, 3) LIMIT 1",
            &[person.into(), lane.into()],
        )
        .await?;
    Ok(row.is_some())
}

/// What people decided about pairs: `same` or `different`, in the order of the candidates.
#[derive(Clone, Debug)]
pub struct Decisions {
    /// The person.
    pub person: RecordId,
    /// Those who may be the same.
    pub candidates: Vec<RecordId>,
}

#[async_trait]
impl Transaction for Decisions {
    type Out = Vec<Option<String>>;
    const NAME: &'static str = "decisions";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let mut out = Vec::with_capacity(self.candidates.len());
        for candidate in &self.candidates {
            let keys = Keys(tx.crypt());
            let pair = keys.pair(&keys.record(&self.person), &keys.record(candidate));
            let row = tx.row("SELECT verdict FROM decision WHERE pair = ?1", &[(&pair).into()]).await?;
            out.push(row.map(|r| r.text(0).map(str::to_owned)).transpose()?);
        }
        Ok(out)
    }
}

/// Both ends moved a field; one value was not written, and is kept.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The field.
    pub field: String,
    /// The value that was not written or was overwritten.
    pub lost: String,
    /// The value that stands.
    pub kept: String,
    /// The policy that decided.
    pub policy: String,
}

impl std::fmt::Debug for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conflict")
            .field("field", &self.field)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

pub(super) async fn keep_conflict(
    tx: &mut Tx<'_>,
    record: &Key,
    conflict: &Conflict,
) -> Result<(), StoreError> {
    let body = tx.crypt().seal_json("conflict.body", conflict)?;
    let id = super::enqueue::numbers(tx, 1).await?;
    tx.exec(
        "INSERT INTO conflict (id, at, record, field, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[id.into(), tx.now().into(), record.into(), conflict.field.as_str().into(), body.as_slice().into()],
    )
    .await?;
    Ok(())
}

/// The conflict log, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Conflicts {
    /// Ids above this one.
    pub after: i64,
    /// Most entries.
    pub limit: i64,
}

#[async_trait]
impl Transaction for Conflicts {
    type Out = Vec<(i64, i64, Conflict)>;
    const NAME: &'static str = "conflicts";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx
            .rows(
                "SELECT id, at, body FROM conflict WHERE id > ?1 ORDER BY id LIMIT ?2",
                &[self.after.into(), self.limit.into()],
            )
            .await?;
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            out.push((r.int(0)?, r.int(1)?, tx.crypt().open_json("conflict.body", r.blob(2)?)?));
        }
        Ok(out)
    }
}

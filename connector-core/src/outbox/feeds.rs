//! Where each feed stands, and what is to be fetched.

use async_trait::async_trait;
use serde::Serialize;

use super::keys::{Key, Keys};
use crate::change::RecordId;
use crate::store::{StoreError, Transaction, Tx};

/// Where a feed stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The position, or `None` at the feed's beginning.
    pub position: Option<String>,
    /// Number of the pass under way; 0 for a first pass that only takes note of what is there.
    pub pass: i64,
    /// When the next poll is due.
    pub due: i64,
    /// The transaction that last moved it: what it must not have moved past meanwhile.
    pub moved: i64,
    /// When the pass under way began, in milliseconds since 1970.
    pub began: i64,
}

/// Reads a feed's cursor, and the number of the last transaction that asked for one.
#[derive(Clone, Debug)]
pub struct LoadCursor {
    /// `system/feed`.
    pub feed: String,
}

#[async_trait]
impl Transaction for LoadCursor {
    type Out = (Option<Cursor>, i64);
    const NAME: &'static str = "load-cursor";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let tick = present_tick(tx).await?;
        let row = tx
            .row(
                "SELECT position, pass, due, moved, began FROM cursor WHERE feed = ?1",
                &[self.feed.as_str().into()],
            )
            .await?;
        let Some(row) = row else { return Ok((None, tick)) };
        let position = row.opt_blob(0)?.map(|p| tx.crypt().open_json("cursor.position", p)).transpose()?;
        let (pass, due, moved, began) = (row.int(1)?, row.int(2)?, row.int(3)?, row.int(4)?);
        Ok((Some(Cursor { position, pass, due, moved, began }), tick))
    }
}

/// How far a feed is, for whoever looks at the connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedState {
    /// `system/feed`.
    pub feed: String,
    /// Number of the pass under way.
    pub pass: i64,
    /// When the next poll is due, in milliseconds since 1970.
    pub due: i64,
    /// How long the last whole pass took, in milliseconds: so long can an edit stay unseen that moves no stamp.
    pub last_pass_ms: Option<i64>,
}

/// Lists the feeds.
#[derive(Clone, Copy, Debug)]
pub struct ListFeeds;

#[async_trait]
impl Transaction for ListFeeds {
    type Out = Vec<FeedState>;
    const NAME: &'static str = "list-feeds";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx.rows("SELECT feed, pass, due, took FROM cursor ORDER BY feed", &[]).await?;
        let mut out = Vec::with_capacity(rows.len());
        for row in &rows {
            out.push(FeedState {
                feed: row.text(0)?.to_owned(),
                pass: row.int(1)?,
                due: row.int(2)?,
                last_pass_ms: row.opt_int(3)?,
            });
        }
        Ok(out)
    }
}

async fn present_tick(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    tx.row("SELECT n FROM tick WHERE one = 1", &[]).await?.map_or(Ok(0), |r| r.int(0))
}

/// The number of the last transaction that changed something.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

#[async_trait]
impl Transaction for Tick {
    type Out = i64;
    const NAME: &'static str = "tick";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<i64, StoreError> {
        present_tick(tx).await
    }
}

/// The last accepted digests of these records, to leave out what did not change before it is translated.
#[derive(Clone, Debug)]
pub struct SeenDigests {
    /// Record keys.
    pub records: Vec<Key>,
}

#[async_trait]
impl Transaction for SeenDigests {
    type Out = Vec<Option<Key>>;
    const NAME: &'static str = "seen-digests";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let mut out = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let row = tx.row("SELECT digest FROM seen WHERE record = ?1", &[record.into()]).await?;
            out.push(row.map(|r| r.key(0)).transpose()?);
        }
        Ok(out)
    }
}

/// Records of a system that are to be fetched, with the mark by which the request is recognised afterwards.
#[derive(Clone, Debug)]
pub struct DueRefresh {
    /// The system.
    pub system: String,
    /// Most records.
    pub limit: i64,
}

#[async_trait]
impl Transaction for DueRefresh {
    type Out = (Vec<(RecordId, i64)>, i64);
    const NAME: &'static str = "due-refresh";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let tick = present_tick(tx).await?;
        let rows = tx
            .rows(
                "SELECT id, asked FROM refresh WHERE system = ?1 LIMIT ?2",
                &[self.system.as_str().into(), self.limit.into()],
            )
            .await?;
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            out.push((tx.crypt().open_json("refresh.id", r.blob(0)?)?, r.int(1)?));
        }
        Ok((out, tick))
    }
}

/// Notes that a record is to be fetched.
pub(super) async fn ask(tx: &mut Tx<'_>, id: &RecordId, tick: i64) -> Result<(), StoreError> {
    let key = Keys(tx.crypt()).record(id);
    let sealed = tx.crypt().seal_json("refresh.id", id)?;
    tx.exec(
        "INSERT INTO refresh (record, system, id, asked) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (record) DO UPDATE SET asked = excluded.asked",
        &[(&key).into(), id.system.as_str().into(), sealed.as_slice().into(), tick.into()],
    )
    .await?;
    tx.notify();
    Ok(())
}

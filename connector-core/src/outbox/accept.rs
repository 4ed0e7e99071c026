//! Accept: records, their rows and the cursor in one transaction (I1).

use async_trait::async_trait;

use super::enqueue::{NewRow, enqueue, numbers};
use super::feeds::{Cursor, ask};
use super::keys::{Key, Keys};
use crate::change::RecordId;
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// A feed moves on.
#[derive(Clone, Debug)]
pub struct FeedMove {
    /// `system/feed`.
    pub feed: String,
    /// The cursor that was read before the poll; another one there now means another reader, and nothing is stored.
    pub from: Option<Cursor>,
    /// Where the next poll begins.
    pub to: Cursor,
    /// For a rolling pass: the number of the feed among the system's feeds.
    pub whole: Option<i64>,
    /// How long the pass took, in milliseconds, if it ends here.
    pub took: Option<i64>,
}

/// One record that was read.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub id: RecordId,
    /// Digest of its content, gone or not.
    pub digest: Key,
    /// What it stands for; empty for what is only taken note of.
    pub rows: Vec<NewRow>,
    /// How its delivery is recognised when it is pushed again.
    pub delivery: Option<Key>,
    /// The mark of the request to fetch it, when this reading answers one.
    pub asked: Option<i64>,
}

/// A row of a feed that could not be read: a dead letter.
#[derive(Clone, Debug)]
pub struct Unread {
    /// Its name.
    pub id: RecordId,
    /// What is wrong; holds no values.
    pub reason: String,
    /// The raw body, where it can't be read again.
    pub body: Option<Vec<u8>>,
}

/// Stores what was read.
#[derive(Clone, Debug)]
pub struct Accept {
    /// The feed, when it was polled.
    pub feed: Option<FeedMove>,
    /// The number of the last transaction before the reading began.
    pub began: i64,
    /// What was read.
    pub items: Vec<Item>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// To be fetched.
    pub refresh: Vec<RecordId>,
    /// Asked for and found nowhere, never seen: nothing to do but to forget the question.
    pub answered: Vec<(RecordId, i64)>,
    /// Digest of the configuration.
    pub config: i64,
    /// Which rules hold.
    pub rules: Rules,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Records that were new or changed.
    pub changed: usize,
    /// Rows they stand for.
    pub rows: usize,
    /// Records that are to be fetched.
    pub asked: usize,
    /// Another replica moved the feed meanwhile: nothing was stored.
    pub stale: bool,
}

#[async_trait]
impl Transaction for Accept {
    type Out = Accepted;
    const NAME: &'static str = "accept";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Accepted, StoreError> {
        let tick = tx.tick().await?;
        if let Some(feed) = &self.feed {
            let moved = tx
                .row("SELECT moved FROM cursor WHERE feed = ?1", &[feed.feed.as_str().into()])
                .await?
                .map(|r| r.int(0))
                .transpose()?;
            if moved != feed.from.as_ref().map(|c| c.moved) {
                return Ok(Accepted { stale: true, ..Accepted::default() });
            }
        }
        let mut out = Accepted::default();
        let mut seq = numbers(tx, self.items.iter().map(|i| i.rows.len()).sum()).await?;
        for item in &self.items {
            if self.take_in(tx, item, tick, &mut seq).await? {
                out.changed += 1;
                out.rows += item.rows.len();
            }
        }
        for unread in &self.unread {
            self.bury(tx, unread).await?;
        }
        for id in &self.refresh {
            ask(tx, id, tick).await?;
        }
        out.asked = self.refresh.len() + self.answered.len();
        for (id, asked) in &self.answered {
            answer(tx, id, *asked).await?;
        }
        if let Some(feed) = &self.feed {
            out.asked += self.advance(tx, feed, tick).await?;
        }
        Ok(out)
    }
}

impl Accept {
    /// A record enters unless it equals the last one accepted of its id. One read while another reading of it was
    /// accepted is older or newer, nobody knows: it is fetched.
    async fn take_in(
        &self,
        tx: &mut Tx<'_>,
        item: &Item,
        tick: i64,
        seq: &mut i64,
    ) -> Result<bool, StoreError> {
        if let Some(delivery) = &item.delivery {
            let fresh = tx
                .exec(
                    "INSERT INTO delivery (identity, at) VALUES (?1, ?2) ON CONFLICT (identity) DO NOTHING",
                    &[delivery.into(), tx.now().into()],
                )
                .await?;
            if fresh == 0 {
                return Ok(false);
            }
        }
        let record = Keys(tx.crypt()).record(&item.id);
        let whole =
            self.feed.as_ref().and_then(|f| Some((f.whole?, f.from.as_ref().map_or(f.to.pass, |c| c.pass))));
        // What a pass meets is mostly as it was when the last one met it.
        if let Some((feed, pass)) = whole
            && tx
                .exec(
                    "UPDATE seen SET read_at = ?3, pass = ?5 WHERE record = ?1 AND digest = ?2 AND feed = ?4",
                    &[(&record).into(), (&item.digest).into(), tick.into(), feed.into(), pass.into()],
                )
                .await?
                == 1
        {
            return Ok(false);
        }
        let seen = tx.row("SELECT digest, read_at FROM seen WHERE record = ?1", &[(&record).into()]).await?;
        let (last, read_at) = match &seen {
            Some(r) => (Some(r.key(0)?), r.int(1)?),
            None => (None, 0),
        };
        if read_at > self.began && last != Some(item.digest) {
            ask(tx, &item.id, tick).await?;
            return Ok(false);
        }
        if let Some(asked) = item.asked {
            answer(tx, &item.id, asked).await?;
        }
        let changed = last != Some(item.digest);
        match (whole, changed && last.is_none()) {
            (Some((feed, pass)), true) => {
                let id = tx.crypt().seal_json("seen.id", &item.id)?;
                tx.exec(
                    "INSERT INTO seen (record, system, digest, read_at, feed, pass, id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    &[
                        (&record).into(),
                        item.id.system.as_str().into(),
                        (&item.digest).into(),
                        tick.into(),
                        feed.into(),
                        pass.into(),
                        id.as_slice().into(),
                    ],
                )
                .await?;
            }
            (None, true) => {
                tx.exec(
                    "INSERT INTO seen (record, system, digest, read_at, feed, pass, id) VALUES (?1, ?2, ?3, ?4, NULL, NULL, NULL)",
                    &[(&record).into(), item.id.system.as_str().into(), (&item.digest).into(), tick.into()],
                )
                .await?;
            }
            (Some((feed, pass)), false) => {
                let again = tx
                    .exec(
                        "UPDATE seen SET digest = ?2, read_at = ?3, pass = ?5 WHERE record = ?1 AND feed = ?4",
                        &[(&record).into(), (&item.digest).into(), tick.into(), feed.into(), pass.into()],
                    )
                    .await?;
                if again == 0 {
                    let id = tx.crypt().seal_json("seen.id", &item.id)?;
                    tx.exec(
                        "UPDATE seen SET digest = ?2, read_at = ?3, feed = ?4, pass = ?5, id = ?6 WHERE record = ?1",
                        &[
                            (&record).into(),
                            (&item.digest).into(),
                            tick.into(),
                            feed.into(),
                            pass.into(),
                            id.as_slice().into(),
                        ],
                    )
                    .await?;
                }
            }
            (None, false) => {
                tx.exec(
                    "UPDATE seen SET digest = ?2, read_at = ?3 WHERE record = ?1",
                    &[(&record).into(), (&item.digest).into(), tick.into()],
                )
                .await?;
            }
        }
        if changed {
            tx.exec("DELETE FROM unreadable WHERE record = ?1", &[(&record).into()]).await?;
            for row in &item.rows {
                enqueue(tx, *seq, row, self.began, self.config, self.rules).await?;
                *seq += 1;
            }
        }
        Ok(changed)
    }

    async fn bury(&self, tx: &mut Tx<'_>, unread: &Unread) -> Result<(), StoreError> {
        let record = Keys(tx.crypt()).record(&unread.id);
        let id = tx.crypt().seal_json("unreadable.id", &unread.id)?;
        let body = unread.body.as_deref().map(|b| tx.crypt().seal("unreadable.body", b));
        tx.exec(
            "INSERT INTO unreadable (record, system, id, reason, at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (record) DO UPDATE SET reason = excluded.reason, at = excluded.at, body = excluded.body",
            &[
                (&record).into(),
                unread.id.system.as_str().into(),
                id.as_slice().into(),
                unread.reason.as_str().into(),
                tx.now().into(),
                body.as_deref().into(),
            ],
        )
        .await?;
        Ok(())
    }

    async fn advance(&self, tx: &mut Tx<'_>, feed: &FeedMove, tick: i64) -> Result<usize, StoreError> {
        let mut asked = 0;
        let pass = feed.from.as_ref().map_or(feed.to.pass, |c| c.pass);
        if let Some(number) = feed.whole
            && feed.took.is_some()
            && self.rules.hold(Rule::Absence)
        {
            let system = feed.feed.split('/').next().unwrap_or_default();
            let absent = tx
                .rows(
                    "SELECT id FROM seen WHERE system = ?1 AND feed = ?2 AND pass < ?3",
                    &[system.into(), number.into(), pass.into()],
                )
                .await?;
            for row in &absent {
                let id: RecordId = tx.crypt().open_json("seen.id", row.blob(0)?)?;
                ask(tx, &id, tick).await?;
                asked += 1;
            }
            tx.exec(
                "UPDATE seen SET pass = NULL WHERE system = ?1 AND feed = ?2 AND pass < ?3",
                &[system.into(), number.into(), pass.into()],
            )
            .await?;
        }
        let position =
            feed.to.position.as_ref().map(|p| tx.crypt().seal_json("cursor.position", p)).transpose()?;
        tx.exec(
            "INSERT INTO cursor (feed, position, pass, due, moved, began, took) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (feed) DO UPDATE SET position = excluded.position, pass = excluded.pass, due = excluded.due, \
             moved = excluded.moved, began = excluded.began, took = coalesce(excluded.took, cursor.took)",
            &[
                feed.feed.as_str().into(),
                position.as_deref().into(),
                feed.to.pass.into(),
                feed.to.due.into(),
                tick.into(),
                feed.to.began.into(),
                feed.took.into(),
            ],
        )
        .await?;
        Ok(asked)
    }
}

/// A request to fetch is answered, unless it was asked again meanwhile.
async fn answer(tx: &mut Tx<'_>, id: &RecordId, asked: i64) -> Result<(), StoreError> {
    let key = Keys(tx.crypt()).record(id);
    tx.exec("DELETE FROM refresh WHERE record = ?1 AND asked = ?2", &[(&key).into(), asked.into()]).await?;
    Ok(())
}

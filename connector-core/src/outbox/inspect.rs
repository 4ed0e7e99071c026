//! What operators see and do: totals, dead letters, the review queue, replay, retention, erasure.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use super::feeds::ask;
use super::keys::{Key, Keys, hex};
use super::lanes::{free_names, promote};
use super::links::{ends, set_base};
use super::people::Conflict;
use super::row::{Row, State, columns};
use super::settle::close;
use crate::change::RecordId;
use crate::rules::Rules;
use crate::store::{StoreError, Transaction, Tx};

/// Rows of one target in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The system.
    pub target: String,
    /// `queued`, `planned`, `sent`, `unknown`, `waiting`, `review`, `dead`.
    pub state: &'static str,
    /// How many.
    pub rows: i64,
    /// When the oldest of them entered, in milliseconds since 1970.
    pub oldest: i64,
}

/// Reads how many rows stand where.
#[derive(Clone, Copy, Debug)]
pub struct Totals;

#[async_trait]
impl Transaction for Totals {
    type Out = Vec<Counts>;
    const NAME: &'static str = "totals";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx
            .rows("SELECT target, state, COUNT(*), MIN(created) FROM outbox GROUP BY target, state ORDER BY target, state", &[])
            .await?;
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            out.push(Counts {
                target: r.text(0)?.to_owned(),
                state: State::from_stored(r.int(1)?)?.as_str(),
                rows: r.int(2)?,
                oldest: r.int(3)?,
            });
        }
        let unread = tx
            .rows("SELECT system, COUNT(*), MIN(at) FROM unreadable GROUP BY system ORDER BY system", &[])
            .await?;
        for r in &unread {
            out.push(Counts {
                target: r.text(0)?.to_owned(),
                state: "unreadable",
                rows: r.int(1)?,
                oldest: r.int(2)?,
            });
        }
        Ok(out)
    }
}

/// A dead letter. Its bodies stay sealed unless they are asked for.
#[derive(Clone, Debug, Serialize)]
pub struct DeadLetter {
    /// Its number.
    pub seq: i64,
    /// The system it was for.
    pub target: String,
    /// The flow.
    pub flow: String,
    /// Keyed digest of the record it came from, as it stands in logs.
    pub source: String,
    /// Why it is dead.
    pub reason: String,
    /// Attempts made.
    pub attempts: i64,
    /// When it entered, in milliseconds since 1970.
    pub created: i64,
    /// The change, where bodies were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Value>,
}

/// Lists dead letters, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct ListDead {
    /// Numbers above this one.
    pub after: i64,
    /// Most entries.
    pub limit: i64,
    /// Whether to open the bodies.
    pub bodies: bool,
}

#[async_trait]
impl Transaction for ListDead {
    type Out = Vec<DeadLetter>;
    const NAME: &'static str = "list-dead";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx
            .rows(
                "SELECT seq, target, flow, source, reason, attempt, created, change FROM outbox WHERE state IN (2, 4, 5, 6) AND state = 6 \
                 AND seq > ?1 ORDER BY seq LIMIT ?2",
                &[self.after.into(), self.limit.into()],
            )
            .await?;
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            let change = match self.bodies {
                true => Some(tx.crypt().open_json("outbox.change", r.blob(7)?)?),
                false => None,
            };
            out.push(DeadLetter {
                seq: r.int(0)?,
                target: r.text(1)?.to_owned(),
                flow: r.text(2)?.to_owned(),
                source: hex(&r.key(3)?),
                reason: r.opt_text(4)?.unwrap_or_default().to_owned(),
                attempts: r.int(5)?,
                created: r.int(6)?,
                change,
            });
        }
        Ok(out)
    }
}

/// Sends a dead letter again: its record is fetched where it can be, else its stored change goes back to the queue;
/// one that may have been sent is asked about first.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Its number.
    pub seq: i64,
    /// An edited change to put in its place.
    pub change: Option<Value>,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for Replay {
    type Out = bool;
    const NAME: &'static str = "replay";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let row = tx
            .row("SELECT maybe, lane, source FROM outbox WHERE seq = ?1 AND state = 6", &[self.seq.into()])
            .await?;
        let Some(row) = row else { return Ok(false) };
        if let Some(change) = &self.change {
            let sealed = tx.crypt().seal_json("outbox.change", change)?;
            tx.exec(
                "UPDATE outbox SET change = ?2 WHERE seq = ?1",
                &[self.seq.into(), sealed.as_slice().into()],
            )
            .await?;
        }
        let state = if row.int(0)? != 0 { State::Unknown } else { State::Queued };
        tx.exec(
            "UPDATE outbox SET state = ?2, reason = NULL, not_before = 0, tries = 0, plan = plan + 1, owner = 0, \
             until = 0, first_sent = 0 WHERE seq = ?1",
            &[self.seq.into(), (state as i64).into()],
        )
        .await?;
        promote(tx, &row.key(1)?, self.rules).await?;
        tx.notify();
        Ok(true)
    }
}

/// An entry of the review queue.
#[derive(Clone, Debug, Serialize)]
pub struct ReviewEntry {
    /// Its number.
    pub id: i64,
    /// `possible-match`, `possible-duplicate`, `gone`, `no-answer`, `target-differs`, `field`, `not-held`.
    pub kind: String,
    /// When it was opened, in milliseconds since 1970.
    pub opened: i64,
    /// What was decided.
    pub verdict: Option<String>,
    /// By whom.
    pub who: Option<String>,
    /// What the person needs to see, where bodies were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Value>,
}

/// Lists the review queue, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct ListReviews {
    /// Numbers above this one.
    pub after: i64,
    /// Most entries.
    pub limit: i64,
    /// Only what is not decided.
    pub open: bool,
    /// Whether to open the evidence.
    pub bodies: bool,
}

#[async_trait]
impl Transaction for ListReviews {
    type Out = Vec<ReviewEntry>;
    const NAME: &'static str = "list-reviews";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx
            .rows(
                "SELECT id, kind, opened, verdict, who, evidence FROM review WHERE id > ?1 AND (?3 = 0 OR decided IS NULL) \
                 ORDER BY id LIMIT ?2",
                &[self.after.into(), self.limit.into(), self.open.into()],
            )
            .await?;
        let mut out = Vec::with_capacity(rows.len());
        for r in &rows {
            let evidence = match self.bodies {
                true => Some(tx.crypt().open_json("review.evidence", r.blob(5)?)?),
                false => None,
            };
            out.push(ReviewEntry {
                id: r.int(0)?,
                kind: r.text(1)?.to_owned(),
                opened: r.int(2)?,
                verdict: r.opt_text(3)?.map(str::to_owned),
                who: r.opt_text(4)?.map(str::to_owned),
                evidence,
            });
        }
        Ok(out)
    }
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Same person; it took effect; the source's value stands; try again: what the entry proposes.
    Accept,
    /// Different people; it did not take effect; the target's value stands; let it be.
    Reject,
}

/// Decides an entry of the review queue, once.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// The entry.
    pub id: i64,
    /// What was decided.
    pub verdict: Verdict,
    /// By whom.
    pub who: String,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for Resolve {
    type Out = bool;
    const NAME: &'static str = "resolve";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let entry = tx
            .row(
                "SELECT seq, kind, pair, evidence FROM review WHERE id = ?1 AND decided IS NULL",
                &[self.id.into()],
            )
            .await?;
        let Some(entry) = entry else { return Ok(false) };
        let accept = self.verdict == Verdict::Accept;
        tx.exec(
            "UPDATE review SET decided = ?2, verdict = ?3, who = ?4 WHERE id = ?1",
            &[
                self.id.into(),
                tx.now().into(),
                if accept { "accept" } else { "reject" }.into(),
                self.who.as_str().into(),
            ],
        )
        .await?;
        let kind = entry.text(1)?;
        if let Some(pair) = entry.opt_key(2)? {
            tx.exec(
                "INSERT INTO decision (pair, verdict, who, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (pair) DO UPDATE \
                 SET verdict = excluded.verdict, who = excluded.who, at = excluded.at",
                &[
                    (&pair).into(),
                    if accept { "same" } else { "different" }.into(),
                    self.who.as_str().into(),
                    tx.now().into(),
                ],
            )
            .await?;
        }
        if kind == "field" {
            let evidence: Value = tx.crypt().open_json("review.evidence", entry.blob(3)?)?;
            self.field(tx, &evidence, accept).await?;
        }
        if let Some(seq) = entry.opt_int(0)? {
            self.row(tx, seq, kind, accept).await?;
        }
        tx.notify();
        Ok(true)
    }
}

impl Resolve {
    async fn row(&self, tx: &mut Tx<'_>, seq: i64, kind: &str, accept: bool) -> Result<(), StoreError> {
        let found = tx
            .row(concat!("SELECT ", columns!(), " FROM outbox WHERE seq = ?1 AND state = 5"), &[seq.into()])
            .await?;
        let Some(found) = found else { return Ok(()) };
        let row = Row::read(&found)?;
        let leaves = match kind {
            "gone" => true,
            "possible-duplicate" | "no-answer" => accept,
            "target-differs" | "not-held" => !accept,
            _ => false,
        };
        if leaves {
            if let (true, Some(once)) = (kind == "no-answer", &row.once) {
                tx.exec(
                    "INSERT INTO ledger (once, at) VALUES (?1, ?2) ON CONFLICT (once) DO NOTHING",
                    &[once.into(), tx.now().into()],
                )
                .await?;
            }
            if kind == "gone" && accept {
                tx.exec("UPDATE link SET state = 'gone' WHERE record = ?1", &[(&row.source).into()]).await?;
            }
            return close(tx, seq, &row.lane, &row.names, &[row.source], self.rules).await;
        }
        free_names(tx, seq, &row.names).await?;
        tx.exec(
            "UPDATE outbox SET state = 0, reason = NULL, maybe = 0, not_before = 0, tries = 0, plan = plan + 1 WHERE seq = ?1",
            &[seq.into()],
        )
        .await?;
        promote(tx, &row.lane, self.rules).await
    }

    /// The side that stands is the one that has moved; both are read again.
    async fn field(&self, tx: &mut Tx<'_>, evidence: &Value, accept: bool) -> Result<(), StoreError> {
        let parse = |v: &Value| serde_json::from_value::<RecordId>(v.clone()).ok();
        let conflict =
            evidence.get("conflict").and_then(|c| serde_json::from_value::<Conflict>(c.clone()).ok());
        let (Some(record), Some(conflict)) = (evidence.get("record").and_then(parse), conflict) else {
            return Ok(());
        };
        let key = Keys(tx.crypt()).record(&record);
        let all = ends(tx, &key).await?;
        let tick = tx.tick().await?;
        for end in &all.0 {
            let near = end.id == record;
            let end_key = Keys(tx.crypt()).record(&end.id);
            let mut base = end.base.clone();
            if near == accept {
                base.remove(&conflict.field);
            } else {
                let value = if near { &conflict.lost } else { &conflict.kept };
                base.insert(conflict.field.clone(), (Keys(tx.crypt()).value(&conflict.field, value), tick));
            }
            set_base(tx, &end_key, &base).await?;
            tx.exec("DELETE FROM seen WHERE record = ?1", &[(&end_key).into()]).await?;
            ask(tx, &end.id, tick).await?;
        }
        Ok(())
    }
}

/// Forgets what is past its time: settled deliveries' identities, attempts, decided reviews.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    /// Attempts and delivery identities before this, in milliseconds since 1970.
    pub attempts_before: i64,
    /// Bodies of dead letters and evidence of decided reviews before this.
    pub bodies_before: i64,
}

#[async_trait]
impl Transaction for Purge {
    type Out = u64;
    const NAME: &'static str = "purge";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        let mut n = tx.exec("DELETE FROM attempt WHERE at < ?1", &[self.attempts_before.into()]).await?;
        n += tx.exec("DELETE FROM delivery WHERE at < ?1", &[self.attempts_before.into()]).await?;
        n += tx.exec("DELETE FROM review WHERE decided < ?1", &[self.bodies_before.into()]).await?;
        n += tx.exec("DELETE FROM conflict WHERE at < ?1", &[self.bodies_before.into()]).await?;
        // The states are named as in the partial index: SQLite uses it for no other text.
        let dead = "DELETE FROM outbox WHERE state IN (2, 4, 5, 6) AND state = 6 AND created < ?1";
        n += tx.exec(dead, &[self.bodies_before.into()]).await?;
        n += tx.exec("DELETE FROM unreadable WHERE at < ?1", &[self.bodies_before.into()]).await?;
        Ok(n)
    }
}

/// Erases a person everywhere but the ledger.
#[derive(Clone, Debug)]
pub struct Forget {
    /// A record of the person.
    pub record: RecordId,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for Forget {
    type Out = u64;
    const NAME: &'static str = "forget";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        let key = Keys(tx.crypt()).record(&self.record);
        let mut records: Vec<Key> =
            ends(tx, &key).await?.0.iter().map(|e| Keys(tx.crypt()).record(&e.id)).collect();
        if records.is_empty() {
            records.push(key);
        }
        let mut n = 0;
        for record in &records {
            let rows = tx
                .rows(
                    concat!("SELECT ", columns!(), " FROM outbox WHERE source = ?1 OR subject = ?1"),
                    &[record.into()],
                )
                .await?;
            for r in &rows {
                let row = Row::read(r)?;
                tx.exec("DELETE FROM review WHERE seq = ?1", &[row.seq.into()]).await?;
                tx.exec("DELETE FROM attempt WHERE seq = ?1", &[row.seq.into()]).await?;
                tx.exec("DELETE FROM need WHERE seq = ?1", &[row.seq.into()]).await?;
                close(tx, row.seq, &row.lane, &row.names, &[], self.rules).await?;
                n += 1;
            }
            for sql in [
                "DELETE FROM seen WHERE record = ?1",
                "DELETE FROM refresh WHERE record = ?1",
                "DELETE FROM link WHERE record = ?1",
                "DELETE FROM conflict WHERE record = ?1",
                "DELETE FROM unreadable WHERE record = ?1",
            ] {
                n += tx.exec(sql, &[record.into()]).await?;
            }
            n += self.reviews(tx, record).await?;
        }
        Ok(n)
    }
}

impl Forget {
    /// Entries of the review queue that name the record in their evidence.
    async fn reviews(&self, tx: &mut Tx<'_>, record: &Key) -> Result<u64, StoreError> {
        let rows = tx.rows("SELECT id, evidence FROM review", &[]).await?;
        let mut n = 0;
        for r in &rows {
            let evidence: Value = tx.crypt().open_json("review.evidence", r.blob(1)?)?;
            let names = ["record", "other"].iter().any(|f| {
                let id = evidence.get(f).and_then(|v| serde_json::from_value::<RecordId>(v.clone()).ok());
                id.is_some_and(|id| Keys(tx.crypt()).record(&id) == *record)
            });
            if names {
                n += tx.exec("DELETE FROM review WHERE id = ?1", &[r.int(0)?.into()]).await?;
            }
        }
        Ok(n)
    }
}

//! Settle: what became of an attempt, in one transaction with everything that follows from it.
//!
//! Only under the claim that made the attempt (I10): the row is still `Sent`, with the same owner and attempt number.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::claim::{Planned, bury, open_review};
use super::halt::stop;
use super::keys::{Key, Keys};
use super::lanes::{free_names, plan_again, promote};
use super::links::{Base, Link, Relation, ends, link, set_base, wake};
use super::row::{Notes, Row, State};
use crate::change::{Change, RecordId};
use crate::connector::Outcome;
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// Attempts in a row that find the target other than planned, after which a person is asked.
const DIFFERENCES: i64 = 8;

/// One attempt's outcome, with what was worked out from it outside the transaction.
#[derive(Clone, Debug)]
pub struct SettleItem {
    /// The row as it was taken.
    pub row: Arc<Row>,
    /// Its change.
    pub change: Arc<Change>,
    /// Its command.
    pub planned: Arc<Planned>,
    /// Notes kept before this attempt.
    pub notes: Arc<Notes>,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was first sent.
    pub first_sent: i64,
    /// When this attempt began.
    pub began: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// Canonical fields of the receipt's record.
    pub there: Option<BTreeMap<String, String>>,
    /// Tasks that shared the request.
    pub size: usize,
    /// Pause before the next try, in milliseconds.
    pub pause: i64,
    /// Where the digest of the last settled command is kept, and this one's.
    pub digest: Option<(Key, Key)>,
    /// Whether this settles an unanswered attempt that `confirm` was asked about, instead of one on the wire.
    pub confirmed: bool,
}

/// Settles attempts.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Who claimed them.
    pub owner: i64,
    /// The attempts.
    pub items: Vec<SettleItem>,
    /// How long an unanswered request may still take effect, in milliseconds.
    pub quiet: i64,
    /// First pause of a halted system, in milliseconds.
    pub probe: i64,
    /// Which rules hold.
    pub rules: Rules,
}

/// What the settling changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Attempts that were settled; others had lost their claim.
    pub settled: usize,
    /// Of them, carried out.
    pub done: usize,
}

#[async_trait]
impl Transaction for Settle {
    type Out = Settled;
    const NAME: &'static str = "settle";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Settled, StoreError> {
        let mut out = Settled::default();
        for item in &self.items {
            let row = tx
                .row("SELECT state, owner, attempt FROM outbox WHERE seq = ?1", &[item.row.seq.into()])
                .await?;
            let Some(row) = row else { continue };
            let expected = if item.confirmed { State::Unknown } else { State::Sent };
            let ours = row.int(1)? == self.owner
                && row.int(2)? == i64::from(item.attempt)
                && State::from_stored(row.int(0)?)? == expected;
            if !ours && self.rules.hold(Rule::SettleFence) {
                continue;
            }
            self.settle(tx, item).await?;
            out.settled += 1;
            out.done += usize::from(matches!(item.outcome, Outcome::Done(_)));
        }
        Ok(out)
    }
}

impl Settle {
    async fn settle(&self, tx: &mut Tx<'_>, item: &SettleItem) -> Result<(), StoreError> {
        let (row, seq, now) = (&item.row, item.row.seq, tx.now());
        let within = crate::clock::millis(item.planned.command.within);
        let overdue = now - item.first_sent > within;
        if !matches!(item.outcome, Outcome::Done(_)) || item.attempt > 1 {
            self.keep_attempt(tx, item).await?;
        }
        match &item.outcome {
            Outcome::Done(receipt) => self.done(tx, item, receipt.id.as_ref()).await,
            Outcome::Step(..) | Outcome::Retry { .. } if overdue => {
                free_names(tx, seq, &row.names).await?;
                tx.exec("UPDATE outbox SET maybe = 1 WHERE seq = ?1", &[seq.into()]).await?;
                bury(tx, seq, &row.lane, "sent, not proven in time", self.rules).await
            }
            Outcome::Step(name, note) => {
                let mut notes = Notes::clone(&item.notes);
                notes.insert(name.clone(), note.clone());
                let sealed = tx.crypt().seal_json("outbox.notes", &notes)?;
                tx.exec(
                    "UPDATE outbox SET state = 1, notes = ?2, owner = 0, until = 0, not_before = 0, maybe = 0, tries = 0 WHERE seq = ?1",
                    &[seq.into(), sealed.as_slice().into()],
                )
                .await?;
                tx.notify();
                Ok(())
            }
            Outcome::Retry { split, .. } => {
                // Nothing was written: what is known of a person may be old when the turn comes again.
                let known = item.change.source.is_person() && item.planned.counterpart.is_some();
                let state = if item.notes.is_empty() || known { State::Queued } else { State::Planned };
                let share = if *split { i64::try_from(item.size / 2).unwrap_or(1).max(1) } else { row.share };
                tx.exec(
                    "UPDATE outbox SET state = ?2, share = ?3, not_before = ?4, owner = 0, until = 0, \
                     tries = tries + 1, plan = plan + 1, notes = CASE WHEN ?2 = 0 THEN NULL ELSE notes END WHERE seq = ?1",
                    &[seq.into(), (state as i64).into(), share.into(), (now + item.pause).into()],
                )
                .await?;
                Ok(())
            }
            Outcome::Unknown => {
                tx.exec(
                    "UPDATE outbox SET state = 3, maybe = 1, not_before = ?2, owner = 0, until = 0, tries = tries + 1 WHERE seq = ?1",
                    &[seq.into(), (now + self.quiet.max(item.pause)).into()],
                )
                .await?;
                Ok(())
            }
            Outcome::Conflict => self.conflict(tx, item, now).await,
            Outcome::Rejected(reject) => {
                if self.rules.hold(Rule::PlanNumbers) {
                    plan_again(tx, &row.lane, seq).await?;
                }
                free_names(tx, seq, &row.names).await?;
                tx.exec("UPDATE outbox SET maybe = 0 WHERE seq = ?1", &[seq.into()]).await?;
                bury(tx, seq, &row.lane, &reject.reason, self.rules).await
            }
            Outcome::Halt(why) => {
                stop(tx, &row.target, why, self.probe, self.rules).await?;
                let state = if item.notes.is_empty() { State::Queued } else { State::Planned };
                tx.exec(
                    "UPDATE outbox SET state = ?2, owner = 0, until = 0, not_before = ?3, plan = plan + 1 WHERE seq = ?1",
                    &[seq.into(), (state as i64).into(), (now + item.pause).into()],
                )
                .await?;
                Ok(())
            }
        }
    }

    /// The target is not as expected: plan again from its present state. The same difference again and again, with no
    /// outage between, is for a person.
    async fn conflict(&self, tx: &mut Tx<'_>, item: &SettleItem, now: i64) -> Result<(), StoreError> {
        let seq = item.row.seq;
        let last = tx
            .rows(
                "SELECT status FROM attempt WHERE seq = ?1 ORDER BY n DESC LIMIT ?2",
                &[seq.into(), DIFFERENCES.into()],
            )
            .await?;
        let mut differences = 0;
        for attempt in &last {
            differences += i64::from(attempt.text(0)? == "conflict");
        }
        if differences == DIFFERENCES {
            if item.row.names.is_empty() {
                promote(tx, &item.row.lane, self.rules).await?;
            }
            tx.exec(
                "UPDATE outbox SET state = 5, reason = 'target-differs', owner = 0, until = 0, maybe = 0 WHERE seq = ?1",
                &[seq.into()],
            )
            .await?;
            free_names(tx, seq, &item.row.names).await?;
            let evidence =
                serde_json::json!({ "record": item.change.source, "other": item.planned.counterpart });
            return open_review(tx, Some(seq), "target-differs", None, &evidence).await;
        }
        tx.exec(
            "UPDATE outbox SET state = 0, command = NULL, notes = NULL, maybe = 0, creates = 0, owner = 0, until = 0, \
             not_before = ?2, plan = plan + 1, tries = tries + 1 WHERE seq = ?1",
            &[seq.into(), (now + item.pause).into()],
        )
        .await?;
        Ok(())
    }

    async fn done(
        &self,
        tx: &mut Tx<'_>,
        item: &SettleItem,
        id: Option<&RecordId>,
    ) -> Result<(), StoreError> {
        let row = &item.row;
        let source = &item.change.source;
        if let Some(once) = &row.once {
            tx.exec(
                "INSERT INTO ledger (once, at) VALUES (?1, ?2) ON CONFLICT (once) DO NOTHING",
                &[once.into(), tx.now().into()],
            )
            .await?;
        } else if let Some((place, content)) = &item.digest {
            tx.exec(
                "INSERT INTO sent (source, digest) VALUES (?1, ?2) ON CONFLICT (source) DO UPDATE SET digest = excluded.digest",
                &[place.into(), content.into()],
            )
            .await?;
        }
        let mut woken = vec![row.source];
        let counterpart = id.or(item.planned.counterpart.as_ref());
        if source.is_person()
            && let Some(counterpart) = counterpart.filter(|c| c.is_person())
        {
            woken.push(Keys(tx.crypt()).record(counterpart));
            match link(tx, source, counterpart, Relation::Rule, row.seq, self.rules).await? {
                Link::Made => {
                    let theirs = item.there.clone().unwrap_or_default();
                    rebase(
                        tx,
                        source,
                        counterpart,
                        &item.planned.source_fields,
                        &item.planned.wrote,
                        &theirs,
                        item.planned.counterpart.is_none(),
                    )
                    .await?;
                }
                // The write is done; what it means for the pair is for a person to see.
                Link::Taken(other) => {
                    let keys = Keys(tx.crypt());
                    let pair = keys.pair(&row.source, &keys.record(&other));
                    let evidence =
                        serde_json::json!({ "record": source, "other": other, "counterpart": counterpart });
                    open_review(tx, None, "possible-duplicate", Some(&pair), &evidence).await?;
                }
                Link::Busy => {
                    tx.exec(
                        "UPDATE outbox SET state = 3, maybe = 1, not_before = ?2, owner = 0, until = 0 WHERE seq = ?1",
                        &[row.seq.into(), (tx.now() + item.pause).into()],
                    )
                    .await?;
                    return Ok(());
                }
            }
        }
        close(tx, row.seq, &row.lane, &row.names, &woken, self.rules).await
    }

    async fn keep_attempt(&self, tx: &mut Tx<'_>, item: &SettleItem) -> Result<(), StoreError> {
        let status = match &item.outcome {
            Outcome::Done(_) => "done",
            Outcome::Step(..) => "step",
            Outcome::Retry { reason, .. } => reason.as_str(),
            Outcome::Unknown => "unknown",
            Outcome::Conflict => "conflict",
            Outcome::Rejected(r) => r.reason.as_str(),
            Outcome::Halt(why) => why.as_str(),
        };
        let now = tx.now();
        tx.exec(
            "INSERT INTO attempt (seq, n, at, status, ms) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (seq, n) DO UPDATE SET status = excluded.status",
            &[
                item.row.seq.into(),
                item.attempt.into(),
                item.began.into(),
                status.into(),
                (now - item.began).into(),
            ],
        )
        .await?;
        Ok(())
    }
}

/// A row is settled: it leaves, its names are free, what waited for its ends goes on, and what was decided for the
/// others of its lane is decided again (I12).
pub(super) async fn close(
    tx: &mut Tx<'_>,
    seq: i64,
    lane: &Key,
    names: &[Key],
    ends: &[Key],
    rules: Rules,
) -> Result<(), StoreError> {
    // A link that was made just before may have put the row into another lane.
    let gone = tx.row("DELETE FROM outbox WHERE seq = ?1 RETURNING lane", &[seq.into()]).await?;
    let lane = gone.map_or(Ok(*lane), |r| r.key(0))?;
    free_names(tx, seq, names).await?;
    if rules.hold(Rule::PlanNumbers) {
        plan_again(tx, &lane, seq).await?;
    }
    promote(tx, &lane, rules).await?;
    for end in ends {
        wake(tx, end, rules).await?;
    }
    Ok(())
}

/// Both ends agree now on what the row wrote, or on everything when it made the counterpart.
///
/// A value that the target only normalised is adopted as its own form of the agreement.
pub(super) async fn rebase(
    tx: &mut Tx<'_>,
    source: &RecordId,
    counterpart: &RecordId,
    ours: &BTreeMap<String, String>,
    wrote: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
    whole: bool,
) -> Result<(), StoreError> {
    let tick = tx.tick().await?;
    let key = Keys(tx.crypt()).record(source);
    let ends = ends(tx, &key).await?;
    let (Some(near), Some(far)) = (ends.of(source), ends.of(counterpart)) else { return Ok(()) };
    let (mut near, mut far): (Base, Base) = (near.base.clone(), far.base.clone());
    let keys = Keys(tx.crypt());
    let far_key = keys.record(counterpart);
    for (field, value) in ours {
        let there = theirs.get(field);
        let agrees = there.is_some_and(|t| crate::reconcile::adopts(field, value, t));
        near.insert(field.clone(), (keys.value(field, value), tick));
        if wrote.contains_key(field) || agrees || whole && there.is_none() {
            let there = there.filter(|_| agrees).unwrap_or(value);
            far.insert(field.clone(), (keys.value(field, there), tick));
        }
    }
    set_base(tx, &key, &near).await?;
    set_base(tx, &far_key, &far).await?;
    Ok(())
}

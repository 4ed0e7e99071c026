//! Claim: what was decided for a row is stored, and what is to be sent becomes `Sent` before a byte leaves (I3).
//!
//! Every decision was made outside the transaction and is checked again inside it: the row is still reserved for the
//! same worker, its plan number has not moved (I12), the person has no other attempt open (I2), and a link that the
//! decision rests on can still be made (I9).

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::enqueue::numbers;
use super::feeds::ask;
use super::keys::{Key, Keys};
use super::lanes::{free_names, promote, take_names};
use super::links::{Link, Relation, link};
use super::people::{Conflict, keep_conflict, open_elsewhere};
use super::row::{State, join_keys};
use super::settle::{close, rebase};
use crate::change::{Change, RecordId};
use crate::connector::Command;
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// The policy, and the kind of review, of a field that the target cannot hold.
pub const NOT_HELD: &str = "not-held";

/// The kind of review of an attempt that nobody can confirm.
pub const NO_ANSWER: &str = "no-answer";

/// A command as it is stored with its row.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// What to do.
    pub command: Command,
    /// Canonical fields it writes, for the base after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wrote: BTreeMap<String, String>,
    /// All canonical fields of the source as they were read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_fields: BTreeMap<String, String>,
    /// The counterpart it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterpart: Option<RecordId>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planned").field("command", &self.command).finish_non_exhaustive()
    }
}

/// What was decided for a row.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Send this. `link` is made in the same transaction, before it is sent.
    Send {
        /// The command.
        planned: Box<Planned>,
        /// Whether it makes a person.
        creates: bool,
        /// The counterpart found for the source.
        link: Option<(RecordId, Relation)>,
        /// Values that lose.
        conflicts: Vec<Conflict>,
        /// Fields that a person must decide, with both values.
        ask: Vec<Conflict>,
        /// Where the digest of the last settled command is kept, and this one's: an equal one is not sent.
        digest: Option<(Key, Key)>,
    },
    /// Send the stored command again.
    Again,
    /// The target already agrees.
    Agree {
        /// The counterpart.
        link: Option<(RecordId, Relation)>,
        /// Source fields, and the target's.
        fields: Option<(BTreeMap<String, String>, BTreeMap<String, String>)>,
        /// Values that lose.
        conflicts: Vec<Conflict>,
        /// Fields that a person must decide, with both values.
        ask: Vec<Conflict>,
    },
    /// Wait for counterparts; those unknown so far are fetched.
    Wait(Vec<RecordId>),
    /// A person decides.
    Review {
        /// What about: `possible-match`, `possible-duplicate`, `gone`, `no-answer`.
        kind: String,
        /// The other person, where it is about a pair.
        other: Option<RecordId>,
        /// What the person needs to see.
        evidence: Value,
    },
    /// Look again later.
    Later {
        /// Milliseconds.
        after: i64,
        /// Whether to count it as a failed try.
        failed: bool,
    },
    /// The source was read again: this is its newest state.
    Renew {
        /// The change as it is now.
        change: Box<Change>,
        /// Its exclusive names.
        exclusive: Vec<String>,
        /// The transaction before it was read.
        read_at: i64,
    },
    /// `confirm` found that the open attempt did not take effect.
    Absent,
    /// Never will be.
    Dead(String),
}

/// Stores decisions and claims what is to be sent.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who asks.
    pub owner: i64,
    /// How long a claim holds, in milliseconds.
    pub lease: i64,
    /// Pause of a row that cannot go yet because of somebody else, in milliseconds.
    pub aside: i64,
    /// Row, its plan number, the change's source, and what was decided.
    pub rows: Vec<(i64, i64, RecordId, Decision)>,
    /// Which rules hold.
    pub rules: Rules,
}

/// A row that is to be sent now.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The row.
    pub seq: i64,
    /// The number of this attempt.
    pub attempt: u32,
    /// When it was first sent.
    pub first_sent: i64,
}

#[async_trait]
impl Transaction for Claim {
    type Out = Vec<Claimed>;
    const NAME: &'static str = "claim";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Claimed>, StoreError> {
        let mut out = Vec::new();
        for (seq, plan, source, decision) in &self.rows {
            let row = tx
                .row(
                    "SELECT state, plan, owner, person, lane, names, attempt, first_sent FROM outbox WHERE seq = ?1",
                    &[(*seq).into()],
                )
                .await?;
            let Some(row) = row else { continue };
            let state = State::from_stored(row.int(0)?)?;
            let moved = row.int(1)? != *plan && self.rules.hold(Rule::PlanNumbers);
            if moved
                || row.int(2)? != self.owner
                || !matches!(state, State::Queued | State::Planned | State::Unknown)
            {
                continue;
            }
            let names: Vec<Key> = row.blob(5)?.chunks_exact(16).filter_map(|c| c.try_into().ok()).collect();
            let at = At { seq: *seq, source, person: row.key(3)?, lane: row.key(4)?, names };
            if self.decide(tx, &at, decision).await? {
                let attempt =
                    u32::try_from(row.int(6)?).map_err(|_| StoreError::Damaged("outbox: attempt"))? + 1;
                let first_sent = match row.int(7)? {
                    0 => tx.now(),
                    t => t,
                };
                self.mark_sent(tx, *seq, attempt, first_sent).await?;
                out.push(Claimed { seq: *seq, attempt, first_sent });
            }
        }
        Ok(out)
    }
}

struct At<'a> {
    seq: i64,
    source: &'a RecordId,
    person: Key,
    lane: Key,
    names: Vec<Key>,
}

impl Claim {
    /// Carries out a decision; true if the row is to be sent.
    async fn decide(&self, tx: &mut Tx<'_>, at: &At<'_>, decision: &Decision) -> Result<bool, StoreError> {
        match decision {
            Decision::Again => {
                if self.rules.hold(Rule::OneDirection) && open_elsewhere(tx, &at.person, &at.lane).await? {
                    return self.later(tx, at.seq, self.aside, false).await;
                }
                if !self.rules.hold(Rule::LookUpAtTurn) && !take_names(tx, at.seq, &at.names).await? {
                    return self.later(tx, at.seq, self.aside, false).await;
                }
                Ok(true)
            }
            Decision::Send { planned, creates, link, conflicts, ask, digest } => {
                if let Some((place, content)) = digest {
                    let last = tx.row("SELECT digest FROM sent WHERE source = ?1", &[place.into()]).await?;
                    if last.map(|r| r.key(0)).transpose()? == Some(*content) {
                        let source = Keys(tx.crypt()).record(at.source);
                        close(tx, at.seq, &at.lane, &at.names, &[source], self.rules).await?;
                        return Ok(false);
                    }
                }
                if self.rules.hold(Rule::OneDirection) && open_elsewhere(tx, &at.person, &at.lane).await? {
                    return self.later(tx, at.seq, self.aside, false).await;
                }
                if !self.rules.hold(Rule::LookUpAtTurn) && !take_names(tx, at.seq, &at.names).await? {
                    let command = tx.crypt().seal_json("outbox.command", planned)?;
                    tx.exec(
                        "UPDATE outbox SET state = 1, command = ?2 WHERE seq = ?1",
                        &[at.seq.into(), command.as_slice().into()],
                    )
                    .await?;
                    return self.later(tx, at.seq, self.aside, false).await;
                }
                if !self.linked(tx, at, link.as_ref()).await? {
                    return Ok(false);
                }
                self.keep(tx, at, conflicts, ask).await?;
                let command = tx.crypt().seal_json("outbox.command", planned)?;
                tx.exec(
                    "UPDATE outbox SET command = ?2, creates = ?3, notes = CASE WHEN ?3 = 1 THEN notes ELSE NULL END WHERE seq = ?1",
                    &[at.seq.into(), command.as_slice().into(), (*creates).into()],
                )
                .await?;
                Ok(true)
            }
            Decision::Agree { link, fields, conflicts, ask } => {
                if !self.linked(tx, at, link.as_ref()).await? {
                    return Ok(false);
                }
                self.keep(tx, at, conflicts, ask).await?;
                if let (Some((counterpart, _)), Some((ours, theirs))) = (link, fields) {
                    rebase(tx, at.source, counterpart, ours, &BTreeMap::new(), theirs, true).await?;
                }
                let source = Keys(tx.crypt()).record(at.source);
                close(tx, at.seq, &at.lane, &at.names, &[source], self.rules).await?;
                Ok(false)
            }
            Decision::Wait(records) => self.wait(tx, at, records).await,
            Decision::Review { kind, other, evidence } => {
                self.review(tx, at, kind, other.as_ref(), evidence).await
            }
            Decision::Later { after, failed } => self.later(tx, at.seq, *after, *failed).await,
            Decision::Renew { change, exclusive, read_at } => {
                self.renew(tx, at, change, exclusive, *read_at).await
            }
            Decision::Absent => {
                tx.exec(
                    "UPDATE outbox SET state = 1, maybe = 0, owner = 0, until = 0, not_before = 0 WHERE seq = ?1",
                    &[at.seq.into()],
                )
                .await?;
                tx.notify();
                Ok(false)
            }
            Decision::Dead(reason) => {
                free_names(tx, at.seq, &at.names).await?;
                bury(tx, at.seq, &at.lane, reason, self.rules).await?;
                Ok(false)
            }
        }
    }

    async fn mark_sent(
        &self,
        tx: &mut Tx<'_>,
        seq: i64,
        attempt: u32,
        first_sent: i64,
    ) -> Result<(), StoreError> {
        let tick = tx.tick().await?;
        tx.exec(
            "UPDATE outbox SET state = 2, attempt = ?2, first_sent = ?3, until = ?4, \
             first_tick = CASE WHEN first_tick = 0 THEN ?5 ELSE first_tick END WHERE seq = ?1",
            &[seq.into(), attempt.into(), first_sent.into(), (tx.now() + self.lease).into(), tick.into()],
        )
        .await?;
        Ok(())
    }

    /// Makes the link that the decision rests on; false if the row went elsewhere because it cannot be made now.
    async fn linked(
        &self,
        tx: &mut Tx<'_>,
        at: &At<'_>,
        to: Option<&(RecordId, Relation)>,
    ) -> Result<bool, StoreError> {
        let Some((id, relation)) = to else { return Ok(true) };
        match link(tx, at.source, id, *relation, at.seq, self.rules).await? {
            Link::Made => Ok(true),
            Link::Busy => self.later(tx, at.seq, self.aside, false).await,
            Link::Taken(other) => {
                let evidence = serde_json::json!({ "counterpart": id, "linked_with": other });
                self.review(tx, at, "possible-duplicate", Some(&other), &evidence).await
            }
        }
    }

    async fn keep(
        &self,
        tx: &mut Tx<'_>,
        at: &At<'_>,
        conflicts: &[Conflict],
        ask: &[Conflict],
    ) -> Result<(), StoreError> {
        let record = Keys(tx.crypt()).record(at.source);
        for conflict in conflicts {
            keep_conflict(tx, &record, conflict).await?;
        }
        for conflict in ask {
            let kind = if conflict.policy == NOT_HELD { NOT_HELD } else { "field" };
            open_review(
                tx,
                None,
                kind,
                None,
                &serde_json::json!({ "record": at.source, "conflict": conflict }),
            )
            .await?;
        }
        Ok(())
    }

    async fn wait(&self, tx: &mut Tx<'_>, at: &At<'_>, records: &[RecordId]) -> Result<bool, StoreError> {
        let tick = tx.tick().await?;
        free_names(tx, at.seq, &at.names).await?;
        for record in records {
            let key = Keys(tx.crypt()).record(record);
            tx.exec(
                "INSERT INTO need (record, seq) VALUES (?1, ?2) ON CONFLICT (record, seq) DO NOTHING",
                &[(&key).into(), at.seq.into()],
            )
            .await?;
            if tx.row("SELECT 1 FROM seen WHERE record = ?1", &[(&key).into()]).await?.is_none() {
                ask(tx, record, tick).await?;
            }
        }
        tx.exec(
            "UPDATE outbox SET state = 4, owner = 0, until = 0, head = 0 WHERE seq = ?1",
            &[at.seq.into()],
        )
        .await?;
        promote(tx, &at.lane, self.rules).await?;
        Ok(false)
    }

    async fn review(
        &self,
        tx: &mut Tx<'_>,
        at: &At<'_>,
        kind: &str,
        other: Option<&RecordId>,
        evidence: &Value,
    ) -> Result<bool, StoreError> {
        // An attempt that nobody can tell about keeps others from its names; any other was looked up after its time.
        let open = kind == NO_ANSWER;
        if !open {
            free_names(tx, at.seq, &at.names).await?;
        }
        tx.exec(
            "UPDATE outbox SET state = 5, reason = ?2, maybe = ?3, owner = 0, until = 0 WHERE seq = ?1",
            &[at.seq.into(), kind.into(), open.into()],
        )
        .await?;
        let keys = Keys(tx.crypt());
        let pair = other.map(|o| keys.pair(&keys.record(at.source), &keys.record(o)));
        let evidence = serde_json::json!({ "record": at.source, "other": other, "evidence": evidence });
        open_review(tx, Some(at.seq), kind, pair.as_ref(), &evidence).await?;
        Ok(false)
    }

    async fn later(&self, tx: &mut Tx<'_>, seq: i64, after: i64, failed: bool) -> Result<bool, StoreError> {
        tx.exec(
            "UPDATE outbox SET not_before = ?2, owner = 0, until = 0, tries = tries + ?3 WHERE seq = ?1",
            &[seq.into(), (tx.now() + after).into(), failed.into()],
        )
        .await?;
        Ok(false)
    }

    async fn renew(
        &self,
        tx: &mut Tx<'_>,
        at: &At<'_>,
        change: &Change,
        exclusive: &[String],
        read_at: i64,
    ) -> Result<bool, StoreError> {
        let row = tx.row("SELECT target, destination FROM outbox WHERE seq = ?1", &[at.seq.into()]).await?;
        let Some(row) = row else { return Ok(false) };
        let keys = Keys(tx.crypt());
        let names: Vec<Key> = exclusive
            .iter()
            .filter(|_| self.rules.hold(Rule::ExclusiveNames))
            .map(|n| Ok(keys.name(row.text(0)?, row.text(1)?, n)))
            .collect::<Result<_, StoreError>>()?;
        free_names(tx, at.seq, &at.names).await?;
        let body = tx.crypt().seal_json("outbox.change", change)?;
        tx.exec(
            "UPDATE outbox SET change = ?2, names = ?3, read_at = ?4, plan = plan + 1, owner = 0, until = 0, \
             not_before = 0 WHERE seq = ?1",
            &[at.seq.into(), body.as_slice().into(), join_keys(&names).as_slice().into(), read_at.into()],
        )
        .await?;
        tx.notify();
        Ok(false)
    }
}

/// Makes a row a dead letter and lets the lane go on.
pub(super) async fn bury(
    tx: &mut Tx<'_>,
    seq: i64,
    lane: &Key,
    reason: &str,
    rules: Rules,
) -> Result<(), StoreError> {
    tx.exec(
        "UPDATE outbox SET state = 6, reason = ?2, head = 0, owner = 0, until = 0 WHERE seq = ?1",
        &[seq.into(), reason.into()],
    )
    .await?;
    promote(tx, lane, rules).await
}

/// Opens an entry of the review queue.
pub(super) async fn open_review(
    tx: &mut Tx<'_>,
    seq: Option<i64>,
    kind: &str,
    pair: Option<&Key>,
    evidence: &Value,
) -> Result<(), StoreError> {
    let sealed = tx.crypt().seal_json("review.evidence", evidence)?;
    let id = numbers(tx, 1).await?;
    tx.exec(
        "INSERT INTO review (id, seq, kind, pair, evidence, opened, decided, verdict, who) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL, NULL)",
        &[
            id.into(),
            seq.into(),
            kind.into(),
            pair.map(<[u8; 16]>::as_slice).into(),
            sealed.as_slice().into(),
            tx.now().into(),
        ],
    )
    .await?;
    Ok(())
}

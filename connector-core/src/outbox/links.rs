//! Who is who: links between people of two systems, and the base of each end.
//!
//! A link has one end a system. Each end keeps, for each field, a digest of the value at the last agreement and the
//! transaction that made it; a field has moved at an end if its digest is another.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::keys::{Key, Keys};
use super::lanes::{plan_again, promote, rekey};
use crate::change::RecordId;
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// Field to digest and transaction of the last agreement.
pub type Base = BTreeMap<String, (String, i64)>;

/// One end of a link.
#[derive(Clone, Debug)]
pub struct LinkEnd {
    /// The person's key, the same at all ends.
    pub person: Key,
    /// The record at this end.
    pub id: RecordId,
    /// What both ends agreed on last, as this end holds it.
    pub base: Base,
}

/// How a link came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// One end carries the other's id, or was made from it.
    Rule,
    /// Matching decided.
    Match,
    /// A person decided.
    Review,
}

impl Relation {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Relation::Rule => "rule",
            Relation::Match => "match",
            Relation::Review => "review",
        }
    }
}

/// All ends of the link that a record is an end of.
#[derive(Clone, Debug, Default)]
pub struct Ends(pub Vec<LinkEnd>);

impl Ends {
    /// The end at a system.
    pub fn at(&self, system: &str) -> Option<&LinkEnd> {
        self.0.iter().find(|e| e.id.system == system)
    }

    /// The end of a record.
    pub fn of(&self, id: &RecordId) -> Option<&LinkEnd> {
        self.0.iter().find(|e| e.id == *id)
    }
}

/// Reads the links of some records, in order.
#[derive(Clone, Debug)]
pub struct Links {
    /// Records.
    pub records: Vec<RecordId>,
}

#[async_trait]
impl Transaction for Links {
    type Out = Vec<Ends>;
    const NAME: &'static str = "links";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let mut out = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let key = Keys(tx.crypt()).record(record);
            out.push(ends(tx, &key).await?);
        }
        Ok(out)
    }
}

/// All ends of the record's link.
pub(super) async fn ends(tx: &mut Tx<'_>, record: &Key) -> Result<Ends, StoreError> {
    let rows = tx
        .rows(
            "SELECT e.person, e.id, e.base FROM link l JOIN link e ON e.person = l.person WHERE l.record = ?1",
            &[record.into()],
        )
        .await?;
    let mut out = Vec::with_capacity(rows.len());
    for r in &rows {
        let base = match r.opt_blob(2)? {
            Some(b) => serde_json::from_slice(b).map_err(|_| StoreError::Damaged("outbox: base"))?,
            None => Base::new(),
        };
        out.push(LinkEnd { person: r.key(0)?, id: tx.crypt().open_json("link.id", r.blob(1)?)?, base });
    }
    Ok(Ends(out))
}

/// The key of the person that a record stands for.
pub(super) async fn person_of(tx: &mut Tx<'_>, record: &Key) -> Result<Key, StoreError> {
    let linked = tx.row("SELECT person FROM link WHERE record = ?1", &[record.into()]).await?;
    linked.map_or(Ok(*record), |r| r.key(0))
}

/// What came of trying to link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// They are linked now, or were before.
    Made,
    /// An attempt of one of them is open: later.
    Busy,
    /// One of them is linked with somebody else: a possible duplicate.
    Taken(RecordId),
}

/// Links two records, checking again what was decided outside the transaction (I9): both ends free, neither with an
/// attempt open but `own`.
pub(super) async fn link(
    tx: &mut Tx<'_>,
    a: &RecordId,
    b: &RecordId,
    relation: Relation,
    own: i64,
    rules: Rules,
) -> Result<Link, StoreError> {
    let (ka, kb) = (Keys(tx.crypt()).record(a), Keys(tx.crypt()).record(b));
    if rules.hold(Rule::LinkCheck)
        && let Some(hindered) = hindered(tx, (a, &ka), (b, &kb), own).await?
    {
        return Ok(hindered);
    }
    let (pa, pb) = (person_of(tx, &ka).await?, person_of(tx, &kb).await?);
    let person = pa.min(pb);
    for (id, key) in [(a, &ka), (b, &kb)] {
        let sealed = tx.crypt().seal_json("link.id", id)?;
        tx.exec(
            "INSERT INTO link (record, person, system, id, rule, state, at, base) VALUES (?1, ?2, ?3, ?4, ?5, 'active', ?6, NULL) \
             ON CONFLICT (record) DO UPDATE SET person = excluded.person",
            &[
                key.into(),
                (&person).into(),
                id.system.as_str().into(),
                sealed.as_slice().into(),
                relation.as_str().into(),
                tx.now().into(),
            ],
        )
        .await?;
    }
    for from in [pa, pb] {
        if from != person {
            tx.exec("UPDATE link SET person = ?2 WHERE person = ?1", &[(&from).into(), (&person).into()])
                .await?;
            rekey(tx, &from, &person, rules).await?;
        }
    }
    // What was planned for either and not sent is planned again; what waited for either goes on.
    let lanes = tx.rows("SELECT DISTINCT lane FROM outbox WHERE person = ?1", &[(&person).into()]).await?;
    for lane in &lanes {
        if rules.hold(Rule::PlanNumbers) {
            plan_again(tx, &lane.key(0)?, own).await?;
        }
    }
    for key in [&ka, &kb] {
        wake(tx, key, rules).await?;
    }
    Ok(Link::Made)
}

/// What keeps two records from being linked: they are already, one is somebody else's, or an attempt is open.
async fn hindered(
    tx: &mut Tx<'_>,
    (a, ka): (&RecordId, &Key),
    (b, kb): (&RecordId, &Key),
    own: i64,
) -> Result<Option<Link>, StoreError> {
    for (key, other) in [(ka, b), (kb, a)] {
        if let Some(end) = ends(tx, key).await?.at(&other.system) {
            let made = end.id == *other;
            return Ok(Some(if made { Link::Made } else { Link::Taken(end.id.clone()) }));
        }
    }
    for key in [ka, kb] {
        let open = tx
            .row(
                "SELECT 1 FROM outbox WHERE source = ?1 AND seq <> ?2 AND (state IN (2, 3) OR maybe = 1 \
                 OR (state = 1 AND notes IS NOT NULL)) LIMIT 1",
                &[key.into(), own.into()],
            )
            .await?;
        if open.is_some() {
            return Ok(Some(Link::Busy));
        }
    }
    Ok(None)
}

/// Rows that waited for this record's counterpart take their place again.
pub(super) async fn wake(tx: &mut Tx<'_>, record: &Key, rules: Rules) -> Result<(), StoreError> {
    let rows = tx.rows("SELECT seq FROM need WHERE record = ?1", &[record.into()]).await?;
    for r in &rows {
        let seq = r.int(0)?;
        tx.exec("DELETE FROM need WHERE seq = ?1", &[seq.into()]).await?;
        let lane = tx
            .row(
                "UPDATE outbox SET state = 0, not_before = 0, reason = NULL WHERE seq = ?1 AND state = 4 RETURNING lane",
                &[seq.into()],
            )
            .await?;
        if let Some(lane) = lane {
            promote(tx, &lane.key(0)?, rules).await?;
        }
    }
    if !rows.is_empty() {
        tx.notify();
    }
    Ok(())
}

/// Writes one end's base.
pub(super) async fn set_base(tx: &mut Tx<'_>, record: &Key, base: &Base) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(base).map_err(|_| StoreError::Damaged("outbox: base"))?;
    tx.exec("UPDATE link SET base = ?2 WHERE record = ?1", &[record.into(), bytes.as_slice().into()]).await?;
    Ok(())
}

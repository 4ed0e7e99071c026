//! A change enters the outbox, once for each destination that wants it.

use super::keys::{Key, Keys, effect_key};
use super::lanes::{free_names, is_free, promote};
use super::links::person_of;
use super::row::join_keys;
use super::settle::close;
use crate::change::{Change, Effect};
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Tx};

/// A change addressed to one destination.
#[derive(Clone, Debug)]
pub struct NewRow {
    /// The system it goes to.
    pub target: String,
    /// Which of the system's destinations.
    pub destination: String,
    /// Exclusive names in the target's own folding.
    pub exclusive: Vec<String>,
    /// What is to be carried out.
    pub change: Change,
}

/// Rows a transaction numbers in one go.
pub(super) async fn numbers(tx: &mut Tx<'_>, count: usize) -> Result<i64, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last = tx
        .row(
            "INSERT INTO counter (name, n) VALUES ('seq', ?1) \
             ON CONFLICT (name) DO UPDATE SET n = counter.n + ?1 RETURNING n",
            &[count.into()],
        )
        .await?
        .ok_or_else(|| StoreError::Damaged("outbox: seq"))?
        .int(0)?;
    Ok(last - count + 1)
}

/// Adds the row, or puts the newer state in the place of an older one that was never sent. `seq` is used if it is new.
pub(super) async fn enqueue(
    tx: &mut Tx<'_>,
    seq: i64,
    row: &NewRow,
    read_at: i64,
    config: i64,
    rules: Rules,
) -> Result<(), StoreError> {
    let keys = Keys(tx.crypt());
    let change = &row.change;
    let (target, destination) = (row.target.as_str(), row.destination.as_str());
    let source = keys.record(&change.source);
    let names: Vec<Key> = match rules.hold(Rule::ExclusiveNames) {
        true => row.exclusive.iter().map(|n| keys.name(target, destination, n)).collect(),
        false => vec![],
    };
    let body = tx.crypt().seal_json("outbox.change", change)?;
    let subject = keys.record(&change.subject);
    let once = match &change.effect {
        Effect::State => None,
        Effect::Once(_) if rules.hold(Rule::VersionFreeKeys) => {
            Some(keys.once(&effect_key(target, destination, change)))
        }
        Effect::Once(_) => Some(keys.once(&format!("{}/{seq}", effect_key(target, destination, change)))),
    };
    let person = person_of(tx, &subject).await?;
    let lane = Keys(tx.crypt()).lane(target, destination, &person);
    match &once {
        Some(once) => {
            let settled = tx.row("SELECT 1 FROM ledger WHERE once = ?1", &[once.into()]).await?.is_some();
            if settled || tx.row("SELECT 1 FROM outbox WHERE once = ?1", &[once.into()]).await?.is_some() {
                return Ok(());
            }
        }
        None => {
            // The plain condition `once IS NULL` would be answered by the index on `once`: with every state there is.
            let rows = tx
                .rows(
                    "SELECT seq, state, lane, names, CASE WHEN state IN (2, 3) OR maybe = 1 OR notes IS NOT NULL THEN 1 \
                     ELSE 0 END FROM outbox WHERE source = ?1 AND target = ?2 AND destination = ?3 AND flow = ?4 \
                     AND CASE WHEN once IS NULL THEN 1 ELSE 0 END = 1 ORDER BY seq",
                    &[(&source).into(), target.into(), destination.into(), change.body.flow().as_str().into()],
                )
                .await?;
            // What may have taken effect keeps its place; the newest state comes after it, and those between are over.
            let mut place = None;
            let mut over = vec![];
            for (i, row) in rows.iter().enumerate() {
                if row.int(4)? != 0 {
                    over.extend(place.take());
                } else if place.is_none() {
                    place = Some(i);
                } else {
                    over.push(i);
                }
            }
            for row in over.into_iter().filter_map(|i| rows.get(i)) {
                let names: Vec<Key> =
                    row.blob(3)?.chunks_exact(16).filter_map(|c| c.try_into().ok()).collect();
                let seq = row.int(0)?;
                tx.exec(
                    "UPDATE review SET decided = ?2, verdict = 'superseded' WHERE seq = ?1 AND decided IS NULL",
                    &[seq.into(), tx.now().into()],
                )
                .await?;
                close(tx, seq, &row.key(2)?, &names, &[], rules).await?;
            }
            if let Some(older) = place.and_then(|i| rows.get(i)) {
                let (seq, old_lane) = (older.int(0)?, older.key(2)?);
                let held: Vec<Key> =
                    older.blob(3)?.chunks_exact(16).filter_map(|c| c.try_into().ok()).collect();
                free_names(tx, seq, &held).await?;
                let state = if older.int(1)? == 5 { 5 } else { 0 };
                tx.exec("DELETE FROM need WHERE seq = ?1", &[seq.into()]).await?;
                tx.exec(
                    "UPDATE outbox SET change = ?2, names = ?3, lane = ?4, person = ?5, read_at = ?6, config = ?7, \
                     state = ?8, plan = plan + 1, command = NULL, owner = owner * ?9, until = until * ?9, \
                     not_before = 0, tries = 0, \
                     first_tick = 0, first_sent = 0, creates = 0, reason = CASE WHEN ?8 = 5 THEN reason ELSE NULL END \
                     WHERE seq = ?1",
                    &[
                        seq.into(),
                        body.as_slice().into(),
                        join_keys(&names).as_slice().into(),
                        (&lane).into(),
                        (&person).into(),
                        read_at.into(),
                        config.into(),
                        i64::from(state).into(),
                        // Whoever decides about the older state just now has lost the row.
                        (!rules.hold(Rule::PlanNumbers)).into(),
                    ],
                )
                .await?;
                promote(tx, &lane, rules).await?;
                if old_lane != lane {
                    promote(tx, &old_lane, rules).await?;
                }
                tx.notify();
                return Ok(());
            }
        }
    }
    let head = is_free(tx, &lane, rules).await?;
    let now = tx.now();
    tx.exec(
        "INSERT INTO outbox (seq, once, target, destination, flow, source, subject, person, lane, names, state, head, \
         plan, creates, maybe, attempt, first_sent, first_tick, read_at, not_before, share, owner, until, config, \
         created, tries, reason, change, command, notes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, 0, 0, 0, 0, 0, 0, ?12, ?13, ?14, 0, 0, ?15, ?13, 0, \
         NULL, ?16, NULL, NULL)",
        &[
            seq.into(),
            once.as_ref().map(<[u8; 16]>::as_slice).into(),
            target.into(),
            destination.into(),
            change.body.flow().as_str().into(),
            (&source).into(),
            (&subject).into(),
            (&person).into(),
            (&lane).into(),
            join_keys(&names).as_slice().into(),
            head.into(),
            read_at.into(),
            now.into(),
            i64::MAX.into(),
            config.into(),
            body.as_slice().into(),
        ],
    )
    .await?;
    tx.notify();
    Ok(())
}

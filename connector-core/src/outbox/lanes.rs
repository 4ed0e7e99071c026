//! Lanes and exclusive names: whose turn it is.
//!
//! A row stands in the lane of its person at its destination. The head of a lane is its first row, open attempts
//! before all others, then by sequence; rows that wait for a counterpart or are dead stand aside. Exclusive names are
//! locks: a head takes all of its names at once or none, before anything is looked up for it, and keeps them until it
//! leaves the queue.

use super::keys::{Key, Keys};
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Tx};

/// Rows that stand in their lane.
const STANDING: &str = "SELECT seq, head FROM outbox WHERE lane = ?1 AND state NOT IN (4, 6) \
    ORDER BY CASE WHEN state IN (2, 3) OR maybe = 1 OR (state = 1 AND (notes IS NOT NULL OR first_tick > 0)) \
    THEN 0 ELSE 1 END, seq LIMIT 1";
const STANDING_AND_WAITING: &str = "SELECT seq, head FROM outbox WHERE lane = ?1 AND state <> 6 \
    ORDER BY CASE WHEN state IN (2, 3) OR maybe = 1 OR (state = 1 AND (notes IS NOT NULL OR first_tick > 0)) \
    THEN 0 ELSE 1 END, seq LIMIT 1";

/// Marks the head of a lane, after something in it changed.
pub(super) async fn promote(tx: &mut Tx<'_>, lane: &Key, rules: Rules) -> Result<(), StoreError> {
    let sql = if rules.hold(Rule::WaitingStepsAside) { STANDING } else { STANDING_AND_WAITING };
    let Some(first) = tx.row(sql, &[lane.into()]).await? else { return Ok(()) };
    let (seq, head) = (first.int(0)?, first.int(1)? != 0);
    tx.exec(
        "UPDATE outbox SET head = 0 WHERE lane = ?1 AND head = 1 AND seq <> ?2",
        &[lane.into(), seq.into()],
    )
    .await?;
    if !head {
        tx.exec("UPDATE outbox SET head = 1 WHERE seq = ?1", &[seq.into()]).await?;
        tx.notify();
    }
    Ok(())
}

/// Whether a new row of the lane would be its head.
pub(super) async fn is_free(tx: &mut Tx<'_>, lane: &Key, rules: Rules) -> Result<bool, StoreError> {
    let sql = if rules.hold(Rule::WaitingStepsAside) {
        "SELECT 1 FROM outbox WHERE lane = ?1 AND state NOT IN (4, 6) LIMIT 1"
    } else {
        "SELECT 1 FROM outbox WHERE lane = ?1 AND state <> 6 LIMIT 1"
    };
    Ok(tx.row(sql, &[lane.into()]).await?.is_none())
}

/// Takes all names for the row, or none.
pub(super) async fn take_names(tx: &mut Tx<'_>, seq: i64, names: &[Key]) -> Result<bool, StoreError> {
    for name in names {
        let holder = tx.row("SELECT seq FROM name WHERE name = ?1", &[name.into()]).await?;
        if let Some(holder) = holder
            && holder.int(0)? != seq
        {
            return Ok(false);
        }
    }
    for name in names {
        tx.exec(
            "INSERT INTO name (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
            &[name.into(), seq.into()],
        )
        .await?;
    }
    Ok(true)
}

/// Gives back the names that the row holds.
pub(super) async fn free_names(tx: &mut Tx<'_>, seq: i64, names: &[Key]) -> Result<(), StoreError> {
    for name in names {
        tx.exec("DELETE FROM name WHERE name = ?1 AND seq = ?2", &[name.into(), seq.into()]).await?;
    }
    if !names.is_empty() {
        tx.notify();
    }
    Ok(())
}

/// Throws away what was decided for the unsent rows of a lane.
pub(super) async fn plan_again(tx: &mut Tx<'_>, lane: &Key, but: i64) -> Result<(), StoreError> {
    tx.exec(
        "UPDATE outbox SET plan = plan + 1, state = 0, command = NULL, owner = 0, until = 0 WHERE lane = ?1 \
         AND seq <> ?2 AND (state = 0 OR state = 1) AND maybe = 0 AND notes IS NULL AND NOT (state = 1 AND first_tick > 0)",
        &[lane.into(), but.into()],
    )
    .await?;
    Ok(())
}

/// Puts the rows of a person into the lanes of another key of the same person.
pub(super) async fn rekey(tx: &mut Tx<'_>, from: &Key, to: &Key, rules: Rules) -> Result<(), StoreError> {
    let rows = tx
        .rows("SELECT seq, target, destination, lane FROM outbox WHERE person = ?1", &[from.into()])
        .await?;
    let mut lanes = Vec::new();
    for r in &rows {
        let lane = Keys(tx.crypt()).lane(r.text(1)?, r.text(2)?, to);
        tx.exec(
            "UPDATE outbox SET person = ?2, lane = ?3, head = 0 WHERE seq = ?1",
            &[r.int(0)?.into(), to.into(), (&lane).into()],
        )
        .await?;
        lanes.push(lane);
    }
    lanes.sort_unstable();
    lanes.dedup();
    for lane in lanes {
        promote(tx, &lane, rules).await?;
    }
    Ok(())
}

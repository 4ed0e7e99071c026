//! Rows whose counterpart never came: after their time each is a dead letter that names what is missing, so that nothing
//! waits for ever without anybody knowing.

use async_trait::async_trait;

use super::claim::bury;
use crate::change::Change;
use crate::rules::Rules;
use crate::store::{StoreError, Transaction, Tx};

/// Most rows of one transaction.
const SHARE: i64 = 100;

/// Gives up waiting.
#[derive(Clone, Copy, Debug)]
pub struct GiveUpWaiting {
    /// For rows that entered before this, in milliseconds since 1970.
    pub before: i64,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for GiveUpWaiting {
    /// How many rows became dead letters.
    type Out = u64;
    const NAME: &'static str = "give-up-waiting";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        // The states are named as in the partial index: SQLite uses it for no other text.
        let rows = tx
            .rows(
                "SELECT seq, lane, change FROM outbox WHERE state IN (2, 4, 5, 6) AND state = 4 AND created < ?1 \
                 ORDER BY seq LIMIT ?2",
                &[self.before.into(), SHARE.into()],
            )
            .await?;
        for row in &rows {
            let (seq, lane) = (row.int(0)?, row.key(1)?);
            let change: Change = tx.crypt().open_json("outbox.change", row.blob(2)?)?;
            let missing: Vec<String> =
                change.needs.iter().map(|record| format!("{}/{}", record.system, record.kind)).collect();
            let reason = format!(
                "its turn never came: nothing was made for {}, which the letter's body names; see to it, then replay",
                missing.join(", ")
            );
            tx.exec("DELETE FROM need WHERE seq = ?1", &[seq.into()]).await?;
            bury(tx, seq, &lane, &reason, self.rules).await?;
        }
        Ok(rows.len() as u64)
    }
}

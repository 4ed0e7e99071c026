//! What a dead owner left `Sent` is `Unknown` (I3).

use async_trait::async_trait;

use crate::store::{StoreError, Transaction, Tx};

/// Finds attempts whose claim ran out.
#[derive(Clone, Debug)]
pub struct Recover {
    /// The system.
    pub target: String,
    /// How long an unanswered request may still take effect, in milliseconds.
    pub quiet: i64,
    /// At a start of the only process on the store: every claim is a dead owner's.
    pub all: bool,
}

#[async_trait]
impl Transaction for Recover {
    type Out = u64;
    const NAME: &'static str = "recover";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<u64, StoreError> {
        let now = tx.now();
        let before = if self.all { i64::MAX } else { now };
        if self.all {
            tx.exec(
                "UPDATE outbox SET owner = 0, until = 0 WHERE target = ?1 AND state IN (0, 1, 3) AND head = 1 AND owner <> 0",
                &[self.target.as_str().into()],
            )
            .await?;
        }
        let found = tx
            .exec(
                "UPDATE outbox SET state = 3, maybe = 1, owner = 0, until = 0, not_before = ?3 \
                 WHERE state IN (2, 4, 5, 6) AND state = 2 AND target = ?1 AND until < ?2",
                &[self.target.as_str().into(), before.into(), (now + self.quiet).into()],
            )
            .await?;
        if found > 0 {
            tx.notify();
        }
        Ok(found)
    }
}

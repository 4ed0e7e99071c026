//! Take: heads of lanes whose time has come are reserved for one worker before anything is looked up for them.

use async_trait::async_trait;

use super::lanes::take_names;
use super::people::open_elsewhere;
use super::row::{Row, State, columns};
use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// Reserves rows of one target.
#[derive(Clone, Debug)]
pub struct Take {
    /// The system.
    pub target: String,
    /// Most rows.
    pub limit: i64,
    /// Who asks.
    pub owner: i64,
    /// How long the reservation holds, in milliseconds.
    pub lease: i64,
    /// Pause of a row that cannot go yet because of somebody else, in milliseconds.
    pub aside: i64,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for Take {
    type Out = Vec<Row>;
    const NAME: &'static str = "take";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Row>, StoreError> {
        let now = tx.now();
        let found = tx
            .rows(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM outbox WHERE target = ?1 AND head = 1 AND state IN (0, 1, 3) AND not_before <= ?2 AND until <= ?2 \
                     ORDER BY not_before, seq LIMIT ?3"
                ),
                &[self.target.as_str().into(), now.into(), self.limit.into()],
            )
            .await?;
        let mut out = Vec::with_capacity(found.len());
        for r in &found {
            let row = Row::read(r)?;
            // An unanswered attempt is asked about whoever else is on the way.
            let free = row.state == State::Unknown
                || (!self.rules.hold(Rule::OneDirection)
                    || !open_elsewhere(tx, &row.person, &row.lane).await?)
                    && (!self.rules.hold(Rule::LookUpAtTurn) || take_names(tx, row.seq, &row.names).await?);
            if free {
                tx.exec(
                    "UPDATE outbox SET owner = ?2, until = ?3 WHERE seq = ?1",
                    &[row.seq.into(), self.owner.into(), (now + self.lease).into()],
                )
                .await?;
                out.push(row);
            } else {
                tx.exec(
                    "UPDATE outbox SET not_before = ?2 WHERE seq = ?1",
                    &[row.seq.into(), (now + self.aside).into()],
                )
                .await?;
            }
        }
        Ok(out)
    }
}

//! A halted system hears nothing but a rare probe, from one replica, each pause twice the last (I13).

use async_trait::async_trait;

use crate::rules::{Rule, Rules};
use crate::store::{StoreError, Transaction, Tx};

/// Longest pause between two probes, in milliseconds.
const LONGEST: i64 = 3_600_000;

pub(super) async fn stop(
    tx: &mut Tx<'_>,
    system: &str,
    why: &str,
    probe: i64,
    rules: Rules,
) -> Result<(), StoreError> {
    let now = tx.now();
    let pause = if rules.hold(Rule::SlowProbe) { probe } else { 1 };
    tx.exec(
        "INSERT INTO halt (system, probe, pause, why, since) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (system) DO NOTHING",
        &[system.into(), (now + pause).into(), pause.into(), why.into(), now.into()],
    )
    .await?;
    tx.notify();
    Ok(())
}

/// Stops a system.
#[derive(Clone, Debug)]
pub struct Halt {
    /// The system.
    pub system: String,
    /// Why; holds no personal data.
    pub why: String,
    /// First pause, in milliseconds.
    pub probe: i64,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for Halt {
    type Out = ();
    const NAME: &'static str = "halt";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        stop(tx, &self.system, &self.why, self.probe, self.rules).await
    }
}

/// A stopped system.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Halted {
    /// The system.
    pub system: String,
    /// When it is asked again.
    pub probe: i64,
    /// Why; holds no personal data.
    pub why: String,
    /// Since when.
    pub since: i64,
}

/// Reads which systems are stopped.
#[derive(Clone, Copy, Debug)]
pub struct ListHalted;

#[async_trait]
impl Transaction for ListHalted {
    type Out = Vec<Halted>;
    const NAME: &'static str = "list-halted";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, StoreError> {
        let rows = tx.rows("SELECT system, probe, why, since FROM halt ORDER BY system", &[]).await?;
        rows.iter()
            .map(|r| {
                Ok(Halted {
                    system: r.text(0)?.to_owned(),
                    probe: r.int(1)?,
                    why: r.text(2)?.to_owned(),
                    since: r.int(3)?,
                })
            })
            .collect()
    }
}

/// Takes the right to probe a stopped system if a probe is due: one replica, one probe.
#[derive(Clone, Debug)]
pub struct ProbeDue {
    /// The system.
    pub system: String,
    /// Which rules hold.
    pub rules: Rules,
}

#[async_trait]
impl Transaction for ProbeDue {
    type Out = bool;
    const NAME: &'static str = "probe-due";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let now = tx.now();
        let row =
            tx.row("SELECT probe, pause FROM halt WHERE system = ?1", &[self.system.as_str().into()]).await?;
        let Some(row) = row else { return Ok(false) };
        if row.int(0)? > now {
            return Ok(false);
        }
        let pause =
            if self.rules.hold(Rule::SlowProbe) { (row.int(1)? * 2).min(LONGEST) } else { row.int(1)? };
        tx.exec(
            "UPDATE halt SET probe = ?2, pause = ?3 WHERE system = ?1",
            &[self.system.as_str().into(), (now + pause).into(), pause.into()],
        )
        .await?;
        Ok(true)
    }
}

/// Takes note of the configuration in force. After another one halted systems are probed at once: it may have mended
/// what stopped them.
#[derive(Clone, Copy, Debug)]
pub struct Configured {
    /// Digest of the configuration.
    pub digest: i64,
}

#[async_trait]
impl Transaction for Configured {
    /// Whether it is another one.
    type Out = bool;
    const NAME: &'static str = "configured";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<bool, StoreError> {
        let now = self.digest.to_be_bytes();
        let before = tx.row("SELECT value FROM meta WHERE name = 'configuration'", &[]).await?;
        if before.as_ref().map(|r| r.blob(0)).transpose()?.is_some_and(|b| b == now) {
            return Ok(false);
        }
        tx.exec(
            "INSERT INTO meta(name, value) VALUES ('configuration', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[now.as_slice().into()],
        )
        .await?;
        tx.exec("UPDATE halt SET probe = 0", &[]).await?;
        tx.notify();
        Ok(true)
    }
}

/// The system is well again.
#[derive(Clone, Debug)]
pub struct EndHalt {
    /// The system.
    pub system: String,
}

#[async_trait]
impl Transaction for EndHalt {
    type Out = ();
    const NAME: &'static str = "end-halt";

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        tx.exec("DELETE FROM halt WHERE system = ?1", &[self.system.as_str().into()]).await?;
        tx.notify();
        Ok(())
    }
}

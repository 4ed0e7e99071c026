//! Whether a system may be asked: the first check after a start, and the rare probe of a halted one.

use super::bridge::{Bridge, RuntimeError};
use crate::outbox::{EndHalt, ListHalted, ProbeDue};
use crate::reconcile::Side;

impl Bridge {
    /// Whether the system may be asked now; asks its `check` where that is due.
    pub async fn ready(&self, side: Side) -> Result<bool, RuntimeError> {
        let system = self.system(side);
        let halted = self.store.read(ListHalted).await?.iter().any(|h| h.system == system.name);
        system.set_halted(halted);
        if !halted && system.is_checked() {
            return Ok(true);
        }
        let due = if halted {
            self.tx(ProbeDue { system: system.name.clone(), rules: self.options.rules }).await?
        } else {
            true
        };
        if !due {
            return Ok(false);
        }
        let findings = system.connector.check().await;
        let bad: Vec<_> = findings.iter().filter(|f| !f.ok).collect();
        for finding in &bad {
            tracing::warn!(
                system = system.name,
                what = finding.what,
                text = finding.text,
                "check found a problem"
            );
        }
        if !bad.is_empty() {
            if !halted && bad.iter().any(|f| f.what == "login") {
                self.halt(system, "the login is refused").await?;
            }
            return Ok(false);
        }
        system.set_checked();
        if halted {
            self.tx(EndHalt { system: system.name.clone() }).await?;
            system.set_halted(false);
            tracing::info!(system = system.name, "system is well again");
        }
        Ok(true)
    }
}

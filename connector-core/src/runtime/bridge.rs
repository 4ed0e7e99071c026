//! One configured pair of instances over one store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::system::System;
use crate::change::{Record, RecordId};
use crate::clock::{Clock, millis};
use crate::connector::{Fault, Reject};
use crate::outbox::{Halt, Key, Keys, NewRow, Recover};
use crate::reconcile::{Policies, Side};
use crate::rules::Rules;
use crate::store::{Store, StoreError, Transaction};

/// Where a first start begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With what changes from now on; what is there already is only taken note of.
    #[default]
    Now,
    /// With everything that is there.
    Everything,
}

/// How a bridge works.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// Who wins when both ends changed a field.
    pub policies: Policies,
    /// Where a first start begins.
    pub begin: Begin,
    /// How long a claim holds.
    pub lease: Duration,
    /// Pause of a row that cannot go yet because of somebody else.
    pub aside: Duration,
    /// Records of one poll.
    pub page: usize,
    /// Rows that one worker takes at a time.
    pub take: usize,
    /// Workers for each system.
    pub workers: usize,
    /// Rows under way above which endpoints answer 503, and below which they resume. Polling pauses at a tenth of it.
    pub high_water: i64,
    /// Digest of the configuration that decides about commands.
    pub config: i64,
    /// Which replica this is: any number but 0 that no other has.
    pub owner: i64,
    /// Whether no other process shares the store.
    pub alone: bool,
    /// Which rules hold.
    pub rules: Rules,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            policies: Policies::default(),
            begin: Begin::Now,
            lease: Duration::from_secs(60),
            aside: Duration::from_millis(250),
            page: 500,
            take: 64,
            workers: 4,
            high_water: 200_000,
            config: 0,
            owner: 1,
            alone: true,
            rules: Rules::all(),
        }
    }
}

/// Told after each transaction, by name: a simulation ends the process there. The point before a transaction is the
/// one after what came before it.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Execution is at this point; `effect` is false where the transaction found nothing to do.
    async fn at(&self, point: &'static str, effect: bool);
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The store failed. Nothing of the step counts; it is done again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system failed.
    #[error("{system}: {fault}")]
    Fault {
        /// Which system.
        system: String,
        /// What happened.
        fault: Fault,
    },
}

/// One CHT and one partner over one store.
pub struct Bridge {
    /// Its configured name.
    pub name: String,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cht: System,
    pub(super) partner: System,
    pub(super) options: BridgeOptions,
    pub(super) open: AtomicI64,
    hooks: Option<Arc<dyn Hooks>>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge over an open store.
    pub fn new(
        name: impl Into<String>,
        store: Store,
        clock: Arc<dyn Clock>,
        cht: System,
        partner: System,
        options: BridgeOptions,
    ) -> Self {
        Self { name: name.into(), store, clock, cht, partner, options, open: AtomicI64::new(0), hooks: None }
    }

    /// Tells `hooks` of each transaction.
    pub fn with_hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Both systems.
    pub fn systems(&self) -> [&System; 2] {
        [&self.cht, &self.partner]
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The system of one side.
    pub fn system(&self, side: Side) -> &System {
        match side {
            Side::Cht => &self.cht,
            Side::Partner => &self.partner,
        }
    }

    pub(super) fn other(&self, side: Side) -> &System {
        match side {
            Side::Cht => &self.partner,
            Side::Partner => &self.cht,
        }
    }

    pub(super) fn keys(&self) -> Keys<'_> {
        Keys(self.store.crypt())
    }

    /// Open rows, as far as this process knows.
    pub fn backlog(&self) -> i64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether no more is taken in for now.
    pub fn is_full(&self) -> bool {
        self.backlog() >= self.options.high_water
    }

    /// Whether so much is under way that no more is polled for now: what a feed gives is safe where it is, and a store
    /// that holds all of it is large for good.
    pub(super) fn has_enough(&self) -> bool {
        self.backlog() >= (self.options.high_water / 10).max(1)
    }

    /// Runs a transaction; `effect` tells whether it found anything to do.
    pub(super) async fn tx_if<T: Transaction>(
        &self,
        transaction: T,
        effect: impl Fn(&T::Out) -> bool,
    ) -> Result<T::Out, StoreError> {
        let out = self.store.run(transaction).await?;
        if let Some(hooks) = &self.hooks {
            hooks.at(T::NAME, effect(&out)).await;
        }
        Ok(out)
    }

    pub(super) async fn tx<T: Transaction>(&self, transaction: T) -> Result<T::Out, StoreError> {
        self.tx_if(transaction, |_| true).await
    }

    /// After a start: what a dead owner left on the wire is unknown.
    pub async fn recover(&self, all: bool) -> Result<u64, StoreError> {
        let mut found = 0;
        for system in self.systems() {
            let quiet = millis(system.capabilities.quiet);
            found += self.tx_if(Recover { target: system.name.clone(), quiet, all }, |n| *n > 0).await?;
        }
        Ok(found)
    }

    /// A fault of a system while reading from it; a halt stops it.
    pub(super) async fn fault(&self, system: &System, fault: Fault) -> RuntimeError {
        if let Fault::Halt(why) = &fault
            && let Err(error) = self.halt(system, why).await
        {
            return error.into();
        }
        RuntimeError::Fault { system: system.name.clone(), fault }
    }

    pub(super) async fn halt(&self, system: &System, why: &str) -> Result<(), StoreError> {
        system.set_halted(true);
        tracing::error!(
            system = system.name,
            why,
            "system halted: credentials or rights, or an outage that looks so; it is probed until it answers well"
        );
        let probe = millis(system.capabilities.probe).max(1);
        self.tx(Halt { system: system.name.clone(), why: why.to_owned(), probe, rules: self.options.rules })
            .await
    }

    /// The changes that a record stands for, addressed to the destinations that want them. Pure.
    pub(super) fn translate(&self, side: Side, record: &Record) -> Result<Vec<NewRow>, Reject> {
        let (from, to) = (self.system(side), self.other(side));
        let mut rows = vec![];
        for change in from.connector.changes(record)? {
            let destinations = to.connector.destinations(&change)?;
            for d in destinations {
                rows.push(NewRow {
                    target: to.name.clone(),
                    destination: d.name,
                    exclusive: d.exclusive,
                    change: change.clone(),
                });
            }
        }
        Ok(rows)
    }

    /// Digest of what a record holds.
    pub(super) fn digest(&self, record: &Record) -> Key {
        let bytes = serde_json::to_vec(&record.body).unwrap_or_default();
        self.store.crypt().digest(&[b"record-content", &[u8::from(record.deleted)], &bytes])
    }

    /// A record's name as it stands in logs: a keyed digest.
    pub fn log_id(&self, id: &RecordId) -> String {
        crate::outbox::hex(&self.keys().record(id))
    }
}

//! Into a system: take, plan, claim, send, settle.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, stream};

use super::bridge::{Bridge, RuntimeError};
use super::pace::pause;
use super::plan::{Opened, unanswered};
use super::system::System;
use crate::change::Body;
use crate::clock::millis;
use crate::connector::{Confirmed, Fault, Outcome, Receipt, Repeat, Task};
use crate::outbox::{Claim, Claimed, Decision, NO_ANSWER, Notes, Planned, Settle, SettleItem, State, Take};
use crate::reconcile::Side;
use crate::rules::Rule;
use crate::transport::before;

/// Rows planned side by side by one worker.
const PLANNING: usize = 16;
/// Outcomes settled in one transaction.
const SETTLING: usize = 64;

/// A row with its command, on its way.
struct Job {
    opened: Arc<Opened>,
    planned: Arc<Planned>,
    notes: Arc<Notes>,
    digest: Option<(crate::outbox::Key, crate::outbox::Key)>,
}

/// What planning gave for one row.
enum Plan {
    Decided(Decision),
    /// `confirm` answered: the open attempt is settled with this.
    Confirmed(Outcome),
}

impl Bridge {
    /// One round for one system: takes rows whose turn it is, decides, sends, settles. How many rows it took.
    pub async fn work(&self, side: Side) -> Result<usize, RuntimeError> {
        let system = self.system(side);
        if system.is_halted() || !system.is_checked() {
            return Ok(0);
        }
        let room = system.pace.room(self.clock.now(), self.options.take);
        if room.rows == 0 {
            return Ok(0);
        }
        let take = Take {
            target: system.name.clone(),
            limit: i64::try_from(room.rows).unwrap_or(1),
            owner: self.options.owner,
            lease: millis(self.options.lease),
            aside: millis(self.options.aside),
            rules: self.options.rules,
        };
        let rows = self.tx_if(take, |rows| !rows.is_empty()).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let count = rows.len();
        let mut opened = Vec::with_capacity(count);
        for row in rows {
            opened.push(Arc::new(self.open_row(row)?));
        }
        let plans: Vec<(Arc<Opened>, Plan)> = stream::iter(opened)
            .map(|o| async move {
                let plan = self.decide(side, &o).await;
                (o, plan)
            })
            .buffered(PLANNING)
            .collect()
            .await;
        self.carry_out(side, plans).await?;
        Ok(count)
    }

    async fn decide(&self, side: Side, opened: &Opened) -> Plan {
        let row = &opened.row;
        let closed = self.system(side).pace.closed_for(self.clock.now());
        if closed > 0 {
            return Plan::Decided(Decision::Later { after: closed, failed: false });
        }
        match row.state {
            State::Planned => Plan::Decided(Decision::Again),
            State::Unknown => self.unknown(side, opened).await,
            _ => Plan::Decided(self.plan(side, opened).await),
        }
    }

    /// An attempt ended without an answer, and the quiet time is over.
    async fn unknown(&self, side: Side, opened: &Opened) -> Plan {
        let row = &opened.row;
        let planned = match row.planned(self.store.crypt()) {
            Ok(Some(planned)) => planned,
            _ => return Plan::Decided(self.plan(side, opened).await),
        };
        let repeat = match self.options.rules.hold(Rule::Confirm) {
            true => planned.command.repeat,
            false => Repeat::Safe,
        };
        match repeat {
            // What is known of the person may be old: decided again from the present state.
            Repeat::Safe if matches!(opened.change.body, Body::Patient(_)) => {
                Plan::Decided(self.plan(side, opened).await)
            }
            Repeat::Safe => Plan::Decided(Decision::Again),
            Repeat::Ask => Plan::Decided(Decision::Review {
                kind: NO_ANSWER.into(),
                other: None,
                evidence: unanswered(row),
            }),
            Repeat::Confirm => self.confirm(side, opened, planned).await,
        }
    }

    async fn confirm(&self, side: Side, opened: &Opened, planned: Planned) -> Plan {
        let (system, row) = (self.system(side), &opened.row);
        let quiet = millis(system.capabilities.quiet);
        let later = Plan::Decided(Decision::Later {
            after: quiet.max(pause(row.tries, row.seq, None)),
            failed: true,
        });
        let Ok(notes) = row.notes(self.store.crypt()) else { return later };
        let within = millis(planned.command.within);
        let task = Task {
            key: opened.key.clone(),
            command: planned.command,
            notes,
            attempt: row.attempt,
            first_sent: row.first_sent,
        };
        match system.connector.confirm(&task).await {
            Ok(Confirmed::Applied(receipt)) => Plan::Confirmed(Outcome::Done(receipt)),
            Ok(Confirmed::Step(name, note)) => Plan::Confirmed(Outcome::Step(name, note)),
            Ok(Confirmed::Absent) => Plan::Decided(Decision::Absent),
            Ok(Confirmed::Unclear) if self.clock.now() - row.first_sent > within => {
                Plan::Decided(Decision::Review {
                    kind: NO_ANSWER.into(),
                    other: None,
                    evidence: unanswered(row),
                })
            }
            Ok(Confirmed::Unclear) => later,
            Err(fault) => {
                if matches!(fault, Fault::Halt(_)) {
                    let _ = self.fault(system, fault).await;
                }
                later
            }
        }
    }

    /// Claims what is to be sent, sends it, settles each outcome as it comes.
    #[tracing::instrument(skip_all, fields(bridge = self.name, system = self.system(side).name, rows = plans.len()))]
    async fn carry_out(&self, side: Side, plans: Vec<(Arc<Opened>, Plan)>) -> Result<(), RuntimeError> {
        let system = self.system(side);
        let crypt = self.store.crypt();
        let (mut rows, mut jobs, mut confirmed) = (vec![], BTreeMap::new(), vec![]);
        for (opened, plan) in plans {
            let row = &opened.row;
            let decision = match plan {
                Plan::Confirmed(outcome) => {
                    let Some(planned) = row.planned(crypt)? else { continue };
                    let notes = Arc::new(row.notes(crypt)?);
                    let job = Job { opened: opened.clone(), planned: Arc::new(planned), notes, digest: None };
                    confirmed.push(self.item(system, &job, row.attempt, row.first_sent, outcome, 1, true));
                    continue;
                }
                Plan::Decided(decision) => decision,
            };
            let planned = match &decision {
                Decision::Send { planned, .. } => Some(Planned::clone(planned)),
                Decision::Again => row.planned(crypt)?,
                _ => None,
            };
            if let Some(planned) = planned {
                let digest = match &decision {
                    Decision::Send { digest, .. } => *digest,
                    _ if !opened.change.source.is_person() && row.once.is_none() => {
                        Some(self.sent_digest(row, &planned.command))
                    }
                    _ => None,
                };
                let notes = match &decision {
                    // A new command begins with its first step; only what was kept to make a person is used again.
                    Decision::Send { creates: false, .. } => Notes::new(),
                    _ => row.notes(crypt)?,
                };
                let job = Job {
                    opened: opened.clone(),
                    planned: Arc::new(planned),
                    notes: Arc::new(notes),
                    digest,
                };
                jobs.insert(row.seq, job);
            } else if matches!(decision, Decision::Again) {
                continue;
            }
            rows.push((row.seq, row.plan, opened.change.source.clone(), decision));
        }
        if !confirmed.is_empty() {
            self.settle(system, confirmed).await?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        let began = self.clock.now();
        let claim = Claim {
            owner: self.options.owner,
            lease: millis(self.options.lease),
            aside: millis(self.options.aside),
            rows,
            rules: self.options.rules,
        };
        let claimed = self.tx(claim).await?;
        let deadline = match self.options.rules.hold(Rule::Deadline) {
            true => began + millis(self.options.lease) * 3 / 4,
            false => i64::MAX,
        };
        let groups = groups(system, claimed, jobs);
        let requests: FuturesUnordered<_> =
            groups.into_iter().map(|group| self.send(system, group, deadline)).collect();
        let mut chunks = requests.ready_chunks(SETTLING);
        while let Some(chunk) = chunks.next().await {
            self.settle(system, chunk.into_iter().flatten().collect()).await?;
        }
        Ok(())
    }

    /// One request. No byte of it leaves after the deadline.
    #[tracing::instrument(skip_all, fields(system = system.name, tasks = group.len()))]
    async fn send(&self, system: &System, group: Vec<(Claimed, Job)>, deadline: i64) -> Vec<SettleItem> {
        let size = group.len();
        let permit = system.pace.admit().await;
        let wait = system.pace.slot(self.clock.now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        // Since the claim was made the system may have failed so often that it is left alone.
        let left_alone =
            permit.is_none() || system.is_halted() || system.pace.closed_for(self.clock.now()) > 0;
        let outcomes = if left_alone {
            group.iter().map(|_| Outcome::retry("the system is left alone for now")).collect()
        } else {
            let tasks: Vec<Task> = group
                .iter()
                .map(|(claimed, job)| Task {
                    key: job.opened.key.clone(),
                    command: job.planned.command.clone(),
                    notes: Notes::clone(&job.notes),
                    attempt: claimed.attempt,
                    first_sent: claimed.first_sent,
                })
                .collect();
            let work = AssertUnwindSafe(before(deadline, system.connector.deliver(&tasks))).catch_unwind();
            let mut outcomes = work.await.unwrap_or_else(|_| {
                tracing::error!(
                    system = system.name,
                    "the connector panicked while sending; its attempts are unknown"
                );
                vec![]
            });
            outcomes.resize(size, Outcome::Unknown);
            outcomes
        };
        let now = self.clock.now();
        let mut items = Vec::with_capacity(size);
        for ((claimed, job), outcome) in group.iter().zip(outcomes) {
            if !left_alone {
                system.pace.note(&outcome, now);
            }
            if let Outcome::Halt(_) = &outcome {
                system.set_halted(true);
            }
            items.push(self.item(system, job, claimed.attempt, claimed.first_sent, outcome, size, false));
        }
        items
    }

    #[expect(clippy::too_many_arguments, reason = "an attempt and what became of it")]
    fn item(
        &self,
        system: &System,
        job: &Job,
        attempt: u32,
        first_sent: i64,
        outcome: Outcome,
        size: usize,
        confirmed: bool,
    ) -> SettleItem {
        let row = &job.opened.row;
        let there = match &outcome {
            Outcome::Done(Receipt { record: Some(record), .. }) => {
                system.connector.changes(record).ok().and_then(|changes| {
                    changes.into_iter().find_map(|c| match c.body {
                        Body::Patient(p) => Some(p.fields),
                        _ => None,
                    })
                })
            }
            _ => None,
        };
        let asked = match &outcome {
            Outcome::Retry { after, .. } => *after,
            _ => None,
        };
        SettleItem {
            row: Arc::new(row.clone()),
            change: Arc::new(job.opened.change.clone()),
            planned: job.planned.clone(),
            notes: job.notes.clone(),
            attempt,
            first_sent,
            began: self.clock.now(),
            pause: match &outcome {
                Outcome::Conflict => millis(self.options.aside),
                _ => pause(row.tries, row.seq, asked),
            },
            outcome,
            there,
            size,
            digest: job.digest,
            confirmed,
        }
    }

    async fn settle(&self, system: &System, items: Vec<SettleItem>) -> Result<(), RuntimeError> {
        for item in &items {
            let label = label(&item.outcome);
            metrics::counter!("connector_outcomes_total", "system" => system.name.clone(), "outcome" => label).increment(1);
            match &item.outcome {
                Outcome::Done(_) | Outcome::Step(..) => {}
                Outcome::Rejected(reject) => tracing::warn!(
                    flow = item.change.body.flow().as_str(),
                    source_id = crate::outbox::hex(&item.row.source),
                    attempt = item.attempt,
                    error = reject.reason,
                    "rejected: now a dead letter"
                ),
                Outcome::Halt(why) => tracing::error!(system = system.name, why, "system halted"),
                _ => tracing::debug!(
                    flow = item.change.body.flow().as_str(),
                    source_id = crate::outbox::hex(&item.row.source),
                    attempt = item.attempt,
                    outcome = label,
                    "not done yet"
                ),
            }
        }
        let settle = Settle {
            owner: self.options.owner,
            items,
            quiet: millis(system.capabilities.quiet),
            probe: millis(system.capabilities.probe).max(1),
            rules: self.options.rules,
        };
        let settled = self.tx(settle).await?;
        self.open.fetch_sub(i64::try_from(settled.done).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Step(..) => "step",
        Outcome::Retry { .. } => "retry",
        Outcome::Unknown => "unknown",
        Outcome::Conflict => "conflict",
        Outcome::Rejected(_) => "rejected",
        Outcome::Halt(_) => "halt",
    }
}

/// Tasks of equal group come together, as many as the system takes at a time and none in a larger company than its own
/// share.
fn groups(system: &System, claimed: Vec<Claimed>, mut jobs: BTreeMap<i64, Job>) -> Vec<Vec<(Claimed, Job)>> {
    let mut out: Vec<Vec<(Claimed, Job)>> = vec![];
    let mut open: BTreeMap<(String, i64), usize> = BTreeMap::new();
    for claimed in claimed {
        let Some(job) = jobs.remove(&claimed.seq) else { continue };
        let most =
            i64::try_from(system.capabilities.batch.max(1)).unwrap_or(1).min(job.opened.row.share.max(1));
        let Some(group) = job.planned.command.group.clone().filter(|_| most > 1) else {
            out.push(vec![(claimed, job)]);
            continue;
        };
        let slot = open.entry((group, most)).or_insert(usize::MAX);
        match out.get_mut(*slot) {
            Some(batch) if i64::try_from(batch.len()).is_ok_and(|n| n < most) => batch.push((claimed, job)),
            _ => {
                *slot = out.len();
                out.push(vec![(claimed, job)]);
            }
        }
    }
    out
}

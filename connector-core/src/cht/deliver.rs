//! Writing: one `_bulk_docs` for all tasks, read back by one `_all_docs`.
//!
//! Guarantees one outcome a task. A row with a new revision is CouchDB's own word for a write; whatever else is answered is
//! settled by reading what is stored now. Since every write has a fixed id and revision, sending it again changes nothing.

use std::collections::HashMap;

use cht_core_client::Error;
use cht_core_client::bulk::{DocRow, RowOutcome};
use cht_core_client::error::Reason;
use serde_json::Value;
use tokio::time::Instant;

use super::Cht;
use super::command::Write;
use super::feeds::fault;
use crate::change::{PERSON, Record, RecordId};
use crate::connector::{Confirmed, Fault, Outcome, Receipt, Reject, Task};

/// Error codes of a row that leave open whether it was written.
const OPEN: [&str; 5] = ["error", "internal_server_error", "service_unavailable", "timeout", "unknown_error"];

impl Cht {
    pub(super) async fn write(&self, tasks: &[Task]) -> Vec<Outcome> {
        if let Some(wait) = self.hold().await {
            let reason = "sentinel is too far behind; the CHT gets time to catch up".to_owned();
            return vec![Outcome::Retry { after: Some(wait), split: false, reason }; tasks.len()];
        }
        let mut outcomes = Vec::with_capacity(tasks.len());
        while let Some(rest) = tasks.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let now = rest.get(..self.pace.size()).unwrap_or(rest);
            let these = self.write_batch(now).await;
            let refused =
                these.iter().all(|o| matches!(o, Outcome::Halt(_) | Outcome::Retry { split: false, .. }));
            let last = these.last().cloned();
            outcomes.extend(these);
            if let (true, Some(last)) = (refused, last) {
                outcomes.resize(tasks.len(), last);
            }
        }
        outcomes
    }

    /// How long to wait before writing, if sentinel is too far behind.
    async fn hold(&self) -> Option<std::time::Duration> {
        if !self.pace.must_look() {
            return None;
        }
        let backlog = self.client.monitoring().await.ok().and_then(|m| m.sentinel_backlog());
        self.pace.saw(backlog)
    }

    async fn write_batch(&self, tasks: &[Task]) -> Vec<Outcome> {
        let turns = self.look_first(tasks).await;
        let docs: Vec<&Value> = turns.iter().filter_map(Turn::write).map(|write| &write.doc).collect();
        if docs.is_empty() {
            return turns.iter().map(|turn| turn.outcome(|_| Outcome::Unknown)).collect();
        }
        let started = Instant::now();
        let sent = self.client.medic().bulk_docs(&docs).await;
        let answered = !matches!(&sent, Err(error) if error.may_have_applied());
        self.pace.took(docs.len(), answered.then(|| started.elapsed()));

        let mut rows: HashMap<&str, &RowOutcome> = HashMap::new();
        match &sent {
            Ok(sent) => rows.extend(sent.iter().map(|row| (row.id(), row))),
            Err(error) if !error.may_have_applied() => {
                let outcome = refused(error, docs.len());
                return turns.iter().map(|turn| turn.outcome(|_| outcome.clone())).collect();
            }
            Err(_) => {}
        }
        let ids: Vec<&str> = turns.iter().filter_map(Turn::write).map(Write::id).collect();
        let stored = self.stored(&ids).await;
        let busy = matches!(&sent, Err(Error::NotReady { .. }));
        let judge = |write: &Write| {
            let stored = stored.as_ref().map(|rows| rows.get(write.id())).ok();
            self.judge(write, rows.get(write.id()).copied(), stored, busy)
        };
        turns.iter().map(|turn| turn.outcome(judge)).collect()
    }

    /// What each task needs. What was sent before is looked for first: a contact that was made and then deleted would come
    /// back by being sent again.
    async fn look_first(&self, tasks: &[Task]) -> Vec<Turn> {
        let parse = |task: &Task| match task.command.parse() {
            Ok(write) => Turn::Write(write),
            Err(reject) => Turn::Settled(Outcome::Rejected(reject)),
        };
        let mut turns: Vec<Turn> = tasks.iter().map(parse).collect();
        let sent = turns.iter().zip(tasks).filter(|(_, task)| task.attempt > 1);
        let ids: Vec<String> = sent.filter_map(|(turn, _)| Some(turn.write()?.id().to_owned())).collect();
        if ids.is_empty() {
            return turns;
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let stored = self.stored(&ids).await.map_err(|error| fault(&error));
        for (turn, _) in turns.iter_mut().zip(tasks).filter(|(_, task)| task.attempt > 1) {
            let Some(write) = turn.write() else { continue };
            let outcome = match stored.as_ref().map(|rows| rows.get(write.id())) {
                Err(Fault::Halt(reason)) => Outcome::Halt(reason.clone()),
                Err(_) => Outcome::Unknown,
                Ok(Some(Stored::There(record))) if write.is_in(&record.body) => {
                    Outcome::Done(receipt(record))
                }
                Ok(Some(Stored::Gone)) if write.base().is_none() => Outcome::Rejected(Reject::new(
                    "the contact that may have been made for this record is deleted in the CHT; replay to make it again",
                )),
                Ok(_) => continue,
            };
            *turn = Turn::Settled(outcome);
        }
        turns
    }

    /// What became of a write: `row` is what the server said about it, `stored` what a read after it found; `None` inside
    /// is no such document, outside that it could not be read.
    fn judge(
        &self,
        write: &Write,
        row: Option<&RowOutcome>,
        stored: Option<Option<&Stored>>,
        busy: bool,
    ) -> Outcome {
        let found = match stored {
            Some(Some(Stored::There(record))) => Some(record),
            _ => None,
        };
        let done = |record: &Record| Outcome::Done(receipt(record));
        match (row, found) {
            (Some(RowOutcome::Written(_)), Some(record)) => done(record),
            (Some(RowOutcome::Written(written)), None) => match stored {
                // The revision that was just made, as CouchDB stores it: as it was sent.
                None => done(&self.as_sent(write, &written.rev)),
                Some(Some(_)) => Outcome::Conflict,
                Some(None) => Outcome::Unknown,
            },
            (Some(RowOutcome::Conflict { .. }), Some(record)) if write.is_in(&record.body) => done(record),
            (Some(RowOutcome::Conflict { .. }), _) if stored.is_some() => Outcome::Conflict,
            (Some(RowOutcome::Refused { reason, .. }), _) if !is_open(reason) => {
                Outcome::Rejected(Reject::new(format!(
                    "the CHT refuses this document: {reason}; look at its validation rules, then replay"
                )))
            }
            (_, Some(record)) if write.is_in(&record.body) => done(record),
            _ if busy && stored.is_some() => Outcome::retry("the CHT is not ready"),
            _ => Outcome::Unknown,
        }
    }

    fn as_sent(&self, write: &Write, rev: &str) -> Record {
        let mut body = write.doc.clone();
        if let Value::Object(map) = &mut body {
            map.remove("_rev");
        }
        let id = RecordId::person(&self.shape.system, write.id());
        Record { id, version: Some(rev.to_owned()), deleted: false, body }
    }

    async fn stored(&self, ids: &[&str]) -> Result<HashMap<String, Stored>, Error> {
        let rows = self.client.medic().all_docs::<Value>(ids, true).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| match row {
                DocRow::Found { id, doc: Some(doc), .. } => match self.shape.record(doc) {
                    Ok(Some(record)) if record.id.kind == PERSON => Some((id, Stored::There(record))),
                    _ => Some((id, Stored::Other)),
                },
                DocRow::Deleted { id, .. } => Some((id, Stored::Gone)),
                _ => None,
            })
            .collect())
    }

    /// Whether a write took effect. One that replaces a revision can be told from one that did not, as long as that
    /// revision is the present one.
    pub(super) async fn settle(&self, task: &Task) -> Result<Confirmed, Fault> {
        let write: Write = task.command.parse().map_err(|reject| Fault::Halt(reject.reason))?;
        let stored = self.stored(&[write.id()]).await.map_err(|error| fault(&error))?;
        Ok(match stored.get(write.id()) {
            Some(Stored::There(record)) if write.is_in(&record.body) => Confirmed::Applied(receipt(record)),
            Some(Stored::There(record)) if write.base() == record.version.as_deref() => Confirmed::Absent,
            None if write.base().is_none() => Confirmed::Absent,
            _ => Confirmed::Unclear,
        })
    }
}

/// A task on its way.
enum Turn {
    /// To be written.
    Write(Write),
    /// Needs no write.
    Settled(Outcome),
}

impl Turn {
    fn write(&self) -> Option<&Write> {
        match self {
            Turn::Write(write) => Some(write),
            Turn::Settled(_) => None,
        }
    }

    fn outcome(&self, written: impl FnOnce(&Write) -> Outcome) -> Outcome {
        match self {
            Turn::Write(write) => written(write),
            Turn::Settled(outcome) => outcome.clone(),
        }
    }
}

/// What stands under an id.
enum Stored {
    /// A person.
    There(Record),
    /// A tombstone.
    Gone,
    /// Something that is no person.
    Other,
}

fn receipt(record: &Record) -> Receipt {
    Receipt { id: Some(record.id.clone()), record: Some(record.clone()) }
}

fn is_open(reason: &Reason) -> bool {
    match reason {
        Reason::Unknown => true,
        Reason::Code(code) => OPEN.contains(code),
        _ => false,
    }
}

/// The outcome of a call that certainly wrote nothing.
fn refused(error: &Error, documents: usize) -> Outcome {
    match error {
        Error::Invalid { .. } | Error::Conflict { .. } if documents > 1 => Outcome::Retry {
            after: None,
            split: true,
            reason: format!("{error}; tried again in smaller batches"),
        },
        Error::Invalid { .. } | Error::Conflict { .. } => {
            Outcome::Rejected(Reject::new(format!("the CHT does not take this document: {error}")))
        }
        _ => match fault(error) {
            Fault::Halt(reason) => Outcome::Halt(reason),
            Fault::Retry { after, reason } => Outcome::Retry { after, split: false, reason },
            Fault::Unsupported => Outcome::Halt("this CHT does not offer bulk writes".to_owned()),
        },
    }
}

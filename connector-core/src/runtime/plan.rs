//! Deciding about a row at the head of its lanes: only then are links, matches and the present state known.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bridge::{Bridge, RuntimeError};
use super::pace::pause;
use super::system::System;
use crate::change::{Body, Change, Effect, Patient, Record, RecordId, field};
use crate::clock::millis;
use crate::connector::{Command, Fault, Known, Outcome, Reject};
use crate::outbox::{
    Base, Conflict, Decision, Decisions, Ends as LinkEnds, Key, Links, NOT_HELD, NewerEdit, OpenCreates,
    Planned, Relation, Row, effect_key, hex,
};
use crate::reconcile::{Candidate, Ends, Match, Merge, Side, identify, merge};
use crate::rules::Rule;

/// A row, opened.
pub(super) struct Opened {
    pub row: Row,
    pub change: Change,
    pub key: String,
}

/// Why planning stopped before a decision.
pub(super) enum Stop {
    /// Decided after all.
    Decided(Box<Decision>),
    /// A step failed.
    Error(RuntimeError),
}

impl<E: Into<RuntimeError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Error(error.into())
    }
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Stop::Decided(Box::new(Decision::Dead(reject.reason)))
    }
}

fn fields(connector: &System, record: &Record) -> Result<(BTreeMap<String, String>, Option<Change>), Reject> {
    let change =
        connector.connector.changes(record)?.into_iter().find(|c| matches!(c.body, Body::Patient(_)));
    let fields = match &change {
        Some(Change { body: Body::Patient(p), .. }) => p.fields.clone(),
        _ => BTreeMap::new(),
    };
    Ok((fields, change))
}

impl Bridge {
    pub(super) fn open_row(&self, row: Row) -> Result<Opened, RuntimeError> {
        let change = row.change(self.store.crypt())?;
        let mut key = effect_key(&row.target, &row.destination, &change);
        if change.effect == Effect::State {
            key = format!("{key}#{}", row.seq);
        }
        Ok(Opened { row, change, key })
    }

    /// Decides what to do with a row.
    pub(super) async fn plan(&self, side: Side, opened: &Opened) -> Decision {
        let retry = |failed| Decision::Later { after: pause(opened.row.tries, opened.row.seq, None), failed };
        match self.plan_row(side, opened).await {
            Ok(decision) => decision,
            Err(Stop::Decided(decision)) => *decision,
            Err(Stop::Error(error)) => {
                let target = self.system(side);
                if let RuntimeError::Fault { system, fault: Fault::Retry { after: None, reason } } = &error
                    && *system == target.name
                {
                    target.pace.note(&Outcome::retry(reason.as_str()), self.clock.now());
                }
                tracing::warn!(error = %error, source_id = hex(&opened.row.source), "planning failed; it is done again");
                retry(true)
            }
        }
    }

    async fn plan_row(&self, side: Side, opened: &Opened) -> Result<Decision, Stop> {
        let (target, change) = (self.system(side), &opened.change);
        let takes_people = target.capabilities.takes.contains(&crate::change::Flow::Patients);
        let mut ids = vec![change.source.clone(), change.subject.clone()];
        ids.extend(change.needs.iter().cloned());
        let ends = match takes_people {
            true => self.store.read(Links { records: ids.clone() }).await?,
            false => vec![LinkEnds::default(); ids.len()],
        };
        let counterpart = |id: &RecordId, ends: &LinkEnds| match id.system == target.name {
            true => Some(id.clone()),
            false => ends.at(&target.name).map(|e| e.id.clone()),
        };
        let known: BTreeMap<RecordId, RecordId> =
            ids.iter().zip(&ends).filter_map(|(id, e)| Some((id.clone(), counterpart(id, e)?))).collect();
        if takes_people {
            let missing: Vec<_> = change.needs.iter().filter(|n| !known.contains_key(*n)).cloned().collect();
            if !missing.is_empty() {
                return Ok(Decision::Wait(missing));
            }
        }
        match &change.body {
            Body::Patient(patient) if change.source.is_person() => {
                let own = ends.into_iter().next().unwrap_or_default();
                self.plan_person(side, opened, patient, own, &known).await
            }
            _ => self.plan_plain(target, opened, &known),
        }
    }

    /// Anything that is not a person's state: the command follows from the change alone.
    fn plan_plain(
        &self,
        target: &System,
        opened: &Opened,
        links: &BTreeMap<RecordId, RecordId>,
    ) -> Result<Decision, Stop> {
        let (row, change) = (&opened.row, &opened.change);
        let known = Known {
            now: self.clock.now(),
            links,
            current: None,
            destination: &row.destination,
            key: &opened.key,
        };
        let Some(command) = target.connector.command(change, &known)? else {
            return Ok(Decision::Agree { link: None, fields: None, conflicts: vec![], ask: vec![] });
        };
        let digest = (change.effect == Effect::State).then(|| self.sent_digest(row, &command));
        let planned =
            Planned { command, wrote: BTreeMap::new(), source_fields: BTreeMap::new(), counterpart: None };
        Ok(Decision::Send {
            planned: Box::new(planned),
            creates: false,
            link: None,
            conflicts: vec![],
            ask: vec![],
            digest,
        })
    }

    /// Where the digest of the last settled command of the row's source is kept, and this command's.
    pub(super) fn sent_digest(&self, row: &Row, command: &Command) -> (Key, Key) {
        let body = serde_json::to_vec(&command.body).unwrap_or_default();
        (self.keys().sent(&row.target, &row.destination, &row.source), self.keys().content(&body))
    }

    async fn plan_person(
        &self,
        side: Side,
        opened: &Opened,
        patient: &Patient,
        own: LinkEnds,
        links: &BTreeMap<RecordId, RecordId>,
    ) -> Result<Decision, Stop> {
        let (target, source, row, change) =
            (self.system(side), self.other(side), &opened.row, &opened.change);
        let linked = own.at(&target.name).map(|e| e.id.clone());
        if let Some(gone) = &patient.gone {
            return Ok(match &linked {
                // Nobody there ever knew of them.
                None => Decision::Agree { link: None, fields: None, conflicts: vec![], ask: vec![] },
                Some(other) => Decision::Review {
                    kind: "gone".into(),
                    other: None,
                    evidence: json!({ "how": gone, "counterpart": other }),
                },
            });
        }
        let near = own.of(&change.source).map(|e| e.base.clone()).unwrap_or_default();
        let (counterpart, relation) = match linked {
            Some(id) => (Some(id), Relation::Rule),
            None => self.find(side, opened, patient).await?,
        };
        let ask = self.not_held(target, patient, &near);
        let Some(id) = counterpart else {
            if !target.capabilities.creates_people {
                let evidence =
                    json!({ "reason": "no counterpart was found, and the configuration creates none" });
                return Ok(Decision::Review { kind: "not-created".into(), other: None, evidence });
            }
            return self.create(target, opened, patient, links, ask);
        };
        let current = match target.connector.fetch(std::slice::from_ref(&id)).await {
            Ok(found) => found.into_iter().next().flatten(),
            Err(fault) => return Err(self.fault(target, fault).await.into()),
        };
        let Some(current) = current.filter(|c| !c.deleted) else {
            let evidence = json!({ "reason": "the counterpart is gone at the target", "counterpart": id });
            return Ok(Decision::Review { kind: "target-differs".into(), other: None, evidence });
        };
        let (there, _) = fields(target, &current)?;
        let far = own.of(&id).map(|e| e.base.clone()).unwrap_or_default();
        if self.options.rules.hold(Rule::FreshSource) && self.is_old(patient, &near, row.read_at) {
            return self.renew(side, source, opened).await;
        }
        let merged = self.merge(target, side, patient, &there, &near, &far, &id, row).await?;
        let mut conflicts = merged.conflicts;
        conflicts.dedup();
        let mut all_ask = merged.ask;
        all_ask.extend(ask);
        let link = Some((id.clone(), relation));
        if merged.write.is_empty() {
            let fields = Some((patient.fields.clone(), there));
            return Ok(Decision::Agree { link, fields, conflicts, ask: all_ask });
        }
        let mut only_moved = change.clone();
        only_moved.body = Body::Patient(Patient { fields: merged.write.clone(), gone: None });
        let mut links = links.clone();
        links.insert(change.source.clone(), id.clone());
        let known = Known {
            now: self.clock.now(),
            links: &links,
            current: Some(&current),
            destination: &row.destination,
            key: &opened.key,
        };
        let Some(command) = target.connector.command(&only_moved, &known)? else {
            let fields = Some((patient.fields.clone(), there));
            return Ok(Decision::Agree { link, fields, conflicts, ask: all_ask });
        };
        let planned = Planned {
            command,
            wrote: merged.write,
            source_fields: patient.fields.clone(),
            counterpart: Some(id),
        };
        Ok(Decision::Send {
            planned: Box::new(planned),
            creates: false,
            link,
            conflicts,
            ask: all_ask,
            digest: None,
        })
    }

    fn create(
        &self,
        target: &System,
        opened: &Opened,
        patient: &Patient,
        links: &BTreeMap<RecordId, RecordId>,
        ask: Vec<Conflict>,
    ) -> Result<Decision, Stop> {
        let known = Known {
            now: self.clock.now(),
            links,
            current: None,
            destination: &opened.row.destination,
            key: &opened.key,
        };
        let Some(command) = target.connector.command(&opened.change, &known)? else {
            return Ok(Decision::Agree { link: None, fields: None, conflicts: vec![], ask });
        };
        let wrote = patient.fields.iter().filter(|(f, _)| target.capabilities.can_hold(f));
        let planned = Planned {
            command,
            wrote: wrote.map(|(f, v)| (f.clone(), v.clone())).collect(),
            source_fields: patient.fields.clone(),
            counterpart: None,
        };
        Ok(Decision::Send {
            planned: Box::new(planned),
            creates: true,
            link: None,
            conflicts: vec![],
            ask,
            digest: None,
        })
    }

    /// The counterpart of a person without a link: a claimed id, then who the target knows.
    async fn find(
        &self,
        side: Side,
        opened: &Opened,
        patient: &Patient,
    ) -> Result<(Option<RecordId>, Relation), Stop> {
        let (target, change) = (self.system(side), &opened.change);
        let barrier = self.options.rules.hold(Rule::EchoBarrier);
        if barrier {
            let creates = OpenCreates { system: change.source.system.clone(), read_at: opened.row.read_at };
            if self.store.read(creates).await? {
                let later = Decision::Later { after: millis(self.options.aside), failed: false };
                return Err(Stop::Decided(Box::new(later)));
            }
        }
        let claimed = change.same_as.clone().filter(|s| barrier && s.system == target.name);
        if let Some(id) = claimed {
            match target.connector.fetch(std::slice::from_ref(&id)).await {
                Ok(found) if found.iter().flatten().any(|r| !r.deleted) => {
                    return self.free_end(side, &change.source, id, Relation::Rule).await;
                }
                Ok(_) => {}
                Err(fault) => return Err(self.fault(target, fault).await.into()),
            }
        }
        let found = match target.connector.candidates(patient).await {
            Ok(found) => found,
            Err(fault) => return Err(self.fault(target, fault).await.into()),
        };
        let ids: Vec<_> = found.iter().map(|r| r.id.clone()).collect();
        let verdicts =
            self.store.read(Decisions { person: change.source.clone(), candidates: ids.clone() }).await?;
        let mut candidates = Vec::with_capacity(found.len());
        for (record, verdict) in found.iter().filter(|r| !r.deleted).zip(verdicts) {
            let change = fields(target, record)?.1.map(|mut c| {
                if !barrier {
                    c.same_as = None;
                }
                c
            });
            candidates.push(Candidate { id: record.id.clone(), change, verdict });
        }
        match identify(&change.source, patient, &candidates) {
            Match::Same(id) => self.free_end(side, &change.source, id, Relation::Match).await,
            Match::Decided(id) => self.free_end(side, &change.source, id, Relation::Review).await,
            Match::Unsure(id, reasons) => Err(Stop::Decided(Box::new(Decision::Review {
                kind: "possible-match".into(),
                other: Some(id),
                evidence: json!({ "fields": reasons, "candidates": candidates.len() }),
            }))),
            Match::Nobody => Ok((None, Relation::Rule)),
        }
    }

    /// One to one: somebody who has a counterpart already is no candidate but a possible duplicate, for a person to
    /// see.
    async fn free_end(
        &self,
        side: Side,
        source: &RecordId,
        id: RecordId,
        relation: Relation,
    ) -> Result<(Option<RecordId>, Relation), Stop> {
        let ends = self.store.read(Links { records: vec![id.clone()] }).await?;
        let taken = ends.first().and_then(|e| e.at(&self.other(side).name)).filter(|e| e.id != *source);
        match taken {
            Some(other) if self.options.rules.hold(Rule::LinkCheck) => {
                Err(Stop::Decided(Box::new(Decision::Review {
                    kind: "possible-duplicate".into(),
                    other: Some(other.id.clone()),
                    evidence: json!({ "counterpart": id }),
                })))
            }
            _ => Ok((Some(id), relation)),
        }
    }

    /// Whether the other direction settled a field after this record was read.
    fn is_old(&self, patient: &Patient, near: &Base, read_at: i64) -> bool {
        let keys = self.keys();
        patient
            .fields
            .iter()
            .any(|(f, v)| near.get(f).is_some_and(|(d, at)| *at > read_at && *d != keys.value(f, v)))
    }

    async fn renew(&self, side: Side, source: &System, opened: &Opened) -> Result<Decision, Stop> {
        let (fresh, read_at) = self.read_again(source, &opened.change.source).await?;
        let Some(fresh) = fresh else {
            return Ok(Decision::Later { after: millis(self.options.aside), failed: false });
        };
        let changes = source.connector.changes(&fresh)?;
        let Some(change) = changes.into_iter().find(|c| matches!(c.body, Body::Patient(_))) else {
            return Ok(Decision::Later { after: millis(self.options.aside), failed: false });
        };
        let destinations = self.system(side).connector.destinations(&change)?;
        let to = destinations.into_iter().find(|d| d.name == opened.row.destination);
        let exclusive = to.map(|d| d.exclusive).unwrap_or_default();
        Ok(Decision::Renew { change: Box::new(change), exclusive, read_at })
    }

    #[expect(clippy::too_many_arguments, reason = "the two ends of a merge, named one by one")]
    async fn merge(
        &self,
        target: &System,
        side: Side,
        patient: &Patient,
        there: &BTreeMap<String, String>,
        near: &Base,
        far: &Base,
        id: &RecordId,
        row: &Row,
    ) -> Result<Merge, Stop> {
        let from = self.other(side).side;
        let mut ends = Ends { here: &patient.fields, there, near, far, target_newer: false };
        let based = self.options.rules.hold(Rule::FieldBase);
        let first = merge(self.keys(), from, ends, &target.capabilities, &self.options.policies, based);
        if first.conflicts.is_empty() {
            return Ok(first);
        }
        let source = self.keys().record(id);
        ends.target_newer = self.store.read(NewerEdit { source, than: row.read_at }).await?;
        Ok(merge(self.keys(), from, ends, &target.capabilities, &self.options.policies, based))
    }

    /// A death or a mute that the target cannot hold is never dropped: a person is told once.
    fn not_held(&self, target: &System, patient: &Patient, near: &Base) -> Vec<Conflict> {
        let keys = self.keys();
        [field::DECEASED, field::MUTED]
            .into_iter()
            .filter(|f| !target.capabilities.can_hold(f))
            .filter_map(|f| Some((f, patient.get(f)?)))
            .filter(|(f, v)| near.get(*f).is_none_or(|b| b.0 != keys.value(f, v)) && *v != "false")
            .map(|(f, v)| Conflict {
                field: f.to_owned(),
                lost: v.to_owned(),
                kept: String::new(),
                policy: NOT_HELD.to_owned(),
            })
            .collect()
    }
}

/// What a person needs to know of an attempt that nobody can confirm.
pub(super) fn unanswered(row: &Row) -> Value {
    json!({ "attempts": row.attempt, "first_sent": row.first_sent })
}

//! Carrying a command out: at most one write a call, and an outcome that is read from what OpenMRS then holds.
//!
//! A create is known by its own uuid: whatever it was answered, a GET of that uuid decides. An edit is known by the
//! values that stand there. A write without an answer whose effect is not to be seen is `Unknown`, never "not done".

use connector_core::connector::{Confirmed, Fault, Outcome, Receipt, Reject, Task};
use http::Method;
use serde_json::{Map, Value, json};

use crate::OpenMrs;
use crate::answer::Said;
use crate::changes::record;
use crate::client::{Answer, Failure};
use crate::command::{Wanted, Write};
use crate::edit;
use crate::normal::Person;
use crate::rest::RestPatient;

/// Prefix of the notes that keep a number from idgen, followed by the configured name of its type.
const NUMBER: &str = "identifier.";

fn outcome(fault: Fault) -> Outcome {
    match fault {
        Fault::Retry { after, reason } => Outcome::Retry { after, split: false, reason },
        Fault::Halt(reason) => Outcome::Halt(reason),
        Fault::Unsupported => Outcome::Rejected(Reject::new("OpenMRS does not serve what the command needs")),
    }
}

impl OpenMrs {
    /// Carries one task out.
    pub(crate) async fn carry_out(&self, task: &Task) -> Outcome {
        match task.command.parse() {
            Ok(Write::Create { uuid, contact, wanted }) => self.create(task, &uuid, &contact, &wanted).await,
            Ok(Write::Update { uuid, wanted, before }) => self.update(task, &uuid, &wanted, &before).await,
            Err(reject) => Outcome::Rejected(reject),
        }
    }

    /// Whether an attempt without an answer took effect.
    pub(crate) async fn ask(&self, task: &Task) -> Result<Confirmed, Fault> {
        let write = task.command.parse().map_err(|e: Reject| Fault::retry(e.reason))?;
        let (Write::Create { uuid, .. } | Write::Update { uuid, .. }) = &write;
        let found = self.rows(uuid).await?;
        Ok(match (&write, found) {
            (_, Some(rows)) if rows.voided => Confirmed::Unclear,
            (Write::Create { .. }, Some(rows)) => Confirmed::Applied(self.receipt(&rows)),
            (Write::Create { .. }, None) => Confirmed::Absent,
            (Write::Update { .. }, None) => Confirmed::Unclear,
            (Write::Update { wanted, before, .. }, Some(rows)) => {
                let is_noted = |name: &str| task.notes.contains_key(name);
                let left = edit::remaining(wanted, before, &rows, &self.config, is_noted);
                if left == Wanted::default() {
                    Confirmed::Applied(self.receipt(&rows))
                } else if edit::is_untouched(&left, before, &rows, &self.config) {
                    Confirmed::Absent
                } else {
                    Confirmed::Unclear
                }
            }
        })
    }

    fn receipt(&self, rows: &RestPatient) -> Receipt {
        let record = record(&self.name, &rows.uuid, &Person::of_rest(rows, &self.config));
        Receipt { id: Some(record.id.clone()), record: Some(record) }
    }

    fn done(&self, rows: &RestPatient) -> Outcome {
        Outcome::Done(self.receipt(rows))
    }

    async fn create(&self, task: &Task, uuid: &str, contact: &str, wanted: &Wanted) -> Outcome {
        let mut numbers = Map::new();
        let mut missing = None;
        for (name, identifier) in &self.config.identifiers {
            let Some(source) =
                identifier.source.as_ref().filter(|_| !wanted.identifiers.contains_key(&identifier.kind))
            else {
                continue;
            };
            match task.notes.get(&format!("{NUMBER}{name}")).and_then(Value::as_str) {
                Some(number) => drop(numbers.insert(name.clone(), number.into())),
                None => missing = missing.or(Some((name, source))),
            }
        }
        if missing.is_some() || numbers.is_empty() {
            match self.counterpart(uuid, contact).await {
                Ok(None) => {}
                Ok(Some(found)) => return found,
                Err(fault) => return outcome(fault),
            }
        }
        match missing {
            Some((name, source)) => self.number(name, source).await,
            None => self.register(uuid, contact, wanted, &numbers).await,
        }
    }

    /// The patient that already is this contact's: by own uuid, then by the contact's identifier, type and value.
    async fn counterpart(&self, uuid: &str, contact: &str) -> Result<Option<Outcome>, Fault> {
        if let Some(rows) = self.rows(uuid).await? {
            return Ok(Some(self.made(&rows)));
        }
        let mut found = self.identified_by(&self.config.cht_identifier, contact).await?;
        found.retain(|(_, p)| {
            p.identifiers.get(&self.config.cht_identifier).is_some_and(|v| v.iter().any(|v| v == contact))
        });
        Ok(match found.as_slice() {
            [] => None,
            [(uuid, person)] => {
                let record = record(&self.name, uuid, person);
                Some(Outcome::Done(Receipt { id: Some(record.id.clone()), record: Some(record) }))
            }
            _ => Some(Outcome::Rejected(Reject::new(
                "several OpenMRS patients carry the id of this CHT contact; merge them there, then replay",
            ))),
        })
    }

    fn made(&self, rows: &RestPatient) -> Outcome {
        if rows.voided {
            return Outcome::Rejected(Reject::new(
                "the OpenMRS patient of this contact was voided, and its uuid cannot be used again; a person decides",
            ));
        }
        self.done(rows)
    }

    /// A number from idgen, kept as a step: losing one burns it and nothing else.
    async fn number(&self, name: &str, source: &str) -> Outcome {
        let path = format!("idgen/identifiersource/{source}/identifier");
        let answer = match self.client.write(Method::POST, &path, Some(&json!({}))).await {
            Ok(answer) => answer,
            Err(failure) => return unanswered(failure),
        };
        match answer.json().get("identifier").and_then(Value::as_str).map(str::trim) {
            Some(number) if answer.status == 201 && !number.is_empty() => {
                Outcome::Step(format!("{NUMBER}{name}"), number.to_uppercase().into())
            }
            _ => match Said::of(&answer) {
                Said::Invalid(_) | Said::Failed(404) => Outcome::Halt(format!(
                    "the idgen source of `identifiers.{name}` does not serve ({}); run `check`",
                    answer.status
                )),
                Said::Yes | Said::Unclear(_) => Outcome::Unknown,
                _ => busy(&answer, "asking for a number"),
            },
        }
    }

    async fn register(
        &self,
        uuid: &str,
        contact: &str,
        wanted: &Wanted,
        numbers: &Map<String, Value>,
    ) -> Outcome {
        let body = self.new_patient(uuid, contact, wanted, numbers);
        let answer = self.client.write(Method::POST, "patient", Some(&body)).await;
        if let Err(failure @ (Failure::NotSent(_) | Failure::Halt(_))) = answer {
            return unanswered(failure);
        }
        match self.rows(uuid).await {
            Ok(Some(rows)) => return self.made(&rows),
            Ok(None) => {}
            Err(_) => return Outcome::Unknown,
        }
        let Ok(answer) = answer else { return Outcome::Unknown };
        match Said::of(&answer) {
            Said::Yes | Said::Repeated | Said::Unclear(_) => Outcome::Unknown,
            Said::Invalid(reason) => Outcome::Rejected(Reject::new(reason)),
            Said::Failed(_) | Said::Busy => busy(&answer, "the new patient"),
            Said::Taken => {
                let used = |(_, n): &(&String, &Value)| n.as_str().is_some_and(|n| answer.text.contains(n));
                match numbers.iter().find(used) {
                    Some((name, _)) => Outcome::Step(format!("{NUMBER}{name}"), Value::Null),
                    None => match self.counterpart(uuid, contact).await {
                        Ok(Some(found)) => found,
                        Ok(None) => Outcome::Conflict,
                        Err(_) => Outcome::Unknown,
                    },
                }
            }
        }
    }

    fn new_patient(&self, uuid: &str, contact: &str, wanted: &Wanted, numbers: &Map<String, Value>) -> Value {
        let location = wanted.location.as_ref().or(self.config.location.as_ref());
        let mut identifiers: Vec<Value> = vec![];
        for (name, identifier) in &self.config.identifiers {
            let given = numbers.get(name).and_then(Value::as_str);
            let Some(value) = given.or(wanted.identifiers.get(&identifier.kind).map(String::as_str)) else {
                continue;
            };
            let mut one = json!({"identifier": value, "identifierType": identifier.kind});
            if let Some(location) = location.filter(|_| identifier.with_location()) {
                edit::set(&mut one, "location", location);
            }
            if identifier.source.is_some() { identifiers.insert(0, one) } else { identifiers.push(one) }
        }
        identifiers.push(json!({"identifier": contact, "identifierType": self.config.cht_identifier}));
        if let Some(first) = identifiers.first_mut().and_then(Value::as_object_mut) {
            first.insert("preferred".into(), true.into());
        }
        let mut person = edit::demographics(wanted);
        person.insert("uuid".into(), uuid.into());
        if let Some(name) = &wanted.name {
            let mut name = edit::name_parts(name);
            name.retain(|_, part| !part.is_null());
            name.insert("preferred".into(), true.into());
            person.insert("names".into(), json!([name]));
        }
        let mut address: Map<String, Value> = wanted
            .address
            .iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(at, v)| (at.clone(), json!(v)))
            .collect();
        if !address.is_empty() {
            address.insert("preferred".into(), true.into());
            person.insert("addresses".into(), json!([address]));
        }
        let attributes: Vec<Value> = wanted
            .attributes
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(kind, value)| json!({"attributeType": kind, "value": value}))
            .collect();
        if !attributes.is_empty() {
            person.insert("attributes".into(), attributes.into());
        }
        json!({"identifiers": identifiers, "person": person})
    }

    async fn update(&self, task: &Task, uuid: &str, wanted: &Wanted, before: &Person) -> Outcome {
        let rows = match self.rows(uuid).await {
            Ok(Some(rows)) if !rows.voided => rows,
            Ok(_) => return Outcome::Conflict,
            Err(fault) => return outcome(fault),
        };
        let is_noted = |name: &str| task.notes.contains_key(name);
        let left = edit::remaining(wanted, before, &rows, &self.config, is_noted);
        let Some(piece) = edit::pieces(&left).into_iter().next() else { return self.done(&rows) };
        if !edit::is_untouched(&left, before, &rows, &self.config) {
            return Outcome::Conflict;
        }
        let edit = match edit::edit(&piece, &left, &rows, &self.config) {
            Ok(edit) => edit,
            Err(reject) => return Outcome::Rejected(reject),
        };
        let method = if edit.body.is_some() { Method::POST } else { Method::DELETE };
        let answer = self.client.write(method, &edit.path, edit.body.as_ref()).await;
        if let Err(failure @ (Failure::NotSent(_) | Failure::Halt(_))) = answer {
            return unanswered(failure);
        }
        let rows = match self.rows(uuid).await {
            Ok(Some(rows)) if !rows.voided => rows,
            Ok(_) => return Outcome::Conflict,
            Err(_) => return Outcome::Unknown,
        };
        let name = piece.name(&self.config);
        if edit::stands(wanted, &piece, &rows, &self.config) {
            let left = edit::remaining(wanted, before, &rows, &self.config, |n| n == name || is_noted(n));
            return if left == Wanted::default() {
                self.done(&rows)
            } else {
                Outcome::Step(name, Value::Bool(true))
            };
        }
        let Ok(answer) = answer else { return Outcome::Unknown };
        match Said::of(&answer) {
            Said::Yes | Said::Repeated => Outcome::Conflict,
            Said::Taken => Outcome::Rejected(Reject::new(format!(
                "{name}: another OpenMRS patient holds it; see who is who"
            ))),
            Said::Unclear(_) => Outcome::Unknown,
            Said::Invalid(reason) => Outcome::Rejected(Reject::new(format!("{name}: {reason}"))),
            Said::Failed(_) | Said::Busy => busy(&answer, &name),
        }
    }
}

fn unanswered(failure: Failure) -> Outcome {
    match failure {
        Failure::NotSent(reason) => Outcome::retry(reason),
        Failure::NoAnswer(_) => Outcome::Unknown,
        Failure::Halt(reason) => Outcome::Halt(reason),
    }
}

fn busy(answer: &Answer, what: &str) -> Outcome {
    let reason = format!("{what} was answered {}; nothing was written", answer.status);
    Outcome::Retry { after: answer.retry_after, split: false, reason }
}

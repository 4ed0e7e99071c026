//! Record -> Change. Pure: what a patient in normal form says in canonical fields, and whose copy it says it is.

use std::collections::BTreeMap;

use connector_core::change::{Body, Change, Gone, Patient, Record, RecordId, field};
use connector_core::connector::Reject;
use serde_json::Value;

use crate::config::Config;
use crate::normal::Person;

/// A patient's record.
pub fn record(system: &str, uuid: &str, person: &Person) -> Record {
    let body = serde_json::to_value(person).unwrap_or_default();
    Record { id: RecordId::person(system, uuid), version: None, deleted: false, body }
}

/// The record of a patient that was voided, by a merge too: OpenMRS tells no difference.
pub fn voided(system: &str, uuid: &str) -> Record {
    Record { id: RecordId::person(system, uuid), version: None, deleted: true, body: Value::Null }
}

/// The patient in a record.
pub fn person(record: &Record) -> Result<Person, Reject> {
    serde_json::from_value(record.body.clone())
        .map_err(|_| Reject::new("the stored record of the OpenMRS patient is of another release; replay it"))
}

/// The changes that a record stands for.
pub fn changes(record: &Record, config: &Config) -> Result<Vec<Change>, Reject> {
    if record.deleted {
        let gone = Patient { gone: Some(Gone::Deleted), ..Patient::default() };
        return Ok(vec![Change::state(record.id.clone(), Body::Patient(gone))]);
    }
    let person = person(record)?;
    let copy_of = match person.identifiers.get(&config.cht_identifier).map(Vec::as_slice) {
        None | Some([]) => None,
        Some([first, others @ ..]) if others.iter().all(|o| o == first) => Some(first),
        Some(_) => {
            return Err(Reject::new(
                "the OpenMRS patient carries the ids of several CHT contacts; void the wrong identifiers there",
            ));
        }
    };
    let patient = Patient { fields: fields(&person, config), gone: None };
    let mut change = Change::state(record.id.clone(), Body::Patient(patient));
    change.same_as = copy_of.map(|id| RecordId::person(&config.cht, id));
    Ok(vec![change])
}

/// A patient in canonical fields; what is not known is absent.
pub fn fields(person: &Person, config: &Config) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut put = |name: String, value: Option<&String>| {
        fields.extend(value.map(|value| (name, value.clone())));
    };
    let name =
        person.name.as_ref().map(|n| n.full(config.single_name_family.as_deref())).filter(|n| !n.is_empty());
    put(field::NAME.into(), name.as_ref());
    put(field::SEX.into(), person.sex.as_ref());
    put(field::BIRTH_DATE.into(), person.birth_date.as_ref());
    put(field::DECEASED.into(), person.deceased.as_ref());
    put(field::LOCATION.into(), person.location.as_ref());
    put(field::PHONE.into(), person.attributes.get(&config.phone).and_then(|v| v.first()));
    for (name, kind) in &config.attributes {
        put(format!("{}{name}", field::ATTRIBUTE), person.attributes.get(kind).and_then(|v| v.first()));
    }
    for (part, at) in &config.address {
        put(format!("{}{part}", field::ADDRESS), person.address.get(at));
    }
    for (name, identifier) in &config.identifiers {
        put(
            format!("{}{name}", field::IDENTIFIER),
            person.identifiers.get(&identifier.kind).and_then(|v| v.first()),
        );
    }
    fields
}

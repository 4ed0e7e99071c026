//! The state that recordings start from: REST representations of the objects that were there before the first of them.

use serde_json::Value;

use super::{
    ids::Id,
    metadata::{metadata, text},
    model::{
        ADDRESS_FIELDS, Attribute, Audit, Encounter, Identifier, NAME_FIELDS, Obs, ObsValue, Part, Patient,
        PersonRow, Relationship, Task, UserIx, Visit, Voided,
    },
    tables::Tables,
    time,
};

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn moment(value: &Value) -> Option<i64> {
    value.as_str().and_then(time::parse_rest).map(time::instant)
}

fn id(value: &Value) -> Id {
    text(value, "uuid").into()
}

fn optional_id(value: &Value) -> Option<Id> {
    value["uuid"].as_str().map(Id::from)
}

fn user(value: &Value) -> UserIx {
    metadata().user_named(text(value, "display")).unwrap_or_default()
}

fn audit(info: &Value) -> Audit {
    Audit {
        creator: user(&info["creator"]),
        created: moment(&info["dateCreated"]).unwrap_or_default(),
        changed: moment(&info["dateChanged"]).map(|at| (user(&info["changedBy"]), at)),
        voided: moment(&info["dateVoided"]).map(|at| {
            Box::new(Voided { by: user(&info["voidedBy"]), at, reason: text(info, "voidReason").into() })
        }),
    }
}

/// Reads all tables of a recorded state.
pub fn recorded(state: &Value) -> Tables {
    let mut tables = Tables::new(0);
    tables.sequence = state["idgen_source"]["nextSequenceValue"].as_u64().unwrap_or(tables.sequence);
    for given in list(state, "patients") {
        let pk = tables.take_pk();
        tables.patients.push(patient(given, pk));
    }
    tables.reindex();
    let at = |value: &Value, tables: &Tables| tables.find(text(value, "uuid")).unwrap_or_default();
    for given in list(state, "visits") {
        tables.visits.push(Visit {
            uuid: id(given),
            patient: at(&given["patient"], &tables),
            kind: id(&given["visitType"]),
            start: moment(&given["startDatetime"]).unwrap_or_default(),
            stop: moment(&given["stopDatetime"]),
            location: optional_id(&given["location"]),
            audit: audit(&given["auditInfo"]),
        });
    }
    for given in list(state, "encounters") {
        let (patient, audit) = (at(&given["patient"], &tables), audit(&given["auditInfo"]));
        let provider = |row: &Value| (id(row), id(&row["provider"]), id(&row["encounterRole"]));
        tables.encounters.push(Encounter {
            uuid: id(given),
            patient,
            kind: id(&given["encounterType"]),
            at: moment(&given["encounterDatetime"]).unwrap_or_default(),
            location: optional_id(&given["location"]),
            visit: optional_id(&given["visit"]),
            providers: list(given, "encounterProviders").iter().map(provider).collect(),
            audit: audit.clone(),
        });
        for row in list(given, "obs") {
            let value = match &row["value"] {
                Value::Number(number) => ObsValue::Number(number.as_f64().unwrap_or_default()),
                Value::Object(_) => ObsValue::Coded(id(&row["value"])),
                value => match moment(value) {
                    Some(at) => ObsValue::Time(at),
                    None => ObsValue::Text(value.as_str().unwrap_or_default().to_owned()),
                },
            };
            tables.obs.push(Obs {
                uuid: id(row),
                concept: id(&row["concept"]),
                patient,
                encounter: Some(id(given)),
                at: moment(&row["obsDatetime"]).unwrap_or_default(),
                location: optional_id(&row["location"]),
                value,
                parent: None,
                amended: false,
                range: id(&row["referenceRange"]),
                audit: audit.clone(),
            });
        }
    }
    for given in list(state, "relationships") {
        tables.relationships.push(Relationship {
            uuid: id(given),
            a: at(&given["personA"], &tables),
            b: at(&given["personB"], &tables),
            kind: id(&given["relationshipType"]),
            start: moment(&given["startDate"]),
            audit: Audit::new(0, moment(&state["recorded_from"]).unwrap_or_default()),
        });
    }
    for given in list(state, "tasks") {
        let made = text(&given["meta"], "versionId").parse().unwrap_or_default();
        let kept = super::fhir::kept_of_task(given);
        tables.tasks.push(Task { uuid: text(given, "id").into(), kept, audit: Audit::new(0, made) });
    }
    tables
}

fn patient(given: &Value, pk: u32) -> Patient {
    let (person, audit) = (&given["person"], audit(&given["auditInfo"]));
    let with_shown = |key: &str, shown: &str| -> Vec<Value> {
        let mut rows = list(person, key).to_vec();
        let shown = &person[shown];
        if rows.is_empty() && !shown.is_null() {
            rows.push(shown.clone());
        }
        rows.sort_by_key(|row| row["uuid"] != shown["uuid"]);
        rows
    };
    let row_audit = || Audit { changed: None, ..audit.clone() };
    let part = |row: &Value, table: &[&str], preferred: bool| {
        let mut part = Part { uuid: id(row), preferred, fields: Vec::new(), audit: row_audit() };
        table.iter().for_each(|field| part.set(table, field, row[*field].as_str()));
        part
    };
    let names = with_shown("names", "preferredName");
    let addresses = with_shown("addresses", "preferredAddress");
    let attributes = list(person, "attributes").iter().map(|row| Attribute {
        uuid: id(row),
        kind: metadata()
            .index("personattributetype", text(&row["attributeType"], "uuid"))
            .unwrap_or_default(),
        value: match &row["value"] {
            Value::String(text) => text.as_str().into(),
            Value::Object(_) => text(&row["value"], "uuid").into(),
            other => other.to_string().into(),
        },
        audit: row_audit(),
        inserted: audit.created,
    });
    let identifiers = list(given, "identifiers").iter().map(|row| Identifier {
        uuid: id(row),
        value: text(row, "identifier").into(),
        kind: metadata()
            .index("patientidentifiertype", text(&row["identifierType"], "uuid"))
            .unwrap_or_default(),
        location: metadata().index("location", text(&row["location"], "uuid")),
        preferred: row["preferred"] == true,
        audit: row_audit(),
        inserted: audit.created,
    });
    let local = |value: &Value| value.as_str().and_then(time::parse_rest);
    Patient {
        pk,
        uuid: id(given),
        row: PersonRow {
            gender: person["gender"].as_str().map(Into::into),
            birthdate: local(&person["birthdate"]),
            estimated: person["birthdateEstimated"] == true,
            dead: person["dead"] == true,
            death_date: local(&person["deathDate"]),
            cause: optional_id(&person["causeOfDeath"]),
            cause_text: person["causeOfDeathNonCoded"].as_str().map(Into::into),
        },
        names: names.iter().enumerate().map(|(place, row)| part(row, &NAME_FIELDS, place == 0)).collect(),
        addresses: addresses.iter().map(|row| part(row, &ADDRESS_FIELDS, row["preferred"] == true)).collect(),
        attributes: attributes.collect(),
        identifiers: identifiers.collect(),
        audit: audit.clone(),
        before: None,
    }
}

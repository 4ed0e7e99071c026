//! Displays and values of REST, and the properties of persons and of metadata.

use serde_json::{Value, json};

use super::{
    kinds::{Table, known},
    represent::View,
    things::{Node, Thing, row},
};
use crate::openmrs::{
    ids::Id,
    metadata::{metadata, text},
    model::{Attribute, Encounter, Obs, ObsValue, Patient, Visit},
    tables::Tables,
    time,
};

/// `20001T - Amina W Otieno`, nothing for a voided patient.
pub fn patient_display(patient: &Patient) -> String {
    if patient.audit.is_voided() {
        return String::new();
    }
    let identifier = patient.live_identifiers().next().map(|row| &*row.value).unwrap_or_default();
    format!("{identifier} - {}", patient.name_text())
}

/// The concept that stands for yes or no.
pub fn boolean_concept(yes: bool) -> &'static str {
    if yes { "1065AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } else { "1066AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }
}

fn format_of(attribute: &Attribute) -> &'static str {
    text(metadata().at("personattributetype", attribute.kind), "format")
}

fn table_of(format: &str) -> Option<&'static str> {
    match format {
        "org.openmrs.Location" => Some("location"),
        "org.openmrs.Concept" => Some("concept"),
        _ => None,
    }
}

/// What REST shows as the text of an attribute.
pub fn attribute_display(attribute: &Attribute) -> String {
    let format = format_of(attribute);
    match table_of(format).and_then(|table| metadata().row(table, &attribute.value)) {
        Some(found) => text(found, "display").to_owned(),
        None if format == "java.lang.Boolean" => (&*attribute.value == "true").to_string(),
        None => attribute.value.to_string(),
    }
}

/// What REST shows as the value of an attribute: any text in a Boolean one but `true` is false.
pub fn attribute_value(attribute: &Attribute, origin: &str) -> Value {
    let format = format_of(attribute);
    let found = table_of(format).and_then(|table| Some((table, metadata().row(table, &attribute.value)?)));
    match found {
        Some((table, found)) => json!({"uuid": found["uuid"], "display": found["display"], "links": [{
            "rel": "self",
            "uri": format!("{origin}/openmrs/ws/rest/v1/{table}/{}", text(found, "uuid")),
            "resourceAlias": table,
        }]}),
        None if format == "java.lang.Boolean" => (&*attribute.value == "true").into(),
        None => (&*attribute.value).into(),
    }
}

/// A property of a person.
pub fn person_property<'a>(p: &'a Patient, name: &str, view: View<'a>) -> Option<Node<'a>> {
    let birth = p.row.birthdate;
    Some(Node::Value(match name {
        "uuid" => p.uuid.to_string().into(),
        "display" => p.name_text().into(),
        "gender" => p.row.gender.as_deref().into(),
        "age" => birth.map(|at| time::age(at, time::local(view.now))).into(),
        "birthdate" => birth.map(time::rest_local).into(),
        "birthdateEstimated" => p.row.estimated.into(),
        "dead" => p.row.dead.into(),
        "deathDate" => p.row.death_date.map(time::rest_local).into(),
        "causeOfDeath" => {
            return Some(
                p.row.cause.as_ref().map_or(Node::Value(Value::Null), |id| row("concept", &id.to_string())),
            );
        }
        "causeOfDeathNonCoded" => p.row.cause_text.as_deref().into(),
        "birthtime" => Value::Null,
        "deathdateEstimated" => false.into(),
        "preferredName" => {
            return Some(
                p.shown_name().map_or(Node::Value(Value::Null), |part| Node::Thing(Thing::Name(p, part))),
            );
        }
        "preferredAddress" => {
            return Some(
                p.shown_address()
                    .map_or(Node::Value(Value::Null), |part| Node::Thing(Thing::Address(p, part))),
            );
        }
        "names" => return Some(Node::Things(p.live_names().map(|part| Thing::Name(p, part)).collect())),
        "addresses" => {
            return Some(Node::Things(p.live_addresses().map(|part| Thing::Address(p, part)).collect()));
        }
        "attributes" => {
            return Some(Node::Things(p.live_attributes().map(|part| Thing::Attribute(p, part)).collect()));
        }
        _ => return None,
    }))
}

/// A property of a row of metadata.
pub fn row_property<'a>(
    table: &'static Table,
    found: &'a Value,
    name: &str,
    origin: &str,
) -> Option<Node<'a>> {
    let value = |value: Value| Some(Node::Value(value));
    let rows = |table: &'static str, uuids: &Value| {
        let uuids = uuids.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
        let rows = uuids.filter_map(|uuid| metadata().row(table, uuid));
        Some(Node::Things(rows.map(|row| Thing::Row(known(table), row)).collect()))
    };
    match (table.name, name) {
        ("concept", "name") => Some(Node::Thing(Thing::concept_name(found))),
        ("concept", "names") => Some(Node::Things(vec![Thing::concept_name(found)])),
        ("concept", "datatype") => {
            Some(Node::Thing(Thing::Row(known("conceptdatatype"), &found["datatype"])))
        }
        ("concept", "conceptClass") => {
            Some(Node::Thing(Thing::Row(known("conceptclass"), &found["conceptClass"])))
        }
        ("concept", "answers" | "setMembers") => rows("concept", &found[name]),
        ("concept", "version") => value(Value::Null),
        ("concept", "retired") => value(false.into()),
        ("concept", "descriptions" | "mappings" | "attributes") => value(json!([])),
        ("name", "uuid") => value(found["nameUuid"].clone()),
        ("name", "name" | "display") => value(found["display"].clone()),
        ("name", "locale") => value("en".into()),
        ("name", "localePreferred") => value(true.into()),
        ("name", "conceptNameType") => value("FULLY_SPECIFIED".into()),
        ("provider", "person") => Some(Node::Thing(Thing::provider_person(&found["person"]))),
        ("identifiersource" | "autogenerationoption", "identifierType") => {
            Some(row("patientidentifiertype", text(found, "identifierType")))
        }
        ("autogenerationoption", "source") => Some(row("identifiersource", text(found, "source"))),
        ("identifiersource", "display") => value(found["name"].clone()),
        ("patientidentifiertype", "auditInfo") => {
            let mut audit = found["auditInfo"].clone();
            let uri = format!("{origin}/openmrs/ws/rest/v1/user/{}", text(&audit["creator"], "uuid"));
            audit["creator"]["links"] = json!([{"rel": "self", "uri": uri, "resourceAlias": "user"}]);
            value(audit)
        }
        (_, "uuid") if found["uuid"].is_null() => value(Value::Null),
        _ => found.get(name).map(|found| Node::Value(found.clone())),
    }
}

/// `Community Referral 11/24/2026`.
pub fn encounter_display(encounter: &Encounter) -> String {
    format!(
        "{} {}",
        name_of("encountertype", &encounter.kind),
        time::local(encounter.at).strftime("%m/%d/%Y")
    )
}

/// `Home Visit @ Ahero Dispensary - 11/23/2026 08:00 AM`.
pub fn visit_display(visit: &Visit) -> String {
    let location = visit.location.as_ref().map(|id| name_of("location", id)).unwrap_or_default();
    let start = time::local(visit.start).strftime("%m/%d/%Y %I:%M %p");
    format!("{} @ {location} - {start}", name_of("visittype", &visit.kind))
}

/// `Connector Service: Clinician`.
pub fn encounter_provider_display(provider: &Id, role: &Id) -> String {
    let person = metadata().row("provider", &provider.to_string()).map(|row| text(&row["person"], "display"));
    format!("{}: {}", person.unwrap_or_default(), name_of("encounterrole", role))
}

/// The name of a row of metadata.
pub fn name_of(table: &str, id: &Id) -> String {
    metadata().row(table, &id.to_string()).map(|row| text(row, "display")).unwrap_or_default().to_owned()
}

/// `Weight (kg): 54.5`.
pub fn obs_display(obs: &Obs, tables: &Tables) -> String {
    format!("{}: {}", name_of("concept", &obs.concept), obs_text(obs, tables))
}

/// The value of an observation as text; of a group those of its members.
pub fn obs_text(obs: &Obs, tables: &Tables) -> String {
    match &obs.value {
        ObsValue::Group => {
            let members = tables.members(obs);
            members.into_iter().map(|member| obs_text(member, tables)).collect::<Vec<_>>().join(", ")
        }
        ObsValue::Number(number) => format!("{number:?}"),
        ObsValue::Text(text) => text.clone(),
        ObsValue::Coded(concept) => name_of("concept", concept),
        ObsValue::Boolean(yes) => yes.to_string(),
        ObsValue::Time(at) => time::local(*at).strftime("%B %-d, %Y at %-I:%M:%S %p EAT").to_string(),
    }
}

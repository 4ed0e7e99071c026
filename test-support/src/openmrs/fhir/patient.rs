//! A patient as FHIR shows it.

use serde_json::{Value, json};

use super::meta;
use crate::openmrs::{
    http::{Reply, processing},
    metadata::{metadata, text},
    model::{ADDRESS_FIELDS, Attribute, Part, Patient},
    options::Switches,
    time,
};

pub const EXT: &str = "http://fhir.openmrs.org/ext";
/// The attribute type that is shown as telecom.
pub const TELEPHONE: &str = "14d4f066-15f5-102d-96e4-000c29c2a5d7";

/// A reference to a location.
pub fn location_reference(uuid: &str) -> Value {
    let name = metadata().row("location", uuid).map(|row| text(row, "name")).unwrap_or_default();
    json!({"reference": format!("Location/{uuid}"), "type": "Location", "display": name})
}

/// A reference to a patient, with name and preferred identifier.
pub fn patient_reference(patient: &Patient) -> Value {
    let identifier = patient.live_identifiers().next().map(|row| {
        let kind = metadata().at("patientidentifiertype", row.kind);
        format!(" ({}: {})", text(kind, "name"), row.value)
    });
    let display = format!("{}{}", patient.name_text(), identifier.unwrap_or_default());
    json!({"reference": format!("Patient/{}", patient.uuid), "type": "Patient", "display": display})
}

/// The resource without its narrative; 400 for a row that FHIR cannot read.
pub fn resource(patient: &Patient, switches: &Switches, now: i64) -> Result<Value, Reply> {
    if switches.unreadable.iter().any(|uuid| *uuid == patient.uuid.to_string()) {
        return Err(processing(400, "Invalid boolean string: 'maybe'"));
    }
    let mut shown = json!({
        "resourceType": "Patient",
        "id": patient.uuid,
        "meta": meta(&patient.audit),
        "active": !patient.audit.is_voided(),
    });
    let mut set = |key: &str, list: Vec<Value>| {
        if !list.is_empty() {
            shown[key] = list.into();
        }
    };
    set("extension", patient.live_attributes().filter_map(extension).collect::<Result<_, _>>()?);
    set("identifier", patient.live_identifiers().map(identifier).collect());
    set("name", patient.live_names().map(name).collect());
    set("address", patient.live_addresses().map(address).collect());
    let telephone = metadata().index("personattributetype", TELEPHONE);
    let phones = patient.live_attributes().filter(|row| Some(row.kind) == telephone);
    set("telecom", phones.map(|row| json!({"id": row.uuid, "value": &*row.value})).collect());
    if let Some(gender) = &patient.row.gender {
        shown["gender"] = gender_code(gender).into();
    }
    if let Some(birth) = birth_date(patient, now) {
        shown["birthDate"] = birth.into();
    }
    match patient.row.death_date {
        Some(at) if patient.row.dead => {
            shown["deceasedDateTime"] = time::fhir_datetime(time::instant(at)).into();
        }
        _ => shown["deceasedBoolean"] = patient.row.dead.into(),
    }
    Ok(shown)
}

/// Any letter but four is shown as a question mark.
pub fn gender_code(letter: &str) -> &'static str {
    match letter {
        "M" => "male",
        "F" => "female",
        "O" => "other",
        "U" => "unknown",
        _ => "?",
    }
}

/// An estimated date is a year from five years on, a month before.
pub fn birth_date(patient: &Patient, now: i64) -> Option<String> {
    let birth = patient.row.birthdate?;
    let old = time::age(birth, time::local(now)) >= 5;
    let format = match (patient.row.estimated, old) {
        (false, _) => "%Y-%m-%d",
        (true, true) => "%Y",
        (true, false) => "%Y-%m",
    };
    Some(birth.strftime(format).to_string())
}

/// An attribute as an extension; formats that FHIR does not know are left out.
fn extension(attribute: &Attribute) -> Option<Result<Value, Reply>> {
    let kind = metadata().at("personattributetype", attribute.kind);
    let value = &*attribute.value;
    let (key, shown) = match text(kind, "format") {
        "java.lang.String" => ("valueString", value.into()),
        "java.lang.Boolean" => match value {
            "true" | "false" => ("valueBoolean", (value == "true").into()),
            junk => return Some(Err(processing(400, &format!("Invalid boolean string: '{junk}'")))),
        },
        "org.openmrs.Location" => ("valueReference", location_reference(value)),
        _ => return None,
    };
    let value = json!({"url": format!("{EXT}/person-attribute-value"), key: shown});
    let kind = json!({"url": format!("{EXT}/person-attribute-type"), "valueString": kind["name"]});
    Some(Ok(json!({"url": format!("{EXT}/person-attribute"), "extension": [kind, value]})))
}

fn identifier(row: &crate::openmrs::model::Identifier) -> Value {
    let kind = metadata().at("patientidentifiertype", row.kind);
    let mut shown = json!({
        "id": row.uuid,
        "use": if row.preferred { "official" } else { "usual" },
        "type": {"coding": [{"code": kind["uuid"]}], "text": kind["name"]},
        "value": &*row.value,
    });
    if let Some(location) = row.location {
        let uuid = text(metadata().at("location", location), "uuid");
        let url = format!("{EXT}/patient/identifier#location");
        shown["extension"] = json!([{"url": url, "valueReference": location_reference(uuid)}]);
    }
    shown
}

/// A name; nothing says whether it is the preferred one.
pub fn name(part: &Part) -> Value {
    let given: Vec<&str> = ["givenName", "middleName"]
        .into_iter()
        .filter_map(|field| part.name(field))
        .filter(|v| !v.is_empty())
        .collect();
    let mut shown = json!({"id": part.uuid, "text": part.full_name(), "given": given});
    if let Some(family) = part.name("familyName") {
        shown["family"] = family.into();
    }
    let others = ["prefix", "familyNamePrefix", "familyName2", "familyNameSuffix", "degree"];
    let nested: Vec<Value> = others
        .into_iter()
        .filter_map(|field| {
            Some(json!({"url": format!("{EXT}/name#{field}"), "valueString": part.name(field)?}))
        })
        .collect();
    if !nested.is_empty() {
        shown["extension"] = json!([{"url": format!("{EXT}/name"), "extension": nested}]);
    }
    shown
}

/// The elements of an address and the fields they show.
pub const ADDRESS_ELEMENTS: [(&str, &str); 5] = [
    ("city", "cityVillage"),
    ("district", "countyDistrict"),
    ("state", "stateProvince"),
    ("country", "country"),
    ("postalCode", "postalCode"),
];

/// An address; its lines are extensions.
pub fn address(part: &Part) -> Value {
    let mut shown = json!({"id": part.uuid, "use": if part.preferred { "home" } else { "old" }});
    for (element, field) in ADDRESS_ELEMENTS {
        if let Some(value) = part.address(field) {
            shown[element] = value.into();
        }
    }
    let lines: Vec<Value> = ADDRESS_FIELDS
        .into_iter()
        .filter(|field| field.starts_with("address"))
        .filter_map(|field| {
            Some(json!({"url": format!("{EXT}/address#{field}"), "valueString": part.address(field)?}))
        })
        .collect();
    if !lines.is_empty() {
        shown["extension"] = json!([{"url": format!("{EXT}/address"), "extension": lines}]);
    }
    shown
}

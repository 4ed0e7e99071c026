//! The auditor: knows only what was put in and what the two servers answer, and compares the fields of each person.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Identifier type under which a patient carries the id of a CHT contact.
const CHT_ID: &str = "CHT Record Reference UUID";

/// One person as people typed it. Where both sides typed a field at once, either value may stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expected {
    /// Whether the person was entered at the CHT.
    pub at_cht: bool,
    /// The contact's id, or the patient's uuid.
    pub id: String,
    /// Field to the values that may stand in it.
    pub fields: BTreeMap<String, Vec<String>>,
}

/// What was found for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// People put in.
    pub people: usize,
    /// Of them, there once with all fields.
    pub delivered: usize,
    /// Not there, or with a field that nobody typed or that was typed over.
    pub lost: usize,
    /// There more than once.
    pub doubled: usize,
}

/// Both directions, and how the fields that differ are called.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub to_openmrs: Direction,
    pub to_cht: Direction,
    /// How often each field differed.
    pub fields: BTreeMap<String, usize>,
}

/// Reads the manifest.
pub fn manifest(file: &Path) -> Result<Vec<Expected>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

async fn lines(client: &Client, url: String) -> Result<Vec<Value>> {
    let answer = client.get(&url).send().await?;
    ensure!(answer.status().is_success(), "{url}: {}", answer.status());
    let text = answer.text().await?;
    text.lines().filter(|l| !l.is_empty()).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The people of the CHT.
pub async fn contacts(client: &Client, cht: &str) -> Result<Vec<Value>> {
    let mut docs = lines(client, format!("{cht}/_standin/cht/docs")).await?;
    docs.retain(|d| d["type"] == "person" || d["contact_type"] == "person");
    Ok(docs)
}

/// The patients of OpenMRS that are not voided.
pub async fn patients(client: &Client, openmrs: &str) -> Result<Vec<Value>> {
    let mut patients = lines(client, format!("{openmrs}/_standin/openmrs/patients")).await?;
    patients.retain(|p| p["voided"] != true);
    Ok(patients)
}

/// The canonical fields of a contact.
fn of_contact(doc: &Value) -> BTreeMap<String, String> {
    [
        ("name", "name"),
        ("sex", "sex"),
        ("birth_date", "date_of_birth"),
        ("phone", "phone"),
        ("village", "village"),
    ]
    .into_iter()
    .filter_map(|(field, key)| Some((field.to_owned(), doc[key].as_str()?.to_owned())))
    .collect()
}

/// The same fields of a patient.
fn of_patient(patient: &Value) -> BTreeMap<String, String> {
    let name = ["givenName", "middleName", "familyName"].into_iter().filter_map(|k| patient[k].as_str());
    let name = name.filter(|w| !w.is_empty() && *w != "-").collect::<Vec<_>>().join(" ");
    let sex = match patient["gender"].as_str() {
        Some("F") => "female",
        Some("M") => "male",
        _ => "other",
    };
    let mut fields = BTreeMap::from([("name".to_owned(), name), ("sex".to_owned(), sex.to_owned())]);
    let mut put = |field: &str, value: Option<&str>| {
        if let Some(value) = value {
            fields.insert(field.to_owned(), value.to_owned());
        }
    };
    put("birth_date", patient["birthdate"].as_str());
    put("village", patient["address"]["cityVillage"].as_str());
    let attributes = patient["attributes"].as_object();
    let phone =
        attributes.into_iter().flatten().flat_map(|(_, v)| v.as_array()).flatten().filter_map(Value::as_str);
    put("phone", phone.into_iter().next());
    fields
}

/// A name as both sides would say it; OpenMRS keeps given, middle and family names apart.
fn shape(field: &str, value: &str) -> String {
    if field == "name" { value.split_whitespace().collect::<Vec<_>>().join(" ") } else { value.to_owned() }
}

/// Compares what was put in with what both servers answer.
pub async fn compare(people: &[Expected], cht: &str, openmrs: &str) -> Result<Findings> {
    let client = Client::new();
    let contacts = contacts(&client, cht).await?;
    let patients = patients(&client, openmrs).await?;
    let mut by_contact: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for patient in &patients {
        for id in patient["identifiers"].as_array().into_iter().flatten().filter(|i| i["type"] == CHT_ID) {
            by_contact.entry(id["value"].as_str().unwrap_or_default().to_owned()).or_default().push(patient);
        }
    }
    let mut by_patient: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for contact in &contacts {
        if let Some(uuid) = contact["external_id"].as_str().and_then(|e| e.strip_prefix("openmrs:")) {
            by_patient.entry(uuid.to_owned()).or_default().push(contact);
        }
    }
    let contact_by_id: BTreeMap<&str, &Value> =
        contacts.iter().filter_map(|c| Some((c["_id"].as_str()?, c))).collect();
    let patient_by_uuid: BTreeMap<&str, &Value> =
        patients.iter().filter_map(|p| Some((p["uuid"].as_str()?, p))).collect();
    let mut findings = Findings::default();
    for person in people {
        let (here, copies) = match person.at_cht {
            true => {
                (contact_by_id.get(person.id.as_str()).map(|c| of_contact(c)), by_contact.get(&person.id))
            }
            false => {
                (patient_by_uuid.get(person.id.as_str()).map(|p| of_patient(p)), by_patient.get(&person.id))
            }
        };
        let copies: Vec<_> = copies
            .into_iter()
            .flatten()
            .map(|c| if person.at_cht { of_patient(c) } else { of_contact(c) })
            .collect();
        let direction = if person.at_cht { &mut findings.to_openmrs } else { &mut findings.to_cht };
        direction.people += 1;
        match (here, copies.as_slice()) {
            (Some(here), [there]) => {
                let wrong: Vec<_> = person
                    .fields
                    .iter()
                    .filter(|(field, values)| {
                        let (a, b) = (here.get(*field), there.get(*field));
                        let agree = a.map(|v| shape(field, v)) == b.map(|v| shape(field, v));
                        !agree
                            || !a.is_some_and(|v| values.iter().any(|w| shape(field, w) == shape(field, v)))
                    })
                    .map(|(field, _)| field.clone())
                    .collect();
                if wrong.is_empty() {
                    direction.delivered += 1;
                } else {
                    direction.lost += 1;
                }
                for field in wrong {
                    *findings.fields.entry(field).or_default() += 1;
                }
            }
            (_, [_, _, ..]) => direction.doubled += 1,
            _ => {
                direction.lost += 1;
                *findings.fields.entry("not there".to_owned()).or_default() += 1;
            }
        }
    }
    let strangers =
        patients.len().saturating_sub(people.len()).max(contacts.len().saturating_sub(people.len()));
    findings.to_openmrs.doubled += strangers;
    Ok(findings)
}

//! The auditor: knows only what was put in, what the two servers answer, and what the connector's conflict log tells, and
//! compares the fields of each person. A value that stands nowhere is lost, unless that log holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Identifier type under which a patient carries the id of a CHT contact.
const CHT_ID: &str = "CHT Record Reference UUID";

/// One person as people typed it. Where both sides typed a field at once, either value may stand; the other one must be in
/// the conflict log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expected {
    /// Whether the person was entered at the CHT.
    pub at_cht: bool,
    /// The contact's id, or the patient's uuid.
    pub id: String,
    /// Field to the values that were typed there last, one at each side that typed one.
    pub fields: BTreeMap<String, Vec<String>>,
}

/// What was found for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// People put in.
    pub people: usize,
    /// Of them, there once with all fields.
    pub delivered: usize,
    /// Not there, with a field that nobody typed or that was typed over, or with a value that stands nowhere and is in no
    /// conflict log.
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
    /// Values that lost against one of the other side, and are in the conflict log.
    pub kept: usize,
}

/// What the connector says of itself to who holds its token.
pub struct Connector {
    client: Client,
    address: String,
    token: String,
}

impl Connector {
    /// The one that keeps its address and token in this file.
    pub fn of(admin: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(admin).context("the connector's address cannot be read")?;
        let (address, token) = text.split_once('\n').context("the connector's address is cut short")?;
        Ok(Self { client: Client::new(), address: address.to_owned(), token: token.to_owned() })
    }

    /// How many rows stand where.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.client.get(format!("http://{}/status", self.address)).send().await?.json().await?)
    }

    /// The conflict log: field and value of whatever lost.
    pub async fn losers(&self) -> Result<Losers> {
        let (mut losers, mut after) = (Losers::new(), 0);
        loop {
            let request = self.client.post(format!("http://{}/admin/{}", self.address, super::BRIDGE));
            let ask = json!({ "do": "conflicts", "after": after });
            let answer = request.header("authorization", &self.token).json(&ask).send().await?;
            ensure!(answer.status().is_success(), "the conflict log: {}", answer.status());
            let answer: Value = answer.json().await?;
            let page = answer["conflicts"].as_array().context("the conflict log has another form")?;
            let Some(last) = page.last() else { return Ok(losers) };
            after = last["id"].as_i64().context("the conflict log has another form")?;
            let text = |conflict: &Value, key: &str| conflict["conflict"][key].as_str().map(str::to_owned);
            losers.extend(page.iter().filter_map(|c| Some((text(c, "field")?, text(c, "lost")?))));
        }
    }
}

/// Field and value of whatever lost against the other side.
pub type Losers = BTreeSet<(String, String)>;

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

/// Compares what was put in with what both servers answer and the conflict log tells.
pub async fn compare(people: &[Expected], cht: &str, openmrs: &str, losers: &Losers) -> Result<Findings> {
    let client = Client::new();
    Ok(judge(people, &contacts(&client, cht).await?, &patients(&client, openmrs).await?, losers))
}

fn judge(people: &[Expected], contacts: &[Value], patients: &[Value], losers: &Losers) -> Findings {
    let mut by_contact: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for patient in patients {
        for id in patient["identifiers"].as_array().into_iter().flatten().filter(|i| i["type"] == CHT_ID) {
            by_contact.entry(id["value"].as_str().unwrap_or_default()).or_default().push(patient);
        }
    }
    let mut by_patient: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for contact in contacts {
        if let Some(uuid) = contact["external_id"].as_str().and_then(|e| e.strip_prefix("openmrs:")) {
            by_patient.entry(uuid).or_default().push(contact);
        }
    }
    let contact_by_id: BTreeMap<&str, &Value> =
        contacts.iter().filter_map(|c| Some((c["_id"].as_str()?, c))).collect();
    let patient_by_uuid: BTreeMap<&str, &Value> =
        patients.iter().filter_map(|p| Some((p["uuid"].as_str()?, p))).collect();
    let mut findings = Findings::default();
    for person in people {
        let id = person.id.as_str();
        let (here, copies) = match person.at_cht {
            true => (contact_by_id.get(id).map(|c| of_contact(c)), by_contact.get(id)),
            false => (patient_by_uuid.get(id).map(|p| of_patient(p)), by_patient.get(id)),
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
                let stands = |field: &str| here.get(field).filter(|v| there.get(field) == Some(v));
                let is_kept = |field: &str, typed: &str| {
                    losers.contains(&(canonical(field).to_owned(), typed.to_owned()))
                };
                let mut wrong = vec![];
                for (field, typed) in &person.fields {
                    let standing = stands(field).filter(|v| typed.contains(v));
                    let others = typed.iter().filter(|v| Some(*v) != standing);
                    let (kept, lost): (Vec<_>, Vec<_>) = others.partition(|v| is_kept(field, v));
                    if standing.is_none() || !lost.is_empty() {
                        wrong.push(field);
                    }
                    findings.kept += kept.len();
                }
                match wrong.is_empty() {
                    true => direction.delivered += 1,
                    false => direction.lost += 1,
                }
                for field in wrong {
                    *findings.fields.entry(field.clone()).or_default() += 1;
                }
            }
            (_, [_, _, ..]) => direction.doubled += 1,
            _ => {
                direction.lost += 1;
                *findings.fields.entry("not there".to_owned()).or_default() += 1;
            }
        }
    }
    // Whoever stands there beyond all these belongs to nobody.
    for (direction, there) in
        [(&mut findings.to_openmrs, patients.len()), (&mut findings.to_cht, contacts.len())]
    {
        direction.doubled = direction.doubled.max(there.saturating_sub(people.len()));
    }
    findings
}

/// A field as the connector names it.
fn canonical(field: &str) -> &str {
    if field == "village" { "address.village" } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "7f2b0d6c-0000-4000-8000-000000000001";

    fn person(phones: &[&str]) -> Vec<Expected> {
        let one = |value: &str| vec![value.to_owned()];
        let fields = BTreeMap::from([
            ("name".to_owned(), one("Amina Otieno")),
            ("phone".to_owned(), phones.iter().map(|&p| p.to_owned()).collect()),
        ]);
        vec![Expected { at_cht: true, id: "a".to_owned(), fields }]
    }

    fn contact(phone: &str) -> Value {
        json!({ "_id": "a", "type": "person", "name": "Amina Otieno", "sex": "female", "phone": phone })
    }

    fn patient(phone: &str) -> Value {
        json!({ "uuid": UUID, "givenName": "Amina", "familyName": "Otieno", "gender": "F",
            "attributes": { "Telephone Number": [phone] }, "identifiers": [{ "type": CHT_ID, "value": "a" }] })
    }

    fn to_openmrs(typed: &[&str], contacts: &[Value], patients: &[Value], losers: &Losers) -> [usize; 3] {
        let found = judge(&person(typed), contacts, patients, losers).to_openmrs;
        [found.delivered, found.lost, found.doubled]
    }

    #[test]
    fn the_loser_of_two_edits_is_lost_unless_the_conflict_log_holds_it() {
        let losers = |field: &str, value: &str| Losers::from([(field.to_owned(), value.to_owned())]);
        let judge = |losers: &Losers| to_openmrs(&["1", "2"], &[contact("2")], &[patient("2")], losers);
        assert_eq!(judge(&losers("phone", "1")), [1, 0, 0]);
        for wrong in [Losers::new(), losers("phone", "2"), losers("name", "1"), losers("phone", "3")] {
            assert_eq!(judge(&wrong), [0, 1, 0]);
        }
    }

    #[test]
    fn whoever_is_missing_different_or_there_twice_is_told() {
        let none = Losers::new();
        let judge = |contacts: &[Value], patients: &[Value]| to_openmrs(&["1"], contacts, patients, &none);
        assert_eq!(judge(&[contact("1")], &[patient("1")]), [1, 0, 0]);
        assert_eq!(judge(&[contact("1")], &[]), [0, 1, 0]);
        assert_eq!(judge(&[contact("1")], &[patient("2")]), [0, 1, 0], "the two differ");
        assert_eq!(judge(&[contact("2")], &[patient("2")]), [0, 1, 0], "nobody typed it");
        assert_eq!(judge(&[contact("1")], &[patient("1"), patient("1")]), [0, 0, 1]);
        let stranger = json!({ "uuid": "b", "identifiers": [] });
        assert_eq!(judge(&[contact("1")], &[patient("1"), stranger]), [1, 0, 1]);
    }
}

//! What people type at both sides while the connector dies, written down, and whether all of it is still there.
//!
//! Every value is typed once in a whole run. Each edit notes the value that stood there in the very moment before it: a value may be gone
//! only if somebody typed over what was seen, or if it stands in the conflict log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use test_support::openmrs::{ADMIN, LOCATION, OPENMRS_ID, SOURCE, TELEPHONE};

struct Typed {
    who: String,
    field: &'static str,
    value: String,
    before: Option<String>,
}

/// Both servers and what was typed there.
pub struct People {
    client: Client,
    cht: String,
    openmrs: String,
    typed: Vec<Typed>,
    names: Vec<String>,
    voided: BTreeSet<String>,
    values: u32,
}

/// What the two servers hold of one person.
#[derive(Default)]
struct Found {
    contacts: Vec<Value>,
    patients: Vec<Value>,
}

/// The result of a comparison.
pub struct Counted {
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
}

impl People {
    /// Nobody yet; one place.
    pub async fn new(cht: &str, openmrs: &str) -> Result<Self> {
        let people = Self {
            client: Client::new(),
            cht: cht.to_owned(),
            openmrs: openmrs.to_owned(),
            typed: vec![],
            names: vec![],
            voided: BTreeSet::new(),
            values: 0,
        };
        people.at_cht(&json!({ "_id": "area", "type": "clinic", "name": "Area" })).await?;
        Ok(people)
    }

    async fn send(&self, request: RequestBuilder) -> Result<String> {
        let answer = request.send().await?;
        let (status, url) = (answer.status(), answer.url().path().to_owned());
        let text = answer.text().await?;
        ensure!(status.is_success(), "{url}: {status} {text}");
        Ok(text)
    }

    /// The document as it stood before.
    async fn at_cht(&self, doc: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}/_standin/cht/edit", self.cht));
        let answer: Value = serde_json::from_str(&self.send(request.json(doc)).await?)?;
        Ok(answer["before"].clone())
    }

    /// The patient as it stood before.
    async fn at_openmrs(&self, uuid: &Value, set: Value) -> Result<Value> {
        let request = self.client.post(format!("{}/_standin/openmrs/edit", self.openmrs));
        let answer: Value =
            serde_json::from_str(&self.send(request.json(&json!({ "uuid": uuid, "set": set }))).await?)?;
        Ok(answer["before"].clone())
    }

    /// A plan of faults at both servers.
    pub async fn faults(&self, cht: &Value, openmrs: &Value) -> Result<()> {
        for (url, plan) in [(&self.cht, cht), (&self.openmrs, openmrs)] {
            self.send(self.client.put(format!("{url}/_standin/faults")).json(plan)).await?;
        }
        Ok(())
    }

    fn next(&mut self) -> u32 {
        self.values += 1;
        self.values
    }

    fn note(&mut self, who: &str, field: &'static str, value: &str, before: Option<String>) {
        self.typed.push(Typed { who: who.to_owned(), field, value: value.to_owned(), before });
    }

    /// A new person, entered at the CHT or registered at OpenMRS.
    pub async fn enter(&mut self, at_cht: bool) -> Result<()> {
        let n = self.next();
        let (who, phone) = (given_name(n), phone(n));
        if at_cht {
            let doc = json!({
                "_id": format!("contact-{n}"), "type": "person", "name": format!("{who} Juma"), "sex": "female",
                "date_of_birth": "1990-02-03", "phone": phone, "parent": { "_id": "area" },
                "reported_date": 1_790_000_000_000_i64,
            });
            self.at_cht(&doc).await?;
        } else {
            self.register(&who, &phone).await?;
        }
        self.note(&who, "phone", &phone, None);
        self.names.push(who);
        Ok(())
    }

    /// By the servers' own REST, past the faults: the plans let through what says `clerk`.
    async fn register(&self, who: &str, phone: &str) -> Result<()> {
        let rest = format!("{}/openmrs/ws/rest/v1", self.openmrs);
        let post = |path: String, body: Value| {
            self.client.post(format!("{rest}/{path}?clerk=1")).basic_auth(ADMIN.0, Some(ADMIN.1)).json(&body)
        };
        let number =
            self.send(post(format!("idgen/identifiersource/{SOURCE}/identifier"), json!({}))).await?;
        let number: Value = serde_json::from_str(&number)?;
        let body = json!({
            "person": {
                "names": [{ "givenName": who, "familyName": "Juma" }], "gender": "F", "birthdate": "1990-02-03",
                "attributes": [{ "attributeType": TELEPHONE, "value": phone }],
            },
            "identifiers": [{
                "identifier": number["identifier"], "identifierType": OPENMRS_ID, "location": LOCATION,
                "preferred": true,
            }],
        });
        self.send(post("patient".to_owned(), body)).await.map(drop)
    }

    /// Somebody edits a person who stands at that side already; `draw` chooses whom and what.
    pub async fn edit(&mut self, at_cht: bool, draw: u64) -> Result<()> {
        let found = self.found().await?;
        let there: Vec<_> =
            self.names.iter().rev().take(40).filter(|who| !self.voided.contains(*who)).cloned().collect();
        let Some(who) = there.get(draw as usize % there.len().max(1)).cloned() else { return Ok(()) };
        let (n, Some(person)) = (self.next(), found.get(&who)) else { return Ok(()) };
        let field = if draw >> 32 & 1 == 0 { "phone" } else { "village" };
        let value = if field == "phone" { phone(n) } else { format!("Ward {n}") };
        let before = if at_cht {
            let Some(contact) = person.contacts.first() else { return Ok(()) };
            let before = self.at_cht(&json!({ "_id": contact["_id"], field: value })).await?;
            of_contact(&before, field)
        } else {
            let Some(patient) = person.patients.first() else { return Ok(()) };
            let set = match field {
                "phone" => json!({ "phone": value }),
                _ => json!({ "address": { "cityVillage": value } }),
            };
            let before = self.at_openmrs(&patient["uuid"], set).await?;
            of_patient(&before, field)
        };
        self.note(&who, field, &value, before);
        Ok(())
    }

    /// A clerk voids somebody who stands at both sides, which is for a person to decide about.
    pub async fn void(&mut self, draw: u64) -> Result<()> {
        let found = self.found().await?;
        let both = |who: &&String| {
            !self.voided.contains(*who)
                && found.get(*who).is_some_and(|f| !f.contacts.is_empty() && !f.patients.is_empty())
        };
        let all: Vec<_> = self.names.iter().filter(both).cloned().collect();
        let Some(who) = all.get(draw as usize % all.len().max(1)) else { return Ok(()) };
        let patient = found.get(who).and_then(|f| f.patients.first()).context("the patient is there")?;
        self.at_openmrs(&patient["uuid"], json!({ "voided": true })).await?;
        self.voided.insert(who.clone());
        Ok(())
    }

    async fn lines(&self, url: String) -> Result<Vec<Value>> {
        let text = self.send(self.client.get(url)).await?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    async fn found(&self) -> Result<BTreeMap<String, Found>> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for doc in self.lines(format!("{}/_standin/cht/docs", self.cht)).await? {
            if doc["type"] == "person" || doc["contact_type"] == "person" {
                let name = doc["name"].as_str().unwrap_or_default();
                let given = name.split(' ').next().unwrap_or_default().to_owned();
                found.entry(given).or_default().contacts.push(doc);
            }
        }
        for patient in self.lines(format!("{}/_standin/openmrs/patients", self.openmrs)).await? {
            if patient["voided"] != true {
                let given = patient["givenName"].as_str().unwrap_or_default().to_owned();
                found.entry(given).or_default().patients.push(patient);
            }
        }
        Ok(found)
    }

    /// How many people stand here.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Compares what the servers hold with what was typed. `conflicts` are the values that lost a conflict.
    pub async fn compare(&self, conflicts: &BTreeSet<String>) -> Result<Counted> {
        let found = self.found().await?;
        let mut counted = Counted { lost: vec![], doubled: vec![] };
        for who in self.names.iter().filter(|who| !self.voided.contains(*who)) {
            let nobody = Found::default();
            let person = found.get(who).unwrap_or(&nobody);
            match (person.contacts.as_slice(), person.patients.as_slice()) {
                ([contact], [patient]) => self.fields(who, contact, patient, conflicts, &mut counted),
                (contacts, patients) if contacts.len() > 1 || patients.len() > 1 => counted
                    .doubled
                    .push(format!("{who}: {} contacts, {} patients", contacts.len(), patients.len())),
                (contacts, _) => {
                    let side = if contacts.is_empty() { "the CHT" } else { "OpenMRS" };
                    counted.lost.push(format!("{who} is not at {side}"));
                }
            }
        }
        for who in found.keys().filter(|who| !self.names.contains(who)) {
            counted.doubled.push(format!("{who}: nobody entered this person"));
        }
        Ok(counted)
    }

    fn fields(
        &self,
        who: &str,
        contact: &Value,
        patient: &Value,
        conflicts: &BTreeSet<String>,
        out: &mut Counted,
    ) {
        for field in ["phone", "village"] {
            let typed: Vec<_> = self.typed.iter().filter(|t| t.who == who && t.field == field).collect();
            let (here, there) = (of_contact(contact, field), of_patient(patient, field));
            if here != there {
                out.lost.push(format!("{who} {field}: {here:?} at the CHT, {there:?} at OpenMRS"));
            }
            for t in &typed {
                let stands = here.as_ref() == Some(&t.value);
                let typed_over = typed.iter().any(|later| later.before.as_ref() == Some(&t.value));
                if !stands && !typed_over && !conflicts.contains(&t.value) {
                    out.lost.push(format!("{who} {field}: {} is gone", t.value));
                }
            }
        }
    }
}

fn of_contact(doc: &Value, field: &str) -> Option<String> {
    doc[field].as_str().map(str::to_owned)
}

fn of_patient(patient: &Value, field: &str) -> Option<String> {
    let value = match field {
        "phone" => &patient["attributes"]["Telephone Number"][0],
        _ => &patient["address"]["cityVillage"],
    };
    value.as_str().map(str::to_owned)
}

/// A name in letters that nobody else has.
fn given_name(n: u32) -> String {
    let digits = format!("{n:06}");
    let letters = digits.bytes().map(|digit| char::from(b'a' + digit - b'0'));
    std::iter::once('M').chain(letters).collect()
}

fn phone(n: u32) -> String {
    format!("+2547{n:08}")
}

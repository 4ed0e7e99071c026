//! The processes of a demo: a CHT, an OpenMRS, the connector between them, and what people do at either screen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use test_support::openmrs::{ADMIN, CONNECTOR, LOCATION, NATIONAL_ID, OPENMRS_ID, SOURCE, TELEPHONE};
use test_support::people::{Person, Sex};
use test_support::process::StandIn;

use super::BRIDGE;

/// Everything that runs.
pub struct Site {
    pub cht: StandIn,
    pub openmrs: StandIn,
    pub connector: Option<StandIn>,
    pub folder: PathBuf,
    client: Client,
    broken: Option<String>,
}

impl Site {
    /// Starts both systems, empty but for one place. `broken` names a rule that the connector works without.
    pub async fn start(folder: &Path, broken: Option<&str>) -> Result<Self> {
        let standin = StandIn::binary("test-support")?;
        let site = Self {
            cht: StandIn::spawn(&standin, ["cht", "--port", "0"])?,
            openmrs: StandIn::spawn(&standin, ["openmrs", "--port", "0"])?,
            connector: None,
            folder: folder.to_owned(),
            client: Client::builder().timeout(Duration::from_secs(60)).build()?,
            broken: broken.map(str::to_owned),
        };
        site.edit_contact(&json!({ "_id": "area", "type": "clinic", "name": "Area" })).await?;
        std::fs::write(folder.join("connector.yaml"), site.configuration())?;
        Ok(site)
    }

    fn configuration(&self) -> String {
        format!(
            "store: {{ sqlite: ./data }}\n\
             encryption: {{ key_file: ./data/key }}\n\
             http: {{ listen: \"127.0.0.1:0\" }}\n\
             log: {{ level: warn }}\n\
             bridges:\n\
             - name: {BRIDGE}\n\
             \x20 begin: everything\n\
             \x20 cht:\n\
             \x20   url: {cht}\n\
             \x20   user: medic\n\
             \x20   password: password\n\
             \x20   place: {{ default: area }}\n\
             \x20   fields: {{ address.village: village, identifier.national: national_id }}\n\
             \x20   writes: {{ quiet: 5s }}\n\
             \x20   http: {{ timeout: 5s, probe: 5s }}\n\
             \x20 partner:\n\
             \x20   url: {openmrs}/openmrs\n\
             \x20   user: {user}\n\
             \x20   password: {password}\n\
             \x20   location: {LOCATION}\n\
             \x20   single_name_family: \"-\"\n\
             \x20   identifiers:\n\
             \x20     openmrs: {{ type: {OPENMRS_ID}, source: {SOURCE} }}\n\
             \x20     national: {{ type: {NATIONAL_ID} }}\n\
             \x20   address: {{ village: cityVillage }}\n\
             \x20   pass_seconds: 5\n\
             \x20   changes_seconds: 1\n\
             \x20   concurrency: 8\n\
             \x20   timeout_seconds: 5\n\
             \x20   quiet_seconds: 5\n",
            cht = self.cht.url,
            openmrs = self.openmrs.url,
            user = CONNECTOR.0,
            password = CONNECTOR.1,
        )
    }

    /// Starts the real connector binary on its embedded store.
    pub fn start_connector(&mut self) -> Result<()> {
        let program = StandIn::binary("connector-openmrs")?;
        let mut command = Command::new(program);
        command.args(["run", "--make-key", "--config"]).arg(self.folder.join("connector.yaml"));
        if let Some(rule) = &self.broken {
            command.env("CONNECTOR_WITHOUT_RULE", rule);
        }
        self.connector = Some(StandIn::run(&mut command)?);
        Ok(())
    }

    /// Kills it as a power cut would.
    pub fn kill_connector(&mut self) -> Result<()> {
        if let Some(mut connector) = self.connector.take() {
            connector.kill9()?;
        }
        Ok(())
    }

    async fn send(&self, request: reqwest::RequestBuilder, what: &str) -> Result<String> {
        let answer = request.send().await.with_context(|| format!("{what}: no answer"))?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{what}: {status}");
        Ok(text)
    }

    /// People entered at the CHT, all in one request.
    pub async fn enter(&self, people: &[Person]) -> Result<()> {
        let docs: Vec<_> = people.iter().map(contact).collect();
        let request = self
            .client
            .post(format!("{}/medic/_bulk_docs", self.cht.url))
            .basic_auth("medic", Some("password"))
            .json(&json!({ "docs": docs }));
        self.send(request, "entering people at the CHT").await.map(drop)
    }

    /// A person registered at OpenMRS; gives the patient's uuid.
    pub async fn register(&self, person: &Person) -> Result<String> {
        let rest = format!("{}/openmrs/ws/rest/v1", self.openmrs.url);
        let post =
            |path: String, body: Value| self.client.post(path).basic_auth(ADMIN.0, Some(ADMIN.1)).json(&body);
        let number = post(format!("{rest}/idgen/identifiersource/{SOURCE}/identifier"), json!({}));
        let number: Value = serde_json::from_str(&self.send(number, "a new OpenMRS ID").await?)?;
        let mut identifiers = vec![json!({
            "identifier": number["identifier"], "identifierType": OPENMRS_ID, "location": LOCATION, "preferred": true,
        })];
        identifiers.extend(
            person.national_id.iter().map(|n| json!({ "identifier": n, "identifierType": NATIONAL_ID })),
        );
        let mut name = json!({ "givenName": person.given_name, "familyName": person.family_name });
        if let Some(middle) = &person.middle_name {
            name["middleName"] = json!(middle);
        }
        let attributes: Vec<_> =
            person.phone.iter().map(|p| json!({ "attributeType": TELEPHONE, "value": p })).collect();
        let body = json!({
            "person": {
                "names": [name], "gender": if person.sex == Sex::Female { "F" } else { "M" },
                "birthdate": person.birth_date.to_string(), "attributes": attributes,
                "addresses": [{ "cityVillage": person.village, "preferred": true }],
            },
            "identifiers": identifiers,
        });
        let made: Value = serde_json::from_str(
            &self.send(post(format!("{rest}/patient"), body), "registering at OpenMRS").await?,
        )?;
        match made["uuid"].as_str() {
            Some(uuid) => Ok(uuid.to_owned()),
            None => bail!("OpenMRS registered somebody and gave no uuid"),
        }
    }

    /// A health worker changes a contact on the screen.
    pub async fn edit_contact(&self, doc: &Value) -> Result<()> {
        let request = self.client.post(format!("{}/_standin/cht/edit", self.cht.url)).json(doc);
        self.send(request, "an edit at the CHT").await.map(drop)
    }

    /// A clerk changes a patient on the screen.
    pub async fn edit_patient(&self, uuid: &str, set: &Value) -> Result<()> {
        let body = json!({ "uuid": uuid, "set": set });
        let request = self.client.post(format!("{}/_standin/openmrs/edit", self.openmrs.url)).json(&body);
        self.send(request, "an edit at OpenMRS").await.map(drop)
    }

    /// OpenMRS is out of reach for so long, but for its own users at their screens.
    pub async fn outage(&self, time: Duration) -> Result<()> {
        let plan = json!({ "rules": [], "outages": [{ "from_ms": 0, "to_ms": time.as_millis() as u64 }] });
        let request = self.client.put(format!("{}/_standin/faults", self.openmrs.url)).json(&plan);
        self.send(request, "the outage of OpenMRS").await.map(drop)
    }

    /// Contacts that are people, and patients that are not voided.
    pub async fn counts(&self) -> Result<(usize, usize)> {
        let contacts = super::verify::contacts(&self.client, &self.cht.url).await?;
        let patients = super::verify::patients(&self.client, &self.openmrs.url).await?;
        Ok((contacts.len(), patients.len()))
    }

    /// Where the connector keeps its address and token.
    pub fn admin(&self) -> PathBuf {
        self.folder.join("data/admin")
    }
}

/// A person as the CHT holds one.
pub fn contact(person: &Person) -> Value {
    let mut doc = json!({
        "_id": person.id.to_string(), "type": "person", "name": person.name(), "village": person.village,
        "sex": if person.sex == Sex::Female { "female" } else { "male" },
        "date_of_birth": person.birth_date.to_string(), "parent": { "_id": "area" },
        "reported_date": 1_790_000_000_000_i64,
    });
    if let Some(phone) = &person.phone {
        doc["phone"] = json!(phone);
    }
    if let Some(national) = &person.national_id {
        doc["national_id"] = json!(national);
    }
    doc
}

//! A CHT and an OpenMRS with people on both sides, both edited, both misbehaving.
//!
//! What people type at either side is written down. At the end each person stands once on each side, both sides agree,
//! and every value that somebody typed is there, was typed over at the same side, or stands in the conflict log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::change::{Body, Change, Flow, Message, Patient, Record, RecordId};
use connector_core::cht::ChtConfig;
use connector_core::config::ConfigReport;
use connector_core::connector::{
    Capabilities, Command, Connector, ConnectorConfig, Destination, Fault, Finding, Known, Outcome, Page,
    Receipt, Reject, Repeat, Task,
};
use connector_core::outbox::{Conflicts, ReviewEntry};
use connector_core::store::Store;
use connector_core::transport::Wiring;
use connector_openmrs::Config as OpenMrsConfig;
use serde_json::{Value, json};
use test_support::cht::{Cht, Options as ChtOptions};
use test_support::clock::Clock;
use test_support::fault::{Action, Faults, InProcess, Plan, Rule};
use test_support::openmrs::{
    ADMIN, CONNECTOR, ClerkEdit, LOCATION, NATIONAL_ID, OPENMRS_ID, OpenMrs, Options as OpenMrsOptions,
    SOURCE, Seen, Switches, TELEPHONE,
};

use crate::engine::{Engine, Setup, SimClock};
use crate::points::Points;
use crate::run::{World, open_reviews};
use crate::sink_world::START;
use crate::wire::Wire;

/// What happens in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// People of both sides, edited at both.
    Edits,
    /// Two people of the CHT with one national id, so many seconds apart.
    Twins {
        /// Seconds between the two.
        apart: u64,
        /// Whether the server checks identifiers at all.
        checked: bool,
    },
    /// One woman, entered at both sides within so many seconds.
    Both {
        /// Seconds between the two.
        apart: u64,
    },
    /// The login is refused for a while, and each try extends it.
    LockedOut,
    /// A long outage, and after it one success without a write.
    Outage,
    /// A report about somebody is read before the person is.
    ReportFirst,
    /// Many people, whose every value is marked so that it would be found again anywhere.
    Marked,
}

/// Somebody typed a value.
#[derive(Clone, Debug)]
struct Typed {
    t: u64,
    person: String,
    field: &'static str,
    value: String,
    at_cht: bool,
}

/// The CHT connector, with one text for each report of form `text`, about a person who must be known first.
struct WithTexts(Arc<dyn Connector>);

#[async_trait]
impl Connector for WithTexts {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn check(&self) -> Vec<Finding> {
        self.0.check().await
    }
    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.0.poll(feed, after, limit).await
    }
    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.0.fetch(ids).await
    }
    async fn candidates(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        self.0.candidates(person).await
    }
    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        let mut changes = self.0.changes(record)?;
        if record.body["form"] == "text" && !record.deleted {
            let to = RecordId::person("cht", record.body["to"].as_str().unwrap_or_default());
            let message = Message::Text { to: to.clone(), phone: String::new(), text: "come".into() };
            changes.push(Change::once(record.id.clone(), "text", to, Body::Message(message)));
        }
        Ok(changes)
    }
    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        self.0.destinations(change)
    }
    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        self.0.command(change, known)
    }
    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        self.0.deliver(tasks).await
    }
}

/// The OpenMRS connector, which writes texts down.
struct WithNotes {
    openmrs: Arc<dyn Connector>,
    notes: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Connector for WithNotes {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.openmrs.capabilities();
        capabilities.takes.push(Flow::Messaging);
        capabilities
    }
    async fn check(&self) -> Vec<Finding> {
        self.openmrs.check().await
    }
    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.openmrs.poll(feed, after, limit).await
    }
    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.openmrs.fetch(ids).await
    }
    async fn candidates(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        self.openmrs.candidates(person).await
    }
    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        self.openmrs.changes(record)
    }
    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        match change.body {
            Body::Message(_) => Ok(vec![Destination::default()]),
            _ => self.openmrs.destinations(change),
        }
    }
    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        let Body::Message(_) = &change.body else { return self.openmrs.command(change, known) };
        let patient =
            known.links.get(&change.subject).ok_or_else(|| Reject::new("the person has no counterpart"))?;
        Ok(Some(Command::new(json!({ "note": patient.id }), Repeat::Safe)))
    }
    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        let mut out = vec![];
        for task in tasks {
            match task.command.body["note"].as_str() {
                Some(patient) => {
                    self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(patient.to_owned());
                    out.push(Outcome::Done(Receipt::default()));
                }
                None => out.extend(self.openmrs.deliver(std::slice::from_ref(task)).await),
            }
        }
        out
    }
}

/// The two stand-ins.
pub struct OpenMrsWorld {
    clock: SimClock,
    cht: Arc<Cht>,
    openmrs: Arc<OpenMrs>,
    cht_wire: InProcess,
    openmrs_wire: InProcess,
    clinic: InProcess,
    story: Story,
    typed: Vec<Typed>,
    /// People by the name they keep for ever, whatever is edited.
    people: BTreeSet<String>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl OpenMrsWorld {
    /// A world with mishaps on this share of all writes, by seed.
    pub fn new(seed: u64, mishaps: f64, story: Story) -> Self {
        let clock = Clock::manual(START);
        let options = ChtOptions { seed: seed + 1, ..ChtOptions::default() }.user(
            "interop",
            "Dummy.pass-123",
            &["interop", "mm-online"],
        );
        let cht = Cht::new(options, clock.clone());
        for (id, place) in [
            ("district", json!({"type": "district_hospital", "name": "D"})),
            ("centre", json!({"type": "health_center", "name": "H", "parent": {"_id": "district"}})),
            (
                "area",
                json!({"type": "clinic", "name": "C", "parent": {"_id": "centre", "parent": {"_id": "district"}}}),
            ),
        ] {
            cht.edit(id, place);
        }
        let mut switches = Switches { uniqueness_window_ms: 2_500, ..Switches::default() };
        if matches!(story, Story::Twins { checked: false, .. }) {
            switches.unchecked_types = vec![NATIONAL_ID.to_owned()];
        }
        let openmrs = OpenMrs::new(OpenMrsOptions { seed, switches }, clock.clone());
        let faults = |n: u64, path: &str| match mishaps > 0.0 {
            true => Faults::new(Plan::mishaps(seed * 2 + n, mishaps, Some("POST"), Some(path), 2_000)),
            false => Faults::none(),
        };
        Self {
            cht_wire: InProcess::new(cht.router(), faults(0, "*/_bulk_docs"), clock.clone()),
            openmrs_wire: InProcess::new(openmrs.router(), faults(1, "*/ws/rest/*"), clock.clone()),
            clinic: InProcess::new(openmrs.router(), Faults::none(), clock.clone()),
            clock: SimClock(clock),
            cht,
            openmrs,
            story,
            typed: vec![],
            people: BTreeSet::new(),
            notes: Arc::default(),
        }
    }

    async fn clinic_post(&self, path: &str, body: Value) -> Value {
        let login = basic(ADMIN.0, ADMIN.1);
        let request = http::Request::post(format!("http://openmrs.test:8080/openmrs/ws/rest/v1/{path}"))
            .header("host", "openmrs.test:8080")
            .header("authorization", login)
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        let answer = self.clinic.call(request).await.expect("the clinic's own wire is calm");
        let (head, body) = answer.into_parts();
        assert!(head.status.is_success(), "{path}: {} {}", head.status, String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Somebody mistypes the password of the connector's user.
    async fn wrong_login(&self) {
        let request = http::Request::get("http://openmrs.test:8080/openmrs/ws/rest/v1/session")
            .header("host", "openmrs.test:8080")
            .header("authorization", basic(CONNECTOR.0, "mistyped"))
            .body(Bytes::new())
            .expect("a request");
        self.clinic.call(request).await.expect("the clinic's own wire is calm");
    }

    /// A clerk registers somebody.
    async fn register(&mut self, t: u64, who: &str, national: Option<&str>, phone: &str) {
        let number =
            self.clinic_post(&format!("idgen/identifiersource/{SOURCE}/identifier"), json!({})).await;
        let mut identifiers = vec![json!({
            "identifier": number["identifier"], "identifierType": OPENMRS_ID, "location": LOCATION, "preferred": true
        })];
        identifiers.extend(national.map(|n| json!({"identifier": n, "identifierType": NATIONAL_ID})));
        let person = json!({
            "names": [{"givenName": who, "familyName": "Clinic"}], "gender": "F", "birthdate": "1990-02-03",
            "attributes": [{"attributeType": TELEPHONE, "value": phone}],
        });
        self.clinic_post("patient", json!({ "person": person, "identifiers": identifiers })).await;
        self.people.insert(who.to_owned());
        self.note(t, who, "phone", phone, false);
    }

    /// A health worker enters somebody.
    fn enter(&mut self, t: u64, who: &str, national: Option<&str>, phone: &str) {
        let mut doc = json!({
            "type": "person", "name": format!("{who} Village"), "sex": "female", "date_of_birth": "1990-02-03",
            "phone": phone, "reported_date": START,
            "parent": {"_id": "area", "parent": {"_id": "centre", "parent": {"_id": "district"}}},
        });
        if let Some(national) = national {
            doc["national_id"] = json!(national);
        }
        self.cht.edit(&contact_id(who), doc);
        self.people.insert(who.to_owned());
        self.note(t, who, "phone", phone, true);
    }

    fn note(&mut self, t: u64, who: &str, field: &'static str, value: &str, at_cht: bool) {
        self.typed.push(Typed { t, person: who.to_owned(), field, value: value.to_owned(), at_cht });
    }

    /// The document of a person: the one that a health worker entered, or the one made for a patient.
    fn contact(&self, who: &str) -> Option<Value> {
        self.cht.doc(&contact_id(who)).or_else(|| {
            self.contacts().into_iter().find(|d| d["name"].as_str().is_some_and(|n| n.starts_with(who)))
        })
    }

    fn contacts(&self) -> Vec<Value> {
        self.cht
            .docs()
            .into_iter()
            .filter(|d| d["type"] == "person" || d["contact_type"] == "person")
            .collect()
    }

    fn patient(&self, who: &str) -> Option<Seen> {
        let given = |p: &Seen| p.given_name.as_deref() == Some(who);
        self.openmrs.patients().into_iter().find(|p| given(p) && !p.voided)
    }

    /// A health worker edits a person, if the person is there already.
    fn edit_contact(&mut self, t: u64, who: &str, field: &'static str, value: &str) {
        let Some(doc) = self.contact(who) else { return };
        let id = doc["_id"].as_str().unwrap_or_default().to_owned();
        self.cht.edit(&id, json!({ field: value }));
        self.note(t, who, field, value, true);
    }

    /// A clerk edits a patient, if the patient is there already.
    fn edit_patient(&mut self, t: u64, who: &str, field: &'static str, value: &str) {
        let Some(patient) = self.patient(who) else { return };
        let edit = match field {
            "phone" => ClerkEdit { phone: Some(value.to_owned()), ..ClerkEdit::default() },
            "village" => ClerkEdit {
                address: BTreeMap::from([("cityVillage".to_owned(), value.to_owned())]),
                ..ClerkEdit::default()
            },
            _ => return,
        };
        self.openmrs.edit(&patient.uuid, &edit).expect("a clerk's edit is taken");
        self.note(t, who, field, value, false);
    }

    async fn edits(&mut self, t: u64) {
        match t {
            0 => {
                self.enter(t, "Asha", Some("11111"), "0711000001");
                self.enter(t, "Bina", None, "0711000002");
                self.register(t, "Clara", Some("33333"), "0711000003").await;
                self.register(t, "Dora", None, "0711000004").await;
            }
            2 => self.edit_contact(t, "Asha", "phone", "0722000001"),
            // Typed over at once: A, B, A.
            4 => self.edit_contact(t, "Bina", "phone", "0722000002"),
            5 => self.edit_contact(t, "Bina", "phone", "0711000002"),
            12 => {
                self.edit_patient(t, "Asha", "village", "Ahero");
                self.edit_patient(t, "Clara", "phone", "0733000003");
            }
            // Both sides, the same field, within one pass.
            20 => {
                self.edit_contact(t, "Asha", "phone", "0744000001");
                self.edit_patient(t, "Asha", "phone", "0755000001");
            }
            21 => self.edit_contact(t, "Clara", "village", "Katito"),
            // Different fields of one person at both sides.
            26 => {
                self.edit_contact(t, "Dora", "phone", "0766000004");
                self.edit_patient(t, "Dora", "village", "Muhoroni");
            }
            34 => {
                if let Some(patient) = self.patient("Bina") {
                    let void = ClerkEdit { voided: Some(true), ..ClerkEdit::default() };
                    self.openmrs.edit(&patient.uuid, &void).expect("a void is taken");
                    self.people.remove("Bina");
                }
            }
            _ => {}
        }
    }

    /// Marked people at both sides; later edits, one of them on both, one void, and one value that no OpenMRS takes.
    async fn marked(&mut self, t: u64) {
        let (who, phone) = (|n: u64| format!("Qzx{}vkw", letters(n)), |n: u64| format!("07983{n:05}"));
        if t < 30 {
            self.enter(t, &who(t), Some(&format!("8675{t:05}")), &phone(t));
            self.register(t, &who(100 + t), Some(&format!("8676{t:05}")), &phone(100 + t)).await;
        }
        if t == 30 {
            // No OpenMRS holds so long a name: a dead letter.
            self.enter(t, &format!("{}{}", who(90), "z".repeat(60)), None, &phone(90));
        }
        if (60..75).contains(&t) {
            self.edit_contact(t, &who(t - 60), "phone", &phone(200 + t));
            self.edit_patient(t, &who(t - 58), "phone", &phone(300 + t));
        }
        if t == 80
            && let Some(patient) = self.patient(&who(3))
        {
            let void = ClerkEdit { voided: Some(true), ..ClerkEdit::default() };
            self.openmrs.edit(&patient.uuid, &void).expect("a void is taken");
        }
    }

    /// Every name, phone and identifier that was typed.
    pub fn marks(&self) -> Vec<String> {
        let mut marks: Vec<String> = self.typed.iter().map(|e| e.value.clone()).collect();
        marks.extend(self.people.iter().cloned());
        marks.extend(self.people.iter().map(|who| format!("{who} Village")));
        marks.extend((0..30).flat_map(|n| [format!("8675{n:05}"), format!("8676{n:05}")]));
        marks
    }

    fn value_at_cht(&self, who: &str, field: &str) -> Option<String> {
        self.contact(who)?[field].as_str().map(str::to_owned)
    }

    fn value_at_openmrs(&self, who: &str, field: &str) -> Option<String> {
        let patient = self.patient(who)?;
        match field {
            "phone" => patient.attributes.values().flatten().find(|v| v.starts_with("07")).cloned(),
            _ => patient.address.get("cityVillage").cloned(),
        }
    }

    /// One on each side, and both agree on what was typed.
    async fn compare(&self, store: &Store, wrong: &mut Vec<String>) {
        let conflicts: Vec<_> = store
            .read(Conflicts { after: 0, limit: 10_000 })
            .await
            .expect("the conflict log can be read")
            .into_iter()
            .map(|(_, _, c)| c)
            .collect();
        for who in &self.people {
            let contacts = self
                .contacts()
                .iter()
                .filter(|d| d["name"].as_str().is_some_and(|n| n.starts_with(who.as_str())))
                .count();
            let patients = self
                .openmrs
                .patients()
                .iter()
                .filter(|p| p.given_name.as_deref() == Some(who) && !p.voided)
                .count();
            if contacts != 1 || patients != 1 {
                wrong.push(format!("{who}: {contacts} contacts, {patients} patients"));
                continue;
            }
            for field in ["phone", "village"] {
                let typed: Vec<_> =
                    self.typed.iter().filter(|e| e.person == *who && e.field == field).collect();
                if typed.is_empty() {
                    continue;
                }
                let (here, there) = (self.value_at_cht(who, field), self.value_at_openmrs(who, field));
                if here != there {
                    wrong.push(format!("{who} {field}: {here:?} at the CHT, {there:?} at OpenMRS"));
                }
                for e in &typed {
                    let stands = here.as_deref() == Some(e.value.as_str());
                    let typed_over = typed
                        .iter()
                        .any(|later| later.t > e.t && (later.at_cht == e.at_cht || later.t > e.t + 8));
                    let logged = conflicts.iter().any(|c| c.field.ends_with(field) && c.lost == e.value);
                    if !stands && !typed_over && !logged {
                        wrong.push(format!("{who} {field}: {} typed at {} is lost", e.value, e.t));
                    }
                }
            }
        }
    }

    fn twins(&self, reviews: &[ReviewEntry], wrong: &mut Vec<String>) {
        let with_id = |p: &&Seen| !p.voided && p.identifiers.iter().any(|i| i.value == "55555");
        let patients: Vec<Seen> = self.openmrs.patients().into_iter().filter(|p| with_id(&p)).collect();
        if patients.len() != 1 {
            wrong.push(format!("{} patients with one national id", patients.len()));
        }
        if reviews.len() != 1 {
            wrong.push(format!("{} in review instead of the second person", reviews.len()));
        }
        let edited = ["Esther", "Fatuma"].iter().any(|who| {
            self.patient(who).is_some()
                && self.value_at_openmrs(who, "phone").as_deref() == Some(later_phone(who))
        });
        if !edited {
            wrong.push("the later edit of the one who was first did not arrive".into());
        }
    }

    fn both(&self, reviews: &[ReviewEntry], wrong: &mut Vec<String>) {
        let patients = self
            .openmrs
            .patients()
            .iter()
            .filter(|p| !p.voided && p.identifiers.iter().any(|i| i.value == "77777"))
            .count();
        let contacts = self.contacts().iter().filter(|d| d["national_id"] == "77777").count();
        let one_pair = patients == 1 && contacts == 1;
        // Or a pair, and the later entry in review.
        let pair_and_review = contacts + patients == 3 && reviews.len() == 1;
        if !one_pair && !pair_and_review {
            wrong.push(format!("{contacts} contacts, {patients} patients, {} in review", reviews.len()));
        }
    }
}

fn later_phone(who: &str) -> &'static str {
    if who == "Esther" { "0788000005" } else { "0788000006" }
}

/// A number in letters, so that it can be part of a name.
fn letters(n: u64) -> String {
    format!("{n:03}").bytes().map(|d| char::from(d - b'0' + b'a')).collect()
}

fn contact_id(who: &str) -> String {
    format!("contact-{}", who.to_lowercase())
}

fn basic(user: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut out = String::from("Basic ");
    for chunk in text.as_bytes().chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let c = ALPHABET[(n >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { c } else { '=' });
        }
    }
    out
}

#[async_trait]
impl World for OpenMrsWorld {
    fn clock(&self) -> &SimClock {
        &self.clock
    }

    async fn engine(&self, store: Store, points: Arc<Points>, setup: &Setup) -> Engine {
        let (cht_wire, openmrs_wire, p) = (self.cht_wire.clone(), self.openmrs_wire.clone(), points.clone());
        let believes = setup.believes;
        let wiring = Wiring::new(
            Arc::new(self.clock.clone()),
            Arc::new(move |name, _| {
                let to = if name == "cht" { cht_wire.clone() } else { openmrs_wire.clone() };
                Ok(Arc::new(Wire::new(to, p.clone(), believes && name != "cht")) as _)
            }),
        );
        let mut report = ConfigReport::default();
        let cht: ChtConfig = serde_json::from_value(json!({
            "url": "http://cht.test", "user": "interop", "password": "Dummy.pass-123",
            "place": {"default": "area"}, "feed": {"every": "1s"},
            "fields": {"identifier.national": "national_id", "address.village": "village"},
            "documents": ["data_record"], "writes": {"quiet": "3s"}, "search": {"scan": true, "phone": false},
        }))
        .expect("the CHT's configuration parses");
        let cht = cht.build("cht", &wiring, &mut report);
        let openmrs: OpenMrsConfig = serde_json::from_value(json!({
            "url": "http://openmrs.test:8080/openmrs", "user": CONNECTOR.0, "password": CONNECTOR.1,
            "location": LOCATION, "single_name_family": "-",
            "identifiers": {"openmrs": {"type": OPENMRS_ID, "source": SOURCE}, "national": {"type": NATIONAL_ID}},
            "address": {"village": "cityVillage"},
            "pass_seconds": 5, "changes_seconds": 2, "encounters_seconds": 30, "overlap_seconds": 5,
            "quiet_seconds": 3, "timeout_seconds": 3,
        }))
        .expect("the configuration of OpenMRS parses");
        let openmrs = openmrs.build("openmrs", &wiring, &mut report);
        let (Some(cht), Some(openmrs)) = (cht, openmrs) else {
            panic!("configuration: {:?}", report.problems())
        };
        let openmrs = Arc::new(WithNotes { openmrs, notes: self.notes.clone() });
        Engine::start(store, &self.clock, Arc::new(WithTexts(cht)), ("openmrs", openmrs), points, setup).await
    }

    async fn script(&mut self, t: u64) {
        match self.story {
            Story::Edits => self.edits(t).await,
            Story::Twins { apart, .. } => {
                if t == 1 {
                    self.enter(t, "Esther", Some("55555"), "0777000005");
                }
                if t == 1 + apart {
                    self.enter(t, "Fatuma", Some("55555"), "0777000006");
                }
                if t == 30 {
                    for who in ["Esther", "Fatuma"] {
                        if self.patient(who).is_some() {
                            self.edit_contact(t, who, "phone", later_phone(who));
                        }
                    }
                }
            }
            Story::Both { apart } => {
                if t == 1 {
                    self.register(t, "Grace", Some("77777"), "0799000007").await;
                }
                if t == 1 + apart {
                    self.enter(t, "Grace", Some("77777"), "0799000007");
                }
            }
            Story::Marked => self.marked(t).await,
            Story::ReportFirst => {
                if t == 1 {
                    let report = json!({"type": "data_record", "form": "text", "to": contact_id("Imani"), "reported_date": START});
                    self.cht.edit("report", report);
                }
                if t == 2 {
                    self.enter(t, "Imani", None, "0700000009");
                }
            }
            Story::Outage => {
                if t == 0 {
                    self.enter(t, "Hawa", None, "0700000008");
                }
                if t == 6 {
                    let (any, path) = ("POST", "*/ws/rest/*");
                    let down = Rule::on(any, path, Action::status(503, false)).nth(1).burst(9);
                    let lies = Action::FakeSuccess { code: 200, body: "{}".to_owned() };
                    let plan = Plan::default().with(down).with(Rule::on(any, path, lies).nth(1));
                    self.openmrs_wire.faults().set(plan);
                    self.edit_contact(t, "Hawa", "phone", "0711100008");
                }
            }
            Story::LockedOut => {
                if t == 0 {
                    self.enter(t, "Hawa", None, "0700000008");
                }
                if t == 6 {
                    for _ in 0..8 {
                        self.wrong_login().await;
                    }
                    // The session ends, and the next login meets the lock.
                    let ended = Rule::new(Action::status(401, false)).nth(1).burst(2);
                    self.openmrs_wire.faults().set(Plan::default().with(ended));
                    self.edit_contact(t, "Hawa", "phone", "0711100008");
                }
                if t == 12 {
                    self.openmrs_wire.faults().clear();
                }
            }
        }
    }

    fn quiet_after(&self) -> u64 {
        match self.story {
            Story::LockedOut | Story::Outage => 420,
            _ => 36,
        }
    }

    async fn wrong(&self, store: &Store) -> Vec<String> {
        let reviews = open_reviews(store).await;
        let mut wrong = vec![];
        match self.story {
            Story::Edits | Story::LockedOut | Story::Outage => self.compare(store, &mut wrong).await,
            Story::Twins { .. } => self.twins(&reviews, &mut wrong),
            Story::Both { .. } => self.both(&reviews, &mut wrong),
            Story::Marked => {}
            Story::ReportFirst => {
                self.compare(store, &mut wrong).await;
                let noted = self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let patient = self.patient("Imani").map(|p| p.uuid).unwrap_or_default();
                if noted.is_empty() || noted.iter().any(|n| *n != patient) {
                    wrong.push(format!("the report was written down {} times", noted.len()));
                }
            }
        }
        if self.story == Story::Edits {
            let gone = reviews.iter().filter(|r| r.kind == "gone").count();
            if gone != 1 || reviews.len() != 1 {
                let kinds: Vec<_> = reviews.iter().map(|r| r.kind.as_str()).collect();
                wrong.push(format!("the void is to be in review and nothing else: {kinds:?}"));
            }
        }
        wrong
    }
}

//! A stand-in, a connector to it, and a driver that treats outcomes as the core does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, TransportErrorKind, body_of};
use connector_core::change::{Body as ChangeBody, Change, Patient, Record, RecordId};
use connector_core::clock::ManualClock;
use connector_core::config::ConfigReport;
use connector_core::connector::{Connector, ConnectorConfig, Known, Outcome, Page, Receipt, Task};
use connector_core::transport::Wiring;
use connector_openmrs::Config;
use serde_json::{Value, json};
use test_support::clock::Clock;
use test_support::fault::{Broken, Faults, InProcess, Plan};
use test_support::openmrs::{
    CONNECTOR, LOCATION, NATIONAL_ID, OPENMRS_ID, OpenMrs, Options, SOURCE, Seen, TELEPHONE,
};

pub const URL: &str = "http://openmrs.test:8080/openmrs";
pub const START: i64 = 1_795_600_000_000;
pub const CAUSE: &str = "140238AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// One request as it left.
#[derive(Clone)]
pub struct Sent {
    pub method: String,
    pub target: String,
    pub headers: Vec<String>,
    pub status: Option<u16>,
}

/// Hands requests to the stand-in and notes them.
#[derive(Clone)]
pub struct Wire {
    pub server: InProcess,
    pub log: Arc<Mutex<Vec<Sent>>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        request.headers_mut().insert("host", host.parse().unwrap());
        let mut sent = Sent {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            headers: request.headers().keys().map(ToString::to_string).collect(),
            status: None,
        };
        let answer = self.server.call(request).await;
        sent.status = answer.as_ref().ok().map(|a| a.status().as_u16());
        self.log.lock().unwrap().push(sent);
        match answer {
            Ok(answer) => Ok(answer.map(body_of)),
            Err(Broken::Refused) => Err(TransportErrorKind::Connect.into()),
            Err(Broken::Reset) => Err(TransportErrorKind::Closed.into()),
            Err(Broken::TimedOut) => Err(TransportErrorKind::Timeout.into()),
        }
    }
}

/// A stand-in and a connector to it.
pub struct World {
    pub server: Arc<OpenMrs>,
    pub wire: Wire,
    pub clock: Clock,
    pub connector: Arc<dyn Connector>,
}

/// The configuration of the tests.
pub fn config() -> Value {
    json!({
        "url": URL, "user": CONNECTOR.0, "password": CONNECTOR.1, "location": LOCATION, "cause_of_death": CAUSE,
        "identifiers": {"openmrs": {"type": OPENMRS_ID, "source": SOURCE}, "national": {"type": NATIONAL_ID}},
        "attributes": {"consent": "b1111111-0000-4000-8000-000000000003", "mother": "8d871d18-c2cc-11de-8d13-0010c6dffd0f"},
        "address": {"village": "cityVillage", "district": "countyDistrict", "landmark": "address1"}
    })
}

/// With one key of the configuration set.
pub fn config_with(key: &str, value: impl Into<Value>) -> Value {
    let mut config = config();
    config[key] = value.into();
    config
}

/// A connector over any transport.
pub fn connect(transport: Arc<dyn Transport>, config: Value) -> Arc<dyn Connector> {
    let config: Config = serde_json::from_value(config).unwrap();
    let wiring = Wiring::new(Arc::new(ManualClock::new(START)), Arc::new(move |_, _| Ok(transport.clone())));
    let mut report = ConfigReport::new("openmrs");
    let connector = config.build("openmrs", &wiring, &mut report);
    assert!(report.is_clean(), "{:?}", report.problems());
    connector.unwrap()
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Value) -> Self {
        let clock = Clock::manual(START);
        let server = OpenMrs::new(Options::default(), clock.clone());
        let wire = Wire {
            server: InProcess::new(server.router(), Faults::none(), clock.clone()),
            log: Arc::default(),
        };
        let connector = connect(Arc::new(wire.clone()), config);
        Self { server, wire, clock, connector }
    }

    /// Another connector to the same server.
    pub fn also(&self, config: Value) -> Arc<dyn Connector> {
        connect(Arc::new(self.wire.clone()), config)
    }

    pub fn faults(&self, plan: Plan) {
        self.wire.server.faults().set(plan);
    }

    /// Time goes on, and what is due happens.
    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.clock.run_due();
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.wire.log.lock().unwrap().clone()
    }

    pub fn forget_sent(&self) {
        self.wire.log.lock().unwrap().clear();
    }

    pub fn switch(&self, set: impl FnOnce(&mut test_support::openmrs::Switches)) {
        let mut switches = self.server.switches();
        set(&mut switches);
        self.server.set_switches(switches);
    }

    /// The task that carries the person of a CHT contact to OpenMRS.
    pub fn task(&self, change: &Change, current: Option<&Record>) -> Option<Task> {
        let links = BTreeMap::new();
        let known = Known { now: START, links: &links, current, destination: "", key: "k" };
        let command = self.connector.command(change, &known).unwrap()?;
        Some(Task { key: "k".into(), command, notes: BTreeMap::new(), attempt: 1, first_sent: START })
    }

    pub async fn current(&self, uuid: &str) -> Option<Record> {
        let ids = [RecordId::person("openmrs", uuid)];
        self.connector.fetch(&ids).await.unwrap().remove(0)
    }

    pub async fn once(&self, task: &Task) -> Outcome {
        let mut outcomes = self.connector.deliver(std::slice::from_ref(task)).await;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    /// Delivers as the core does until the outcome is final: notes kept, the quiet time waited, conflicts planned anew
    /// from the target's present state.
    pub async fn settle(&self, change: &Change, uuid: Option<&str>) -> Result<Receipt, String> {
        let current = match uuid {
            Some(uuid) => self.current(uuid).await,
            None => None,
        };
        let Some(mut task) = self.task(change, current.as_ref()) else { return Ok(Receipt::default()) };
        for _ in 0..40 {
            match self.once(&task).await {
                Outcome::Done(receipt) => return Ok(receipt),
                Outcome::Step(name, note) => drop(task.notes.insert(name, note)),
                Outcome::Retry { .. } => self.wait(1),
                Outcome::Unknown => self.wait(121),
                Outcome::Conflict => {
                    let uuid = uuid.ok_or("a conflict without a counterpart")?;
                    let Some(current) = self.current(uuid).await else {
                        return Err("the target is gone".into());
                    };
                    match self.task(change, Some(&current)) {
                        Some(next) => task = next,
                        None => return Ok(Receipt::default()),
                    }
                }
                Outcome::Rejected(reject) => return Err(reject.reason),
                Outcome::Halt(reason) => return Err(format!("halt: {reason}")),
            }
            task.attempt += 1;
        }
        Err("no end".into())
    }

    /// Registers a CHT contact and gives the patient's uuid.
    pub async fn register(&self, change: &Change) -> String {
        self.settle(change, None).await.unwrap().id.unwrap().id
    }

    pub fn seen(&self, uuid: &str) -> Seen {
        self.server.patient(uuid).unwrap()
    }

    /// Reads a feed to its end.
    pub async fn drain(&self, feed: &str, after: Option<String>) -> (Page, Option<String>) {
        let (mut all, mut cursor) = (Page::default(), after);
        for _ in 0..5000 {
            let page = self.connector.poll(feed, cursor.as_deref(), 100).await.unwrap();
            cursor = Some(page.next);
            all.records.extend(page.records);
            all.refresh.extend(page.refresh);
            all.unreadable.extend(page.unreadable);
            if !page.more {
                return (all, cursor);
            }
        }
        panic!("the feed does not end");
    }
}

/// A person of the CHT.
pub fn contact<'a>(id: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Change {
    Change::state(RecordId::person("cht", id), ChangeBody::Patient(Patient::with(fields)))
}

/// A usual one.
pub fn amina() -> Change {
    contact(
        "0b7e5a10-5c1d-4e0f-9a3b-0000000000aa",
        [
            ("name", "Amina Wambui Otieno"),
            ("sex", "female"),
            ("birth_date", "1994-03-12"),
            ("phone", "+254700100001"),
            ("address.village", "Ahero"),
            ("address.district", "Kisumu"),
            ("identifier.national", "30445566"),
        ],
    )
}

/// Her, with these fields only: what the core sends on when they moved.
pub fn amina_with<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Change {
    contact("0b7e5a10-5c1d-4e0f-9a3b-0000000000aa", fields)
}

/// The canonical fields of a record.
pub fn fields(connector: &Arc<dyn Connector>, record: &Record) -> BTreeMap<String, String> {
    let change = connector.changes(record).unwrap().remove(0);
    let ChangeBody::Patient(patient) = change.body else { panic!("no patient") };
    patient.fields
}

pub fn uuids(page: &Page) -> Vec<String> {
    let mut all: Vec<_> = page.records.iter().map(|r| r.id.id.clone()).collect();
    all.sort();
    all.dedup();
    all
}

pub fn everybody(world: &World) -> Vec<String> {
    let mut all: Vec<_> = world.server.patients().into_iter().filter(|p| !p.voided).map(|p| p.uuid).collect();
    all.sort();
    all
}

/// No name, address, phone or identifier is there twice, and every patient once.
pub fn nothing_doubled(world: &World) {
    let counts = world.server.counts();
    assert_eq!((counts.shared_identifiers, counts.same_person), (0, 0));
    for patient in world.server.patients() {
        assert!(patient.names <= 1 && patient.addresses <= 1, "rows doubled");
        assert!(patient.attributes.values().all(|values| values.len() == 1), "attributes doubled");
        let mut kinds: Vec<_> = patient.identifiers.iter().map(|i| &i.kind).collect();
        let all = kinds.len();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), all, "identifiers doubled");
    }
}

pub fn phone(seen: &Seen) -> Option<&str> {
    seen.attributes.get("Telephone Number").and_then(|v| v.first()).map(String::as_str)
}

pub const PHONE_TYPE: &str = TELEPHONE;

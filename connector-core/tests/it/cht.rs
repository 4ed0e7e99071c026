//! The CHT connector against the CHT stand-in: both directions, every fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_core::change::{Body, Change, Gone, Patient, Record, RecordId};
use connector_core::cht::ChtConfig;
use connector_core::clock::ManualClock;
use connector_core::config::ConfigReport;
use connector_core::connector::{
    Command, Connector, ConnectorConfig, Fault, Finding, Known, Outcome, Receipt, Task,
};
use connector_core::transport::Wiring;
use serde_json::{Value, json};
use test_support::cht::{Cht, Options, Sentinel};
use test_support::clock::Clock as StandinClock;
use test_support::fault::{Action, Faults, InProcess, Plan, Rule};

use crate::inprocess::wiring;

pub const START: i64 = 1_767_225_600_000;
pub const BULK: &str = "*/_bulk_docs";

/// A CHT with a few places, and the connector in front of it.
pub struct World {
    pub cht: Arc<Cht>,
    pub faults: Faults,
    pub clock: StandinClock,
    pub connector: Arc<dyn Connector>,
}

pub fn config(change: Value) -> Value {
    let mut config = json!({"url": "http://cht.test", "user": "interop", "password": "Dummy.pass-123",
        "place": {"default": "area"}});
    for (key, value) in change.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

pub fn build(config: Value, wiring: &Wiring) -> Result<Arc<dyn Connector>, Vec<(String, String)>> {
    let config: ChtConfig = serde_json::from_value(config).unwrap();
    let mut report = ConfigReport::new("cht");
    let connector = config.build("cht", wiring, &mut report);
    connector.ok_or_else(|| report.problems().iter().map(|p| (p.path.clone(), p.text.clone())).collect())
}

impl World {
    pub fn new() -> Self {
        Self::with(json!({}))
    }

    pub fn with(change: Value) -> Self {
        Self::on(change, StandinClock::manual(START))
    }

    pub fn on(change: Value, clock: StandinClock) -> Self {
        let options = Options::default()
            .user("interop", "Dummy.pass-123", &["interop", "mm-online"])
            .user("reader", "Dummy.pass-123", &["analytics", "mm-online"])
            .user("chw1", "Dummy.pass-123", &["chw"]);
        let cht = Cht::new(options, clock.clone());
        for (id, place) in [
            ("district", json!({"type": "district_hospital", "name": "D"})),
            ("centre", json!({"type": "health_center", "name": "H", "parent": {"_id": "district"}})),
            (
                "area",
                json!({"type": "clinic", "name": "C", "external_id": "openmrs:area-1",
                    "parent": {"_id": "centre", "parent": {"_id": "district"}}}),
            ),
        ] {
            cht.edit(id, place);
        }
        let faults = Faults::none();
        let standin = InProcess::new(cht.router(), faults.clone(), clock.clone());
        let core = Arc::new(ManualClock::new(START));
        let connector = build(config(change), &wiring(core, [("cht", standin)])).unwrap();
        Self { cht, faults, clock, connector }
    }

    /// Time passes at the CHT.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.cht.tick();
    }

    pub async fn checked(self) -> Self {
        let findings = self.connector.check().await;
        assert!(findings.iter().all(|f| f.ok), "{findings:?}");
        self
    }

    /// Somebody whom a person entered at the CHT.
    pub fn person(&self, id: &str, fields: Value) -> RecordId {
        let mut doc = json!({"type": "person", "name": "Asha Test", "reported_date": START,
            "parent": {"_id": "area", "parent": {"_id": "centre", "parent": {"_id": "district"}}}});
        for (key, value) in fields.as_object().unwrap() {
            doc[key] = value.clone();
        }
        self.cht.edit(id, doc);
        self.pass(Duration::from_secs(1));
        RecordId::person("cht", id)
    }

    pub async fn read(&self, id: &RecordId) -> Option<Record> {
        self.connector.fetch(std::slice::from_ref(id)).await.unwrap().remove(0)
    }

    pub fn plan_create(&self, source: &str, fields: &[(&str, &str)], now: i64) -> Command {
        let change = arrival(source, fields);
        let known = Known { now, links: &BTreeMap::new(), current: None, destination: "", key: "k" };
        self.connector.command(&change, &known).unwrap().unwrap()
    }

    pub fn plan_update(&self, current: &Record, fields: &[(&str, &str)]) -> Option<Command> {
        let change = arrival("u-1", fields);
        let links = BTreeMap::from([(change.source.clone(), current.id.clone())]);
        let known = Known { now: START, links: &links, current: Some(current), destination: "", key: "k" };
        self.connector.command(&change, &known).unwrap()
    }

    pub async fn deliver(&self, command: &Command) -> Outcome {
        self.connector.deliver(&[task(command)]).await.remove(0)
    }

    /// The same command once more, as after an attempt without an answer.
    pub async fn deliver_again(&self, command: &Command) -> Outcome {
        self.connector.deliver(&[Task { attempt: 2, ..task(command) }]).await.remove(0)
    }

    pub async fn patients(&self, after: Option<&str>) -> (Vec<Change>, String) {
        let page = self.connector.poll("changes", after, 1000).await.unwrap();
        assert!(page.unreadable.is_empty() && !page.more);
        let changes = page.records.iter().flat_map(|r| self.connector.changes(r).unwrap()).collect();
        (changes, page.next)
    }

    pub fn requests(&self, glob: &str) -> usize {
        self.faults.log(0).iter().filter(|entry| entry.path.contains(glob)).count()
    }
}

pub fn arrival(source: &str, fields: &[(&str, &str)]) -> Change {
    let source = RecordId::person("openmrs", source);
    Change::state(source, Body::Patient(Patient::with(fields.iter().copied())))
}

pub fn task(command: &Command) -> Task {
    Task { key: "k".into(), command: command.clone(), notes: BTreeMap::new(), attempt: 1, first_sent: START }
}

pub fn done(outcome: Outcome) -> Record {
    let Outcome::Done(Receipt { id: Some(id), record: Some(record) }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(id, record.id);
    record
}

pub fn patient(change: &Change) -> &Patient {
    let Body::Patient(patient) = &change.body else { panic!("no patient") };
    patient
}

pub fn bad(findings: &[Finding]) -> Vec<&str> {
    findings.iter().filter(|f| !f.ok).map(|f| f.what.as_str()).collect()
}

pub const PERSON: [(&str, &str); 4] =
    [("name", "Zuri Test"), ("sex", "female"), ("birth_date", "1994-03-02"), ("phone", "+254700000001")];

#[tokio::test]
async fn a_check_of_a_good_site_finds_nothing_bad() {
    let findings = World::new().connector.check().await;
    assert_eq!(bad(&findings), Vec::<&str>::new(), "{findings:?}");
    let names: Vec<&str> = findings.iter().map(|f| f.what.as_str()).collect();
    let all =
        ["encryption", "reachable", "version", "sentinel", "login", "permission", "person type", "place"];
    assert_eq!(names, all);
}

#[tokio::test]
async fn a_check_names_what_must_be_mended() {
    for (change, what, word) in [
        (json!({"password": "wrong"}), "login", "password"),
        (json!({"user": "chw1"}), "user", "mm-online"),
        (json!({"user": "reader"}), "permission", "can_edit"),
        (json!({"place": {"default": "nowhere"}}), "place", "nowhere"),
        (json!({"place": {}}), "place", "place.default"),
        (json!({"person_types": ["person", "household"]}), "person type", "household"),
    ] {
        let findings = World::with(change.clone()).connector.check().await;
        assert_eq!(bad(&findings), [what], "{change}");
        let text = &findings.iter().find(|f| !f.ok).unwrap().text;
        assert!(text.contains(word), "{text}");
    }
    let world = World::with(json!({"place": {"default": "somebody"}}));
    world.person("somebody", json!({}));
    assert_eq!(bad(&world.connector.check().await), ["place"]);
}

#[tokio::test]
async fn a_configuration_is_refused_with_all_its_problems() {
    let standin = InProcess::new(axum::Router::new(), Faults::none(), StandinClock::manual(START));
    let wrong = config(json!({
        "url": "ftp://cht.test", "person_types": ["patient"], "fields": {"surname": "name", "phone": "a..b"},
        "external_id": {"plain": "a:b"}, "create": {"type": "person", "set": {"_id": "x", "parent": "y"}},
        "only": {"role": ["patient"]}, "read_only": ["nothing"],
        "place": {"rules": [{"field": "village"}, {"field": "location", "external_id_prefix": "openmrs:"}]},
        "writes": {"batch": 0}, "http": {"concurrency": 0}, "feed": {"longpoll": "1m", "page": 0},
    }));
    let core = Arc::new(ManualClock::new(START));
    let problems = build(wrong, &wiring(core, [("cht", standin)])).err().unwrap();
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "cht.create.type",
            "cht.external_id.plain",
            "cht.fields.phone",
            "cht.fields.surname",
            "cht.read_only",
            "cht.create.set.role",
            "cht.create.set._id",
            "cht.create.set.parent",
            "cht.place.rules[0]",
            "cht.place.rules[0].field",
            "cht.place.types",
            "cht.writes.batch",
            "cht.http.concurrency",
            "cht.feed.page",
            "cht.feed.longpoll",
            "cht.url",
        ]
    );
    let unknown = serde_json::from_value::<ChtConfig>(config(json!({"passwort": "x"})));
    assert!(unknown.unwrap_err().to_string().contains("passwort"));
    let good: ChtConfig = serde_json::from_value(config(json!({}))).unwrap();
    assert!(!format!("{good:?}").contains("Dummy.pass-123"));
}

#[tokio::test]
async fn the_feed_gives_people_and_goes_on_where_it_stopped() {
    let world = World::new();
    world.cht.switch(|s| s.sentinel = Sentinel::Off);
    for n in 0..25 {
        world.person(&format!("p-{n}"), json!({"name": format!("Person {n}")}));
    }
    let (mut after, mut seen, mut pages) = (None::<String>, vec![], 0);
    loop {
        let page = world.connector.poll("changes", after.as_deref(), 10).await.unwrap();
        seen.extend(page.records.iter().map(|r| r.id.id.clone()));
        after = Some(page.next);
        pages += 1;
        if !page.more {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (25, 3));
    assert_eq!(seen, (0..25).map(|n| format!("p-{n}")).collect::<Vec<_>>());
    assert!(world.patients(after.as_deref()).await.0.is_empty());
}

#[tokio::test]
async fn a_page_that_is_too_long_is_asked_for_in_smaller_ones() {
    let world = World::with(json!({"http": {"longest": 20_000}}));
    for n in 0..8 {
        world.person(&format!("p-{n}"), json!({"notes": "x".repeat(5_000)}));
    }
    let (mut after, mut seen, mut failed) = (None::<String>, vec![], 0);
    loop {
        match world.connector.poll("changes", after.as_deref(), 8).await {
            Ok(page) => {
                seen.extend(page.records.iter().map(|r| r.id.id.clone()));
                after = Some(page.next);
                if !page.more {
                    break;
                }
            }
            Err(fault) => {
                assert!(matches!(fault, Fault::Retry { .. }), "{fault}");
                failed += 1;
                assert!(failed < 10, "the pages do not become smaller");
            }
        }
    }
    assert_eq!(seen, (0..8).map(|n| format!("p-{n}")).collect::<Vec<_>>());
    assert!(failed > 0);
}

#[tokio::test]
async fn whole_documents_come_out_by_configured_types() {
    let world = World::with(json!({"documents": ["data_record", "clinic"]}));
    world.cht.edit("r-1", json!({"type": "data_record", "form": "V", "fields": {"a": 1}}));
    world.person("p-1", json!({}));
    let page = world.connector.poll("changes", None, 100).await.unwrap();
    let kinds: Vec<(&str, &str)> =
        page.records.iter().map(|r| (r.id.kind.as_str(), r.id.id.as_str())).collect();
    assert_eq!(kinds, [("place", "area"), ("report", "r-1"), ("person", "p-1")]);
    let report = &page.records[1];
    let change = world.connector.changes(report).unwrap().remove(0);
    assert_eq!(change.body, Body::Document(report.body.clone()));
    assert_eq!(world.read(&report.id).await.as_ref(), Some(report));
    assert_eq!(world.read(&RecordId::person("cht", "r-1")).await, None, "a report is no person");

    world.cht.delete("r-1");
    let page = world.connector.poll("changes", Some(&page.next), 100).await.unwrap();
    let gone = page.records.iter().find(|r| r.id == report.id).unwrap();
    let change = world.connector.changes(gone).unwrap().remove(0);
    assert_eq!(change.body, Body::Document(json!({"_id": "r-1", "_deleted": true})));
}

#[tokio::test]
async fn a_first_start_begins_with_what_comes_next() {
    let world = World::new();
    world.person("before", json!({}));
    let now = world.connector.now("changes").await.unwrap();
    world.person("after", json!({}));
    let (changes, _) = world.patients(now.as_deref()).await;
    assert_eq!(changes.iter().map(|c| c.source.id.as_str()).collect::<Vec<_>>(), ["after"]);
}

#[tokio::test]
async fn feed_fetch_and_receipt_give_one_body() {
    let world = World::new().checked().await;
    let receipt = done(world.deliver(&world.plan_create("u-1", &PERSON, START)).await);
    let page = world.connector.poll("changes", None, 1000).await.unwrap();
    let polled = page.records.iter().find(|r| r.id == receipt.id).unwrap();
    assert_eq!(polled, &receipt);
    assert_eq!(world.read(&receipt.id).await.as_ref(), Some(polled));
    assert!(receipt.body.get("_rev").is_none() && receipt.version.is_some());

    world.pass(Duration::from_secs(1));
    world.cht.delete(&receipt.id.id);
    let page = world.connector.poll("changes", Some(&page.next), 1000).await.unwrap();
    let gone = page.records.iter().find(|r| r.id == receipt.id).unwrap();
    assert!(gone.deleted);
    assert_eq!(world.read(&receipt.id).await.as_ref(), Some(gone));
    assert_eq!(world.read(&RecordId::person("cht", "never")).await, None);
    assert_eq!(world.read(&RecordId::person("cht", "area")).await, None, "a place is no person");
}

/// Each fault, what one delivery under it answers, and whether the first write arrived.
#[tokio::test]
async fn places_are_found_by_their_external_id_too() {
    let place =
        json!({"rules": [{"field": "location", "external_id_prefix": "openmrs:"}], "types": ["clinic"]});
    let world = World::with(json!({"place": place})).checked().await;
    let command = world.plan_create("u-1", &[("name", "A"), ("location", "area-1")], START);
    assert_eq!(command.body["doc"]["parent"]["_id"], "area");
    let change = arrival("u-2", &[("name", "A"), ("location", "Marked Place")]);
    let known = Known { now: START, links: &BTreeMap::new(), current: None, destination: "", key: "k" };
    let reject = world.connector.command(&change, &known).unwrap_err();
    assert!(reject.reason.contains("location") && !reject.reason.contains("Marked"), "{reject}");
}

#[tokio::test]
async fn people_who_may_be_the_same_are_found_as_far_as_the_site_allows() {
    let fields = json!({"identifier.cht": "patient_id", "identifier.national": "ids.national"});
    let found = async |change: Value, person: &[(&str, &str)]| {
        let world = World::with(change);
        world.person("by-code", json!({"name": "Coded", "patient_id": "01234"}));
        world.person("by-phone", json!({"name": "Phoned", "phone": "+254700000001"}));
        world.person(
            "by-name",
            json!({"name": "Zuri Test", "date_of_birth": "1994-03-02", "ids": {"national": "N-1"}}),
        );
        world.person("other-year", json!({"name": "ZURI TEST", "date_of_birth": "1990-03-02"}));
        world.cht.edit("area", json!({"phone": "+254700000001"}));
        let found = world.connector.candidates(&Patient::with(person.iter().copied())).await.unwrap();
        found.into_iter().map(|r| r.id.id).collect::<Vec<_>>()
    };
    let on = || json!({"fields": fields, "search": {"scan": true}});
    assert_eq!(found(on(), &[("identifier.cht", "01234")]).await, ["by-code"]);
    assert_eq!(found(on(), &[("phone", "+254700000001")]).await, ["by-phone"], "a place is no person");
    assert_eq!(found(on(), &[("name", "zuri test"), ("birth_date", "1994")]).await, ["by-name"]);
    assert_eq!(found(on(), &[("identifier.national", "N-1")]).await, ["by-name"]);
    assert_eq!(
        found(on(), &[("phone", "no number"), ("identifier.unknown", "1")]).await,
        Vec::<String>::new()
    );
    let off = json!({"fields": fields, "search": {"phone": false}});
    let all = [
        ("phone", "+254700000001"),
        ("name", "zuri test"),
        ("birth_date", "1994"),
        ("identifier.national", "N-1"),
    ];
    assert_eq!(found(off, &all).await, Vec::<String>::new());
}

#[tokio::test]
async fn identifiers_are_exclusive_names_folded() {
    let world = World::new();
    let names = |value: &str| {
        let change = arrival("u-1", &[("name", "A"), ("identifier.national", value)]);
        world.connector.destinations(&change).unwrap().remove(0).exclusive
    };
    assert_eq!(names("n-1 x"), ["identifier.national n-1 x"]);
    assert_eq!(names(" N-1  X"), names("n-1 x"));
    let document = Change::state(RecordId::new("openmrs", "x", "1"), Body::Document(json!({})));
    assert!(world.connector.destinations(&document).unwrap().is_empty());
}

#[tokio::test]
async fn a_poll_that_fails_says_what_to_do() {
    let world = World::new();
    for (action, halts) in
        [(Action::status(403, false), true), (Action::status(500, false), false), (Action::Reset, false)]
    {
        world.faults.set(Plan::default().with(Rule::on("POST", "*/_changes", action)));
        let fault = world.connector.poll("changes", None, 10).await.unwrap_err();
        assert_eq!(matches!(fault, Fault::Halt(_)), halts, "{fault}");
    }
    world.faults.clear();
    let lost = world.connector.poll("changes", Some("nonsense"), 10).await.unwrap_err();
    assert!(matches!(&lost, Fault::Halt(text) if text.contains("restored")), "{lost}");
    assert_eq!(world.connector.poll("other", None, 10).await.unwrap_err(), Fault::Unsupported);
}

#[tokio::test]
async fn deleted_people_are_gone_and_named() {
    let world = World::new();
    let id = world.person("p-1", json!({}));
    let (_, after) = world.patients(None).await;
    world.cht.delete("p-1");
    let (changes, _) = world.patients(Some(&after)).await;
    assert_eq!(changes.len(), 1);
    assert_eq!((&changes[0].source, &patient(&changes[0]).gone), (&id, &Some(Gone::Deleted)));
}

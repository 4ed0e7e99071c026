//! The CHT connector against the CHT stand-in: both directions, every fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_core::change::{Body, Change, Gone, Patient, Record, RecordId};
use connector_core::cht::ChtConfig;
use connector_core::clock::{Clock, ManualClock};
use connector_core::config::ConfigReport;
use connector_core::connector::{
    Command, Confirmed, Connector, ConnectorConfig, Fault, Finding, Known, Outcome, Receipt, Task,
};
use connector_core::transport::before;
use serde_json::{Value, json};
use test_support::cht::{Cht, Options, Sentinel};
use test_support::clock::Clock as StandinClock;
use test_support::fault::{Action, Faults, InProcess, Plan, Rule};

use crate::inprocess::wiring;

const START: i64 = 1_767_225_600_000;
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

fn build(
    config: Value,
    standin: InProcess,
    core: Arc<dyn Clock>,
) -> Result<Arc<dyn Connector>, Vec<(String, String)>> {
    let config: ChtConfig = serde_json::from_value(config).unwrap();
    let mut report = ConfigReport::new("cht");
    let connector = config.build("cht", &wiring(core, [("cht", standin)]), &mut report);
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
        let connector = build(config(change), standin, core).unwrap();
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

const PERSON: [(&str, &str); 4] =
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
        "writes": {"batch": 0}, "http": {"concurrency": 0}, "feed": {"longpoll": "1m"},
    }));
    let core = Arc::new(ManualClock::new(START));
    let problems = build(wrong, standin, core).err().unwrap();
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

#[tokio::test]
async fn a_person_made_here_names_its_counterpart() {
    let world = World::new().checked().await;
    let record = done(world.deliver(&world.plan_create("u-1", &PERSON, START)).await);
    let change = world.connector.changes(&record).unwrap().remove(0);
    assert_eq!(change.same_as, Some(RecordId::person("openmrs", "u-1")));
    for (name, value) in PERSON {
        assert_eq!(patient(&change).get(name), Some(value), "{name}");
    }
    let stored = world.cht.doc(&record.id.id).unwrap();
    assert_eq!(
        stored["parent"],
        json!({"_id": "area", "parent": {"_id": "centre", "parent": {"_id": "district"}}})
    );
}

#[tokio::test]
async fn a_create_sent_twice_is_one_contact() {
    let world = World::new().checked().await;
    let command = world.plan_create("u-1", &PERSON, START);
    let first = done(world.deliver(&command).await);
    world.pass(Duration::from_secs(1));
    world.cht.edit(&first.id.id, json!({"name": "Edited Since"}));
    let second = done(world.deliver(&command).await);
    assert_eq!(first.id, second.id);
    assert_eq!(second.body["name"], "Edited Since", "an edit after the create is kept");
    assert_eq!(world.cht.counts().same_external_id, 0);
}

#[tokio::test]
async fn a_create_of_a_newer_plan_does_not_pass_for_done() {
    let world = World::new().checked().await;
    done(world.deliver(&world.plan_create("u-1", &PERSON, START)).await);
    let newer = world.plan_create("u-1", &[("name", "Newer Name")], START + 1);
    assert_eq!(world.deliver(&newer).await, Outcome::Conflict);
    let same = world.plan_create("u-1", &PERSON, START + 1);
    done(world.deliver(&same).await);
}

#[tokio::test]
async fn an_update_changes_what_moved_and_nothing_else() {
    let world = World::new().checked().await;
    let id = world.person("p-1", json!({"custom": {"a": [1, {"b": null}]}, "role": "patient", "notes": ""}));
    let before = world.cht.doc("p-1").unwrap();
    let current = world.read(&id).await.unwrap();
    let command = world.plan_update(&current, &[("name", "New Name"), ("sex", "female")]).unwrap();
    let record = done(world.deliver(&command).await);
    let mut expected = before;
    expected["name"] = json!("New Name");
    expected["sex"] = json!("female");
    let mut stored = world.cht.doc("p-1").unwrap();
    assert_eq!(record.version.as_deref(), stored["_rev"].as_str());
    expected["_rev"] = stored["_rev"].take();
    stored["_rev"] = expected["_rev"].clone();
    assert_eq!(stored, expected);
    let again = world.read(&id).await.unwrap();
    assert!(world.plan_update(&again, &[("name", "New Name"), ("sex", "female")]).is_none());
}

#[tokio::test]
async fn an_update_planned_on_an_old_state_is_planned_again_unless_it_is_there() {
    let world = World::new().checked().await;
    let id = world.person("p-1", json!({}));
    let current = world.read(&id).await.unwrap();
    let command = world.plan_update(&current, &[("name", "New Name")]).unwrap();
    world.cht.edit("p-1", json!({"phone": "+254700000002"}));
    assert_eq!(world.deliver(&command).await, Outcome::Conflict);
    let stored = world.cht.doc("p-1").unwrap();
    assert_eq!((&stored["name"], &stored["phone"]), (&json!("Asha Test"), &json!("+254700000002")));

    world.cht.edit("p-1", json!({"name": "New Name"}));
    let record = done(world.deliver(&command).await);
    assert_eq!(record.body["phone"], "+254700000002");
}

#[tokio::test]
async fn a_full_batch_is_one_write_and_one_read() {
    let world = World::new().checked().await;
    world.faults.reset_log();
    let tasks: Vec<Task> = (0..100)
        .map(|n| task(&world.plan_create(&format!("u-{n}"), &[("name", &format!("Person {n}"))], START)))
        .collect();
    let outcomes = world.connector.deliver(&tasks).await;
    assert_eq!(outcomes.into_iter().map(done).count(), 100);
    assert_eq!(
        (world.requests("_bulk_docs"), world.requests("_all_docs"), world.requests("monitoring")),
        (1, 1, 1)
    );
    assert_eq!(world.requests(""), 3);
}

/// Each fault, what one delivery under it answers, and whether the first write arrived.
fn fault_kinds() -> Vec<(&'static str, Action, &'static str)> {
    let html = |applied| Action::Status {
        code: 200,
        headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
        body: "<html>Community Health Toolkit is starting</html>".to_owned(),
        applied,
    };
    let starting = Action::Status {
        code: 503,
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: r#"{"error":"Service unavailable"}"#.to_owned(),
        applied: false,
    };
    let login = Action::Status {
        code: 302,
        headers: [("location".to_owned(), "/medic/login?redirect=%2F".to_owned())].into(),
        body: String::new(),
        applied: false,
    };
    vec![
        ("pass", Action::Pass, "done"),
        ("delay within the limit", Action::Delay { ms: 1_000 }, "done"),
        ("answer after the limit", Action::Delay { ms: 60_000 }, "unknown"),
        ("dropped before", Action::DropBefore, "unknown"),
        ("dropped after", Action::DropAfter, "done"),
        ("applied later", Action::ApplyLater { ms: 5_000 }, "unknown"),
        ("reset", Action::Reset, "unknown"),
        ("half open", Action::HalfOpen, "unknown"),
        ("page while starting", html(false), "retry"),
        ("starting", starting, "retry"),
        ("503 of a proxy", Action::status(503, false), "retry"),
        ("503, applied", Action::status(503, true), "done"),
        ("500", Action::status(500, false), "unknown"),
        ("500, applied", Action::status(500, true), "done"),
        ("502", Action::status(502, false), "unknown"),
        ("504, applied", Action::status(504, true), "done"),
        ("429", Action::too_many(Some(7)), "retry"),
        ("401", Action::status(401, false), "halt"),
        ("login page", login, "halt"),
        ("403", Action::status(403, false), "halt"),
        ("redirect", Action::status(308, false), "halt"),
        ("no such call", not_served(), "halt"),
        ("413", Action::status(413, false), "rejected"),
        ("400", Action::status(400, false), "rejected"),
        ("success, nothing written", Action::FakeSuccess { code: 201, body: "[]".to_owned() }, "unknown"),
        ("success of another shape", Action::FakeSuccess { code: 200, body: "{}".to_owned() }, "unknown"),
    ]
}

fn not_served() -> Action {
    Action::Status {
        code: 404,
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: r#"{"error":"not_found","reason":"Database does not exist."}"#.to_owned(),
        applied: false,
    }
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Step(..) => "step",
        Outcome::Retry { .. } => "retry",
        Outcome::Unknown => "unknown",
        Outcome::Conflict => "conflict",
        Outcome::Rejected(_) => "rejected",
        Outcome::Halt(_) => "halt",
    }
}

#[tokio::test]
async fn every_fault_of_a_create_ends_in_one_contact() {
    for (name, action, expected) in fault_kinds() {
        let world = World::new().checked().await;
        let command = world.plan_create("u-1", &PERSON, START);
        world.faults.set(Plan::default().with(Rule::on("POST", BULK, action.clone()).burst(2)));
        let outcome = world.deliver(&command).await;
        assert_eq!(label(&outcome), expected, "{name}: {outcome:?}");
        world.faults.clear();
        world.pass(Duration::from_secs(120));
        let record = done(world.deliver(&command).await);
        assert_eq!(record.body["name"], "Zuri Test", "{name}");
        assert_eq!(world.cht.counts().by_type.get("person"), Some(&1), "{name}");
    }
}

#[tokio::test]
async fn every_fault_of_an_update_ends_in_one_revision() {
    for (name, action, expected) in fault_kinds() {
        let world = World::new().checked().await;
        let id = world.person("p-1", json!({}));
        let command = world.plan_update(&world.read(&id).await.unwrap(), &[("name", "New Name")]).unwrap();
        let before = world.cht.update_seq();
        world.faults.set(Plan::default().with(Rule::on("POST", BULK, action.clone()).burst(2)));
        let outcome = world.deliver(&command).await;
        assert_eq!(label(&outcome), expected, "{name}: {outcome:?}");
        world.faults.clear();
        world.pass(Duration::from_secs(120));
        let record = done(world.deliver(&command).await);
        assert_eq!(record.body["name"], "New Name", "{name}");
        assert_eq!(world.cht.update_seq(), before + 1, "{name}");
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_read_back_is_done_by_its_row() {
    let world = World::new().checked().await;
    let command = world.plan_create("u-1", &PERSON, START);
    world.faults.set(Plan::default().with(Rule::on("POST", "*/_all_docs", Action::Reset)));
    let record = done(world.deliver(&command).await);
    world.faults.clear();
    assert_eq!(Some(record), world.read(&RecordId::person("cht", doc_id(&command))).await);
}

fn doc_id(command: &Command) -> String {
    command.body["doc"]["_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_is_sent_where_nothing_can_connect_or_time_is_up() {
    let world = World::new().checked().await;
    let command = world.plan_create("u-1", &PERSON, START);
    world.faults.reset_log();
    let late = before(START, world.deliver(&command)).await;
    assert_eq!((label(&late), world.requests("")), ("retry", 0));
    world.faults.set(Plan {
        outages: vec![test_support::fault::Outage { from_ms: 0, to_ms: 1_000 }],
        ..Plan::default()
    });
    assert_eq!(label(&world.deliver(&command).await), "retry");
    assert_eq!(world.cht.doc(&doc_id(&command)), None);
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_halved_and_one_alone_rejected() {
    for status in [400, 413] {
        let world = World::new().checked().await;
        let commands: Vec<Command> =
            (0..3).map(|n| world.plan_create(&format!("u-{n}"), &PERSON, START)).collect();
        let tasks: Vec<Task> = commands.iter().map(task).collect();
        world.faults.set(Plan::default().with(Rule::on("POST", BULK, Action::status(status, false))));
        for outcome in world.connector.deliver(&tasks).await {
            assert!(matches!(outcome, Outcome::Retry { split: true, .. }), "{outcome:?}");
        }
        assert_eq!(label(&world.deliver(&commands[0]).await), "rejected");
    }
}

#[tokio::test]
async fn a_stored_command_that_does_not_parse_spoils_nobody_else() {
    let world = World::new().checked().await;
    let mut broken = world.plan_create("u-0", &PERSON, START);
    broken.body = json!({"doc": "Marked Name"});
    let good = world.plan_create("u-1", &PERSON, START);
    let outcomes = world.connector.deliver(&[task(&broken), task(&good), task(&broken)]).await;
    assert_eq!(outcomes.iter().map(label).collect::<Vec<_>>(), ["rejected", "done", "rejected"]);
    assert!(!format!("{outcomes:?}").contains("Marked"));
    assert_eq!(label(&world.deliver(&broken).await), "rejected");
}

#[tokio::test(start_paused = true)]
async fn a_slow_cht_gets_smaller_requests() {
    let writes = json!({"writes": {"slow": "50ms", "batch": 8}});
    let world = World::on(writes, StandinClock::real()).checked().await;
    world.faults.set(Plan::default().with(Rule::on("POST", BULK, Action::Delay { ms: 100 })));
    let tasks: Vec<Task> =
        (0..8).map(|n| task(&world.plan_create(&format!("u-{n}"), &[("name", "A")], START))).collect();
    let mut sizes = vec![];
    for _ in 0..2 {
        let before = world.requests("_bulk_docs");
        world.connector.deliver(&tasks).await.into_iter().map(done).for_each(drop);
        sizes.push(world.requests("_bulk_docs") - before);
    }
    assert_eq!(sizes, [1, 4], "8 at once, then 4, 2, 1 and 1");
}

#[tokio::test]
async fn confirm_tells_applied_absent_and_unclear() {
    let world = World::new().checked().await;
    let create = world.plan_create("u-1", &PERSON, START);
    let confirm = async |command: &Command| world.connector.confirm(&task(command)).await.unwrap();
    assert_eq!(confirm(&create).await, Confirmed::Absent);

    let late = Action::ApplyLater { ms: 5_000 };
    world.faults.set(Plan::default().with(Rule::on("POST", BULK, late.clone()).nth(1)));
    assert_eq!(world.deliver(&create).await, Outcome::Unknown);
    assert_eq!(confirm(&create).await, Confirmed::Absent);
    world.pass(Duration::from_secs(6));
    assert!(matches!(confirm(&create).await, Confirmed::Applied(Receipt { record: Some(_), .. })));

    let id = RecordId::person("cht", doc_id(&create));
    let update = world.plan_update(&world.read(&id).await.unwrap(), &[("name", "New Name")]).unwrap();
    assert_eq!(confirm(&update).await, Confirmed::Absent);
    world.faults.set(
        Plan::default()
            .with(Rule::on("POST", BULK, Action::DropAfter).nth(1))
            .with(Rule::on("POST", "*/_all_docs", Action::Reset).nth(1)),
    );
    assert_eq!(world.deliver(&update).await, Outcome::Unknown);
    assert!(matches!(confirm(&update).await, Confirmed::Applied(_)));
    world.cht.edit(&id.id, json!({"name": "A Later Edit"}));
    assert_eq!(confirm(&update).await, Confirmed::Unclear);
    world.cht.delete(&id.id);
    assert_eq!(confirm(&create).await, Confirmed::Unclear, "made, or never made: a tombstone does not tell");
}

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
async fn nothing_that_is_said_holds_a_person() {
    let marks = ["Marked Name", "+254799999999", "MARK-1", "marked-doc"];
    let world = World::with(json!({"fields": {"identifier.national": "national"}, "search": {"scan": true}}))
        .checked()
        .await;
    let id = world.person(marks[3], json!({"name": marks[0], "phone": marks[1], "national": marks[2]}));
    let fields = [("name", marks[0]), ("phone", marks[1]), ("identifier.national", marks[2])];
    let command = world.plan_create("u-1", &fields, START);
    let mut said = String::new();
    for (_, action, _) in fault_kinds() {
        world.faults.set(Plan::always(action));
        said += &format!("{:?}", world.deliver(&command).await);
        said += &format!("{:?}", world.connector.confirm(&task(&command)).await);
        said += &format!("{:?}", world.connector.check().await);
        said += &format!("{:?}", world.connector.poll("changes", None, 10).await);
        said += &format!("{:?}", world.connector.fetch(std::slice::from_ref(&id)).await);
        said += &format!("{:?}", world.connector.candidates(&Patient::with(fields)).await);
    }
    said += &format!("{command:?} {:?} {:?}", task(&command), world.connector.capabilities());
    for mark in marks {
        assert!(!said.contains(mark), "{mark} in {said}");
    }
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

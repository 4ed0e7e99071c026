//! Writing into the CHT: once, under every fault, and settled by what is stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body as AnswerBody, HttpTransport, Transport, TransportError};
use connector_core::change::{Patient, RecordId};
use connector_core::clock::ManualClock;
use connector_core::connector::{Command, Confirmed, Outcome, Receipt, Task};
use connector_core::transport::{Wiring, before};
use serde_json::{Value, json};
use test_support::cht::Cht;
use test_support::clock::Clock;
use test_support::fault::{Action, InProcess, Outage, Plan, Rule};
use test_support::serve::Server;

use crate::cht::{BULK, PERSON, START, World, build, config, done, patient, task};
use crate::inprocess::InProcessTransport;

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
    for again in [world.deliver(&command).await, world.deliver_again(&command).await] {
        let again = done(again);
        assert_eq!(first.id, again.id);
        assert_eq!(again.body["name"], "Edited Since", "an edit after the create is kept");
    }
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
async fn a_repeat_looks_before_it_writes() {
    let world = World::new().checked().await;
    let old = world.plan_create("u-1", &PERSON, START);
    done(world.deliver(&old).await);
    let new = world.plan_create("u-2", &[("name", "B")], START);
    world.faults.reset_log();
    let tasks = [Task { attempt: 2, ..task(&old) }, task(&new)];
    assert_eq!(world.connector.deliver(&tasks).await.into_iter().map(done).count(), 2);
    world.faults.set(Plan::default().with(Rule::on("POST", "*/_all_docs", Action::Reset)));
    assert_eq!(world.deliver_again(&old).await, Outcome::Unknown);
    assert_eq!(world.requests("_bulk_docs"), 1, "for the new one only");
}

/// A clerk who edits each contact in the moment after it was written.
#[derive(Clone)]
struct BusyClerk(InProcessTransport, Arc<Cht>);

impl fmt::Debug for BusyClerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusyClerk")
    }
}

#[async_trait]
impl Transport for BusyClerk {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<AnswerBody>, TransportError> {
        let writes = request.uri().path().ends_with("/_bulk_docs");
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let answer = self.0.send(request).await;
        for doc in body["docs"].as_array().into_iter().flatten().filter(|_| writes) {
            self.1.edit(doc["_id"].as_str().unwrap(), json!({"phone": "+254711111111"}));
        }
        answer
    }
}

#[tokio::test]
async fn over_a_socket_a_broken_write_is_settled_too() {
    for (action, expected) in [
        (Action::Pass, "done"),
        (Action::DropBefore, "unknown"),
        (Action::DropAfter, "done"),
        (Action::Reset, "unknown"),
        (Action::HalfOpen, "unknown"),
    ] {
        let world = World::on(json!({}), Clock::real());
        let server =
            Server::start(world.cht.router(), world.faults.clone(), world.clock.clone(), 0).await.unwrap();
        let transport = HttpTransport::builder().timeout(Duration::from_millis(500)).build().unwrap();
        let wiring = Wiring::new(
            Arc::new(ManualClock::new(START)),
            Arc::new(move |_, _| Ok(Arc::new(transport.clone()) as Arc<dyn Transport>)),
        );
        let connector = build(config(json!({"url": server.url})), &wiring).unwrap();
        let world = World { connector, ..world }.checked().await;
        world.faults.set(Plan::default().with(Rule::on("POST", BULK, action.clone())));
        let command = world.plan_create("u-1", &PERSON, START);
        assert_eq!(label(&world.deliver(&command).await), expected, "{action:?}");
        world.faults.clear();
        done(world.deliver_again(&command).await);
        assert_eq!(world.cht.counts().by_type.get("person"), Some(&1), "{action:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn an_edit_between_write_and_read_back_is_in_the_receipt() {
    let world = World::new();
    let standin = InProcess::new(world.cht.router(), world.faults.clone(), world.clock.clone());
    let clerk = BusyClerk(InProcessTransport(standin), world.cht.clone());
    let wiring = Wiring::new(
        Arc::new(ManualClock::new(START)),
        Arc::new(move |_, _| Ok(Arc::new(clerk.clone()) as Arc<dyn Transport>)),
    );
    let world = World { connector: build(config(json!({})), &wiring).unwrap(), ..world }.checked().await;
    let record = done(world.deliver(&world.plan_create("u-1", &PERSON, START)).await);
    assert_eq!((&record.body["phone"], &record.body["name"]), (&json!("+254711111111"), &json!("Zuri Test")));
    let update = world.plan_update(&record, &[("name", "New Name")]).unwrap();
    let record = done(world.deliver(&update).await);
    assert_eq!(Some(record), world.read(&RecordId::person("cht", doc_id(&update))).await);
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
        let record = done(world.deliver_again(&command).await);
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
        let record = done(world.deliver_again(&command).await);
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
    world.faults.set(Plan { outages: vec![Outage { from_ms: 0, to_ms: 1_000 }], ..Plan::default() });
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
    let world = World::on(writes, Clock::real()).checked().await;
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

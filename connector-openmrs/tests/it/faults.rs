//! Every mishap of a write, for every kind of write: the outcome is never wrong, the end is right, and nothing is doubled.

use connector_core::change::Change;
use connector_core::connector::{Confirmed, Outcome};
use test_support::fault::{Action, Plan, Rule};
use test_support::openmrs::ClerkEdit;

use crate::world::*;

/// What may become of a write, and whether it took effect when the answer was to come.
fn mishaps() -> Vec<(&'static str, Action)> {
    vec![
        ("lost before", Action::DropBefore),
        ("reset", Action::Reset),
        ("never answered", Action::HalfOpen),
        ("lost after applying", Action::DropAfter),
        ("500 after applying", Action::status(500, true)),
        ("500 without applying", Action::status(500, false)),
        ("503", Action::status(503, false)),
        ("429", Action::too_many(Some(7))),
        ("200 without a write", Action::FakeSuccess { code: 200, body: "{}".into() }),
        ("201 without a write", Action::FakeSuccess { code: 201, body: r#"{"uuid":"x"}"#.into() }),
        ("applied late, within the quiet time", Action::ApplyLater { ms: 40_000 }),
        ("answered late", Action::Delay { ms: 5 }),
    ]
}

fn edits() -> Vec<(&'static str, &'static str)> {
    vec![
        ("name", "Amina Cheruiyot"),
        ("sex", "other"),
        ("birth_date", "1994-05-01"),
        ("phone", "+254700100099"),
        ("attribute.mother", "Achieng"),
        ("address.village", "Katito"),
        ("identifier.national", "30445577"),
        ("deceased", "2026-11-20"),
    ]
}

fn hit(action: Action) -> Plan {
    let writes = |method: &str| Rule::on(method, "/openmrs/ws/rest/v1/p*", action.clone()).nth(1);
    Plan::default().with(writes("POST"))
}

#[tokio::test]
async fn a_create_survives_every_mishap() {
    for (name, action) in mishaps() {
        let world = World::new();
        world.faults(hit(action));
        let receipt = world.settle(&amina(), None).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        let uuid = receipt.id.unwrap().id;
        world.wait(3600);
        assert_eq!(everybody(&world), vec![uuid.clone()], "{name}");
        assert_eq!(phone(&world.seen(&uuid)), Some("+254700100001"), "{name}");
        nothing_doubled(&world);
    }
}

#[tokio::test]
async fn an_edit_survives_every_mishap() {
    for (mishap, action) in mishaps() {
        for (field, value) in edits() {
            let world = World::new();
            let uuid = world.register(&amina()).await;
            world.faults(hit(action.clone()));
            let change = amina_with([(field, value)]);
            world.settle(&change, Some(&uuid)).await.unwrap_or_else(|e| panic!("{mishap}, {field}: {e}"));
            world.wait(3600);
            let back = fields(&world.connector, &world.current(&uuid).await.unwrap());
            assert_eq!(back.get(field).map(String::as_str), Some(value), "{mishap}");
            nothing_doubled(&world);
        }
    }
}

/// `Done` at the moment of the mishap, checked against what the server holds at that moment.
async fn first_outcome(world: &World, change: &Change, uuid: Option<&str>, action: Action) -> Outcome {
    let current = match uuid {
        Some(uuid) => world.current(uuid).await,
        None => None,
    };
    let mut task = world.task(change, current.as_ref()).unwrap();
    if uuid.is_none() {
        let Outcome::Step(name, note) = world.once(&task).await else { panic!("no number") };
        task.notes.insert(name, note);
    }
    world.faults(hit(action));
    world.once(&task).await
}

#[tokio::test]
async fn done_is_said_only_with_proof() {
    for (name, action) in mishaps() {
        let world = World::new();
        let created = first_outcome(&world, &amina(), None, action.clone()).await;
        assert_eq!(matches!(created, Outcome::Done(_)), everybody(&world).len() == 1, "create, {name}");
        if everybody(&world).is_empty() {
            let open = matches!(created, Outcome::Unknown) || matches!(created, Outcome::Retry { .. });
            assert!(open, "create, {name}");
        }
        let world = World::new();
        let uuid = world.register(&amina()).await;
        let edited =
            first_outcome(&world, &amina_with([("phone", "+254799")]), Some(&uuid), action.clone()).await;
        let applied = phone(&world.seen(&uuid)) == Some("+254799");
        assert_eq!(matches!(edited, Outcome::Done(_)), applied, "edit, {name}");
    }
}

#[tokio::test]
async fn a_write_without_an_answer_that_is_not_to_be_seen_is_unknown() {
    for action in [Action::DropBefore, Action::Reset, Action::HalfOpen, Action::ApplyLater { ms: 60_000 }] {
        let world = World::new();
        assert_eq!(first_outcome(&world, &amina(), None, action.clone()).await, Outcome::Unknown);
        let world = World::new();
        let uuid = world.register(&amina()).await;
        let change = amina_with([("name", "Amina Cheruiyot")]);
        assert_eq!(first_outcome(&world, &change, Some(&uuid), action).await, Outcome::Unknown);
    }
}

#[tokio::test]
async fn a_create_that_is_applied_after_the_quiet_time_makes_no_second_patient() {
    let world = World::new();
    world.faults(hit(Action::ApplyLater { ms: 500_000 }));
    let uuid = world.register(&amina()).await;
    world.wait(3600);
    assert_eq!(everybody(&world), [uuid]);
    nothing_doubled(&world);
}

#[tokio::test]
async fn success_without_a_write_and_a_504_that_is_done_later_are_not_believed() {
    let world = World::new();
    world.switch(|s| s.success_without_write = 1);
    let uuid = world.register(&amina()).await;
    world.switch(|s| s.success_without_write = 1);
    world.settle(&amina_with([("phone", "+2541")]), Some(&uuid)).await.unwrap();
    world.switch(|s| (s.late_writes, s.late_write_ms) = (1, 90_000));
    world.settle(&amina_with([("name", "Amina Juma")]), Some(&uuid)).await.unwrap();
    world.switch(|s| s.error_with_write = 1);
    world.settle(&amina_with([("address.village", "Boya")]), Some(&uuid)).await.unwrap();
    world.wait(3600);
    let seen = world.seen(&uuid);
    assert_eq!((phone(&seen), seen.family_name.as_deref()), (Some("+2541"), Some("Juma")));
    assert_eq!(seen.address["cityVillage"], "Boya");
    nothing_doubled(&world);
}

#[tokio::test]
async fn the_number_is_asked_again_only_when_it_did_not_arrive() {
    let world = World::new();
    let idgen = Rule::on("POST", "*/idgen/*", Action::DropAfter).nth(1);
    world.faults(Plan::default().with(idgen));
    let task = world.task(&amina(), None).unwrap();
    assert_eq!(world.once(&task).await, Outcome::Unknown);
    assert_eq!(world.connector.confirm(&task).await.unwrap(), Confirmed::Absent);
    assert!(matches!(world.once(&task).await, Outcome::Step(..)));
    world.register(&amina()).await;
    nothing_doubled(&world);
}

#[tokio::test]
async fn a_number_that_somebody_else_took_is_replaced() {
    let world = World::new();
    let mut task = world.task(&amina(), None).unwrap();
    let Outcome::Step(name, number) = world.once(&task).await else { panic!("no number") };
    let other = world.register(&contact("other", [("name", "Rose Debe"), ("sex", "female")])).await;
    let ids =
        std::collections::BTreeMap::from([("OpenMRS ID".to_owned(), number.as_str().unwrap().to_owned())]);
    world.server.edit(&other, &ClerkEdit { identifiers: ids, ..ClerkEdit::default() }).unwrap();
    task.notes.insert(name.clone(), number);
    assert_eq!(world.once(&task).await, Outcome::Step(name, serde_json::Value::Null));
    world.register(&amina()).await;
    nothing_doubled(&world);
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_again_and_nothing_was_written() {
    let world = World::new();
    let task = world.task(&amina(), None).unwrap();
    let outage = test_support::fault::Outage { from_ms: 0, to_ms: 60_000 };
    world.faults(Plan { outages: vec![outage], ..Plan::default() });
    assert!(matches!(world.once(&task).await, Outcome::Retry { .. }));
    world.wait(61);
    world.register(&amina()).await;
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let outcome =
        first_outcome(&world, &amina_with([("phone", "+254799")]), Some(&uuid), Action::too_many(Some(7)))
            .await;
    let Outcome::Retry { after, .. } = outcome else { panic!("no retry") };
    assert_eq!(after, Some(std::time::Duration::from_secs(7)));
}

#[tokio::test]
async fn a_login_without_an_answer_sent_no_write() {
    let world = World::new();
    let task = world.task(&amina(), None).unwrap();
    for action in [Action::DropAfter, Action::HalfOpen, Action::status(503, false)] {
        world.faults(Plan::default().with(Rule::on("GET", "*/session", action)));
        assert!(matches!(world.once(&task).await, Outcome::Retry { .. }));
    }
}

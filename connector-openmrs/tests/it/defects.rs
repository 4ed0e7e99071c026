//! The OpenMRS mediator before this connector: each of its defects and known gaps, named, and not here.

use std::collections::BTreeMap;

use connector_core::change::{Body, Gone, Patient, RecordId};
use connector_core::connector::{Fault, Known, Outcome};
use test_support::fault::{Action, Outage, Plan, Rule};
use test_support::openmrs::ClerkEdit;

use crate::world::*;

// Defects seen (endpoints)

#[tokio::test]
async fn a_body_with_missing_parts_ends_no_process() {
    let world = World::new();
    for body in [
        serde_json::json!(null),
        serde_json::json!([]),
        serde_json::json!({"name": 7}),
        serde_json::json!({}),
    ] {
        let mut record = world.current(&world.register(&amina()).await).await.unwrap();
        record.body = body;
        let _ = world.connector.changes(&record);
    }
    let mut task = world.task(&amina(), None).unwrap();
    task.command.body = serde_json::json!({"do": "create"});
    assert!(matches!(world.once(&task).await, Outcome::Rejected(_)));
}

#[tokio::test]
async fn a_person_without_phone_or_birth_date_is_taken() {
    let world = World::new();
    let uuid = world.register(&contact("x", [("name", "Rose Debe")])).await;
    assert_eq!((phone(&world.seen(&uuid)), world.seen(&uuid).gender.as_deref()), (None, Some("U")));
}

#[tokio::test]
async fn an_edit_of_a_patient_that_exists_is_carried() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.settle(&amina_with([("phone", "+254755")]), Some(&uuid)).await.unwrap();
    assert_eq!(phone(&world.seen(&uuid)), Some("+254755"));
}

#[tokio::test]
async fn an_unreachable_server_is_no_success() {
    let world = World::new();
    let task = world.task(&amina(), None).unwrap();
    world.faults(Plan { outages: vec![Outage { from_ms: 0, to_ms: i64::MAX }], ..Plan::default() });
    assert!(matches!(world.once(&task).await, Outcome::Retry { .. }));
    world.faults(Plan::always(Action::status(500, false)));
    assert!(!matches!(world.once(&task).await, Outcome::Done(_)));
}

#[tokio::test]
async fn a_blank_or_missing_key_finds_nobody_instead_of_the_first_person() {
    let world = World::new();
    world.server.generate(20, 1);
    for person in
        [Patient::default(), Patient::with([("identifier.national", "")]), Patient::with([("name", "")])]
    {
        assert!(world.connector.candidates(&person).await.unwrap().is_empty());
    }
}

// Known gaps (synchronisation)

#[tokio::test]
async fn an_outage_longer_than_any_window_loses_nothing() {
    let world = World::new();
    let (_, cursor) = world.drain("changed", world.connector.now("changed").await.unwrap()).await;
    world.wait(10);
    for n in 0..10 {
        world
            .register(&contact(&format!("c{n}"), [("name", "Rose Debe"), ("birth_date", "1990-01-01")]))
            .await;
    }
    world.faults(Plan { outages: vec![Outage { from_ms: 0, to_ms: 7 * 86_400_000 }], ..Plan::default() });
    assert!(world.connector.poll("changed", cursor.as_deref(), 100).await.is_err());
    world.wait(8 * 86_400);
    let (page, _) = world.drain("changed", cursor).await;
    assert_eq!(uuids(&page), everybody(&world));
}

#[tokio::test]
async fn an_edit_long_after_the_copy_makes_no_second_patient() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    for n in 0..20 {
        world.wait(7200);
        world
            .settle(&amina_with([("phone", format!("+25470000{n:04}").as_str())]), Some(&uuid))
            .await
            .unwrap();
    }
    // Nor does a create that has forgotten its link.
    world.settle(&amina(), None).await.unwrap();
    assert_eq!(everybody(&world).len(), 1);
    assert_eq!(phone(&world.seen(&uuid)), Some("+254700000019"), "and nothing of it is overwritten");
}

#[tokio::test]
async fn every_patient_that_comes_in_is_told_whatever_is_there_already() {
    let world = World::new();
    world.server.generate(5, 1);
    let (page, _) = world.drain("pass", None).await;
    let changes: Vec<_> = page.records.iter().flat_map(|r| world.connector.changes(r).unwrap()).collect();
    assert_eq!(changes.len(), 5);
    assert!(changes.iter().all(|c| matches!(&c.body, Body::Patient(p) if p.get("name").is_some())));
}

#[tokio::test]
async fn a_write_in_parts_that_stops_half_way_goes_on_where_it_stopped() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let change = amina_with([("name", "Amina Juma"), ("phone", "+254766"), ("address.village", "Boya")]);
    let current = world.current(&uuid).await.unwrap();
    let mut task = world.task(&change, Some(&current)).unwrap();
    let Outcome::Step(name, note) = world.once(&task).await else { panic!("no step") };
    task.notes.insert(name, note);
    world.faults(Plan { outages: vec![Outage { from_ms: 0, to_ms: 1_000 }], ..Plan::default() });
    assert!(matches!(world.once(&task).await, Outcome::Retry { .. }));
    world.wait(2);
    world.settle(&change, Some(&uuid)).await.unwrap();
    let seen = world.seen(&uuid);
    assert_eq!((seen.family_name.as_deref(), phone(&seen)), (Some("Juma"), Some("+254766")));
    nothing_doubled(&world);
}

#[tokio::test]
async fn one_slow_answer_fails_one_page_and_not_the_round() {
    let world = World::new();
    world.server.generate(300, 1);
    let first = world.connector.poll("pass", None, 100).await.unwrap();
    world.faults(Plan::default().with(Rule::on("GET", "*/fhir2/*", Action::Delay { ms: 120_000 }).nth(1)));
    assert!(matches!(world.connector.poll("pass", Some(&first.next), 100).await, Err(Fault::Retry { .. })));
    let second = world.connector.poll("pass", Some(&first.next), 100).await.unwrap();
    assert!(!second.records.is_empty() && second.more);
}

#[tokio::test]
async fn writes_at_a_time_are_bounded() {
    let capabilities = World::with(config_with("rate", 10)).connector.capabilities();
    assert_eq!((capabilities.concurrency, capabilities.rate, capabilities.batch), (4, Some(10), 1));
}

#[tokio::test]
async fn deletes_voids_and_merges_are_told() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.server.edit(&uuid, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    let record = world.current(&uuid).await.unwrap();
    let change = world.connector.changes(&record).unwrap().remove(0);
    assert!(matches!(change.body, Body::Patient(Patient { gone: Some(Gone::Deleted), .. })));
}

#[tokio::test]
async fn matching_goes_beyond_identifiers() {
    let world = World::new();
    world.register(&amina()).await;
    let like = Patient::with([("name", "Amina Otieno"), ("sex", "female"), ("birth_date", "1994-03-12")]);
    assert_eq!(world.connector.candidates(&like).await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_uuid_of_a_site_is_fixed() {
    let types = serde_json::json!({"paper": {"type": "8d79403a-c2cc-11de-8d13-0010c6dffd0f", "located": true}, "openmrs": {"type": test_support::openmrs::OPENMRS_ID, "source": test_support::openmrs::SOURCE}});
    let world = World::with(config_with("identifiers", types));
    let uuid = world.register(&contact("x", [("name", "Rose Debe"), ("identifier.paper", "A-77")])).await;
    assert!(
        world
            .seen(&uuid)
            .identifiers
            .iter()
            .any(|i| i.kind == "Old Identification Number" && i.value == "A-77")
    );
}

#[tokio::test]
async fn no_debug_form_holds_a_person() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let record = world.current(&uuid).await.unwrap();
    let task = world.task(&amina_with([("phone", "+254700100002")]), Some(&record)).unwrap();
    let links = BTreeMap::from([(RecordId::person("cht", "x"), record.id.clone())]);
    let known = Known { now: START, links: &links, current: Some(&record), destination: "", key: "k" };
    let said = format!("{record:?} {task:?} {known:?} {:?} {:?}", amina(), world.once(&task).await);
    for secret in ["Amina", "Otieno", "2547", "30445566", uuid.as_str()] {
        assert!(!said.contains(secret), "{said}");
    }
}

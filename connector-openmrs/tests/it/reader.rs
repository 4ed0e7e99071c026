//! OpenMRS -> CHT: the pass, the stamps, the hints; and that every way of reading a patient gives one body.

use connector_core::change::{Body, Gone, RecordId};
use connector_core::connector::Fault;
use serde_json::json;
use test_support::fault::{Action, Plan, Rule};
use test_support::openmrs::{ClerkEdit, Stamps};

use crate::world::*;

#[tokio::test]
async fn a_pass_reads_everybody_once_and_ends() {
    let world = World::new();
    world.server.generate(1234, 3);
    world.connector.fetch(&[]).await.unwrap();
    world.forget_sent();
    let (page, _) = world.drain("pass", None).await;
    assert_eq!(uuids(&page), everybody(&world));
    let pages = world.sent().iter().filter(|s| s.target.contains("fhir2")).count();
    assert!(pages <= 14, "{pages} pages for 1234 patients");
}

#[tokio::test]
async fn all_ways_of_reading_give_one_body() {
    let world = World::new();
    world.server.generate(60, 5);
    let uuid = world.register(&amina()).await;
    world
        .settle(&amina_with([("attribute.mother", "Achieng"), ("attribute.consent", "true")]), Some(&uuid))
        .await
        .unwrap();
    world.settle(&amina_with([("deceased", "2026-11-20")]), Some(&uuid)).await.unwrap();
    for age in [0, 2, 4, 5, 6, 7, 30] {
        let birth = format!("{}-12", 2026 - age - 1);
        world
            .register(&contact(
                &format!("c{age}"),
                [("name", "Baby Chebet Mutua"), ("birth_date", birth.as_str())],
            ))
            .await;
    }
    let (page, _) = world.drain("pass", None).await;
    let ids: Vec<_> = page.records.iter().map(|r| r.id.clone()).collect();
    let together = world.connector.fetch(&ids).await.unwrap();
    world.switch(|s| s.unreadable = ids.iter().map(|id| id.id.clone()).collect());
    let by_rest = world.connector.fetch(&ids).await.unwrap();
    for ((passed, fetched), rest) in page.records.iter().zip(together).zip(by_rest) {
        assert_eq!(passed.body, fetched.unwrap().body);
        assert_eq!(passed.body, rest.unwrap().body);
    }
}

#[tokio::test]
async fn the_changed_feed_begins_now_and_finds_new_dead_and_relabelled_patients() {
    let world = World::new();
    world.server.generate(300, 5);
    world.wait(1000);
    let now = world.connector.now("changed").await.unwrap();
    assert!(world.connector.now("pass").await.unwrap().is_none());
    let (page, cursor) = world.drain("changed", now).await;
    assert!(page.records.is_empty(), "what was there before is not new");
    world.wait(60);
    let uuid = world.register(&amina()).await;
    let other = everybody(&world).into_iter().find(|u| *u != uuid).unwrap();
    world.server.edit(&other, &ClerkEdit { gender: Some("O".into()), ..ClerkEdit::default() }).unwrap();
    let (page, cursor) = world.drain("changed", cursor).await;
    let mut expected = vec![uuid.clone(), other];
    expected.sort();
    assert_eq!(uuids(&page), expected);
    world.wait(700);
    let (page, _) = world.drain("changed", cursor.clone()).await;
    assert_eq!(uuids(&page), expected, "the overlap is read again once more");
    let (_, cursor) = world.drain("changed", cursor).await;
    let (page, _) = world.drain("changed", cursor).await;
    assert!(page.records.is_empty(), "and then no more");
}

#[tokio::test]
async fn a_row_that_is_stamped_late_is_found_by_the_overlap() {
    let world = World::new();
    let (_, cursor) = world.drain("changed", world.connector.now("changed").await.unwrap()).await;
    world.wait(200);
    let (_, cursor) = world.drain("changed", cursor).await;
    world.server.generate(400, 5);
    let (page, _) = world.drain("changed", cursor).await;
    assert_eq!(uuids(&page), everybody(&world), "stamps up to 8 s before the last look");
}

#[tokio::test]
async fn a_new_encounter_is_a_hint_to_read_its_patient() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let now = world.connector.now("encounters").await.unwrap();
    world.wait(10);
    encounter(&world, &uuid).await;
    let (page, _) = world.drain("encounters", now.clone()).await;
    assert_eq!(page.refresh, [RecordId::person("openmrs", &uuid)]);
    assert!(page.records.is_empty());
    let others = world.also(config_with("encounter_types", json!(["d7151f82-c1f3-4152-a605-2f9ea7414a79"])));
    let page = others.poll("encounters", now.as_deref(), 100).await.unwrap();
    assert!(page.refresh.is_empty(), "encounters of other types are no hint");
}

async fn encounter(world: &World, patient: &str) {
    let body = json!({
        "patient": patient, "encounterType": "e1111111-0000-4000-8000-000000000001",
        "encounterDatetime": "2026-11-24T09:00:00.000+0300", "location": "a1111111-0000-4000-8000-000000000001"
    });
    let request = http::Request::post(format!("{URL}/ws/rest/v1/encounter"))
        .header("authorization", "Basic Y2h0LmNvbm5lY3RvcjpDb25uZWN0b3IxMjM=")
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(body.to_string()))
        .unwrap();
    let answer = world.wire.server.call(request).await.unwrap();
    assert_eq!(answer.status(), 201, "{}", String::from_utf8_lossy(answer.body()));
}

#[tokio::test]
async fn a_voided_or_merged_patient_is_gone_and_an_unknown_one_is_none() {
    let world = World::new();
    let (one, two) =
        (world.register(&amina()).await, world.register(&contact("b", [("name", "Rose Debe")])).await);
    world.server.edit(&one, &ClerkEdit { merged_into: Some(two.clone()), ..ClerkEdit::default() }).unwrap();
    let (page, _) = world.drain("pass", None).await;
    assert_eq!(uuids(&page), vec![two.clone()], "a void shows by absence");
    let ids = [&one, &two, &"00000000-0000-4000-8000-000000000000".to_owned()]
        .map(|u| RecordId::person("openmrs", u.as_str()));
    let found = world.connector.fetch(&ids).await.unwrap();
    let gone = found[0].as_ref().unwrap();
    assert!(gone.deleted);
    let change = world.connector.changes(gone).unwrap().remove(0);
    let Body::Patient(patient) = change.body else { panic!("no patient") };
    assert_eq!(patient.gone, Some(Gone::Deleted));
    assert!(found[1].is_some() && found[2].is_none());
}

#[tokio::test]
async fn a_merge_winner_that_carries_two_contacts_ids_is_refused_with_a_reason() {
    let world = World::new();
    let (one, two) =
        (world.register(&amina()).await, world.register(&contact("b", [("name", "Rose Debe")])).await);
    world.server.edit(&one, &ClerkEdit { merged_into: Some(two.clone()), ..ClerkEdit::default() }).unwrap();
    let winner = world.current(&two).await.unwrap();
    assert!(world.connector.changes(&winner).unwrap_err().reason.contains("several CHT contacts"));
}

#[tokio::test]
async fn with_stamps_that_never_move_the_pass_still_finds_every_edit() {
    let world = World::new();
    world.server.generate(120, 2);
    world.switch(|s| s.stamps = Stamps::Never);
    let (before, _) = world.drain("pass", None).await;
    let uuid = before.records[60].id.id.clone();
    world
        .server
        .edit(&uuid, &ClerkEdit { family_name: Some("Changed".into()), ..ClerkEdit::default() })
        .unwrap();
    let (after, _) = world.drain("pass", None).await;
    let moved: Vec<_> =
        after.records.iter().filter(|r| !before.records.contains(r)).map(|r| r.id.id.as_str()).collect();
    assert_eq!(moved, [uuid.as_str()]);
}

#[tokio::test]
async fn a_poll_that_fails_leaves_the_cursor_and_is_repeated() {
    let world = World::new();
    world.server.generate(250, 2);
    let first = world.connector.poll("pass", None, 100).await.unwrap();
    world.faults(Plan::default().with(Rule::on("GET", "*/fhir2/*", Action::HalfOpen).nth(1)));
    assert!(matches!(world.connector.poll("pass", Some(&first.next), 100).await, Err(Fault::Retry { .. })));
    let (rest, _) = world.drain("pass", Some(first.next.clone())).await;
    let mut all = uuids(&first);
    all.extend(uuids(&rest));
    all.sort();
    all.dedup();
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn an_unknown_feed_is_not_offered() {
    let world = World::new();
    assert_eq!(world.connector.poll("other", None, 10).await.unwrap_err(), Fault::Unsupported);
}

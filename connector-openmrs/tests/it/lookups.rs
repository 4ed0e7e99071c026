//! More surprises of a real OpenMRS that can reach this connector: look-ups, identifiers, and what a refusal leaves.

use std::collections::BTreeMap;

use bytes::Bytes;
use connector_core::change::{Patient, RecordId};
use connector_core::connector::Outcome;
use serde_json::{Value, json};
use test_support::fault::{Action, Plan, Rule};
use test_support::openmrs::{ClerkEdit, NATIONAL_ID};

use crate::world::*;

/// What somebody else asks of the server, with the connector's own login.
async fn raw(world: &World, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{URL}/ws/{path}"))
        .header("authorization", "Basic Y2h0LmNvbm5lY3RvcjpDb25uZWN0b3IxMjM=")
        .header("content-type", "application/json")
        .body(body.map(|b| Bytes::from(b.to_string())).unwrap_or_default())
        .unwrap();
    let answer = world.wire.server.call(request).await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

async fn holders(world: &World, national: &str) -> Vec<String> {
    let asked = Patient::with([("identifier.national", national)]);
    world.connector.candidates(&asked).await.unwrap().into_iter().map(|r| r.id.id).collect()
}

#[tokio::test]
async fn an_identifier_of_a_voided_patient_is_free_and_leads_to_its_new_holder() {
    let world = World::new();
    let first = world.register(&amina()).await;
    world.server.edit(&first, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    let other = [("name", "Rose Debe"), ("sex", "female"), ("identifier.national", "30445566")];
    let second = world.register(&contact("other", other)).await;
    assert_eq!(holders(&world, "30445566").await, [second]);
}

#[tokio::test]
async fn fhir_finds_an_identifier_by_the_name_of_its_type_only() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let total = async |kind: &str| {
        let path = format!("fhir2/R4/Patient?identifier={kind}%7C30445566&_summary=data");
        let (status, bundle) = raw(&world, "GET", &path, None).await;
        (status, bundle["total"].clone())
    };
    assert_eq!(total("National%20ID").await, (200, json!(1)));
    assert_eq!(total(NATIONAL_ID).await, (200, json!(0)), "an empty answer to a wrong question");
    world.forget_sent();
    assert_eq!(holders(&world, "30445566").await, [uuid]);
    assert!(world.sent().iter().any(|s| s.target.contains("identifier=National%20ID%7C30445566")));
}

#[tokio::test]
async fn a_misspelt_search_is_an_empty_200_and_the_one_in_use_is_known_to_find() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let (status, found) = raw(&world, "GET", "rest/v1/patient?identifer=30445566", None).await;
    assert_eq!((status, &found["results"]), (200, &json!([])));
    // With its row unreadable in FHIR she is looked for by REST.
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    assert_eq!(holders(&world, "30445566").await, [uuid]);
}

#[tokio::test]
async fn a_phone_finds_nobody_so_nobody_is_looked_for_by_phone() {
    let world = World::new();
    world.register(&amina()).await;
    let (_, found) = raw(&world, "GET", "rest/v1/patient?q=%2B254700100001", None).await;
    assert_eq!(found["results"], json!([]));
    world.forget_sent();
    let asked = Patient::with([("phone", "+254700100001")]);
    assert!(world.connector.candidates(&asked).await.unwrap().is_empty());
    assert!(world.sent().is_empty());
}

#[tokio::test]
async fn visits_come_before_encounters_unless_the_tag_is_asked_for() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let now = world.connector.now("encounters").await.unwrap();
    world.wait(10);
    let visit = json!({
        "patient": uuid, "visitType": "7b0f5697-27e3-40c4-8bae-f4049abfb4ed",
        "startDatetime": "2026-11-23T08:00:00.000+0300", "location": "a1111111-0000-4000-8000-000000000001",
    });
    assert_eq!(raw(&world, "POST", "rest/v1/visit", Some(visit)).await.0, 201);
    let (_, all) = raw(&world, "GET", "fhir2/R4/Encounter?_summary=data", None).await;
    assert_eq!(all["total"], 1, "to FHIR a visit is an encounter");
    let (page, _) = world.drain("encounters", now).await;
    assert_eq!(page.refresh, Vec::<RecordId>::new());
}

#[tokio::test]
async fn a_page_link_is_a_401_without_a_login_and_the_reader_logs_in_again() {
    let world = World::new();
    world.server.generate(350, 1);
    let ended = Rule::on("GET", "*/fhir2/R4?_getpages*", Action::status(401, false));
    world.faults(Plan::default().with(ended.clone().nth(1)).with(ended.nth(3)));
    let (page, _) = world.drain("pass", None).await;
    assert_eq!(uuids(&page), everybody(&world));
}

#[tokio::test]
async fn a_refused_create_leaves_nothing_behind() {
    let world = World::new();
    let unborn = contact("x", [("name", "Rose Debe"), ("sex", "female"), ("birth_date", "2090-01-01")]);
    let reason = world.settle(&unborn, None).await.unwrap_err();
    assert!(reason.contains("400") && reason.contains("birthdate"), "{reason}");
    assert!(world.server.patients().is_empty());
    // The uuid is not used up: corrected, the same contact is the same patient.
    let uuid = world.register(&contact("x", [("name", "Rose Debe"), ("sex", "female")])).await;
    assert_eq!(everybody(&world), [uuid]);
    nothing_doubled(&world);
}

#[tokio::test]
async fn the_same_identifier_twice_on_one_patient_after_a_race_is_for_a_person_to_mend() {
    let world = World::new();
    let uuid = world.register(&contact("x", [("name", "Rose Debe"), ("sex", "female")])).await;
    world.switch(|s| s.uniqueness_window_ms = 60_000);
    for value in ["7391001", "7391002"] {
        let body = json!({ "identifier": value, "identifierType": NATIONAL_ID });
        let path = format!("rest/v1/patient/{uuid}/identifier");
        assert_eq!(raw(&world, "POST", &path, Some(body)).await.0, 201);
    }
    let record = world.current(&uuid).await.unwrap();
    assert!(fields(&world.connector, &record)["identifier.national"].starts_with("739100"));
    let edit = contact("x", [("identifier.national", "7391003")]);
    let reason = world.settle(&edit, Some(&uuid)).await.unwrap_err();
    assert!(reason.contains("identifier.national") && reason.contains("several"), "{reason}");
    assert!(!reason.contains("7391"), "{reason}");
}

#[tokio::test]
async fn a_voided_preferred_identifier_makes_later_edits_of_the_patient_a_400() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let path = format!("rest/v1/patient/{uuid}/identifier");
    let (_, held) = raw(&world, "GET", &format!("{path}?v=full"), None).await;
    let preferred = held["results"].as_array().unwrap().iter().find(|i| i["preferred"] == true).unwrap();
    let row = preferred["uuid"].as_str().unwrap();
    assert_eq!(raw(&world, "DELETE", &format!("{path}/{row}?reason=test"), None).await.0, 204);
    // The person's own rows can still be edited; the patient's cannot until somebody chooses.
    world.settle(&amina_with([("phone", "+254700100009")]), Some(&uuid)).await.unwrap();
    let (status, answer) = raw(&world, "POST", &format!("rest/v1/patient/{uuid}"), Some(json!({}))).await;
    assert_eq!(status, 400, "{answer}");
    let edited = world.settle(&amina_with([("identifier.national", "30445577")]), Some(&uuid)).await;
    if let Err(reason) = edited {
        assert!(reason.contains("choose one in OpenMRS") && !reason.contains("3044"), "{reason}");
    }
}

#[tokio::test]
async fn an_unknown_uuid_in_a_body_is_a_400_with_a_null_pointer_and_names_the_configuration() {
    let world = World::with(config_with("phone", "00000000-0000-4000-8000-00000000dead"));
    let reason = world.settle(&amina(), None).await.unwrap_err();
    assert!(reason.contains("unknown there; run `check`"), "{reason}");
    let mut task = world.task(&amina(), None).unwrap();
    let Outcome::Step(name, number) = world.once(&task).await else { panic!("no number") };
    task.notes = BTreeMap::from([(name, number)]);
    assert!(matches!(world.once(&task).await, Outcome::Rejected(_)), "not for ever");
}

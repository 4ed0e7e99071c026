//! One test for each switch: what it changes, and that the server is right again without it.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use test_support::{
    clock::Clock,
    openmrs::{CHT_ID, NO_PRIVILEGE, OPENMRS_ID, OpenMrs, Options, Pace, Rewrite, Stamps, Switches},
};
use tower::ServiceExt;

use super::{World, cht_id, entries, login, next, openmrs_id, patient, uuid_of};

/// The patient of `n` with the identifiers of another.
fn same_identifiers(n: u64, of: u64) -> Value {
    let mut body = patient(n);
    body["identifiers"] = patient(of)["identifiers"].clone();
    body
}

#[tokio::test]
async fn two_creates_within_the_uniqueness_window_are_both_stored() {
    let world = World::with(Switches { uniqueness_window_ms: 50, ..Switches::default() });
    world.create(1).await;
    world.wait(49);
    assert_eq!(world.rest("POST", "patient", same_identifiers(2, 1)).await.status, 201);
    let counts = world.mrs.counts();
    assert_eq!((counts.patients, counts.shared_identifiers), (2, 1));
    world.wait(50);
    assert_eq!(world.rest("POST", "patient", same_identifiers(3, 1)).await.status, 400, "after the window");
    assert_eq!(world.rest("POST", "patient", patient(1)).await.status, 500, "the uuid is unique at any time");
}

#[tokio::test]
async fn without_the_window_the_second_create_is_refused_at_once() {
    let world = World::new();
    world.create(1).await;
    assert_eq!(world.rest("POST", "patient", same_identifiers(2, 1)).await.status, 400);
    assert_eq!(world.mrs.counts().shared_identifiers, 0);
}

#[tokio::test]
async fn two_attributes_of_one_type_within_the_window_stay_both_active() {
    let world = World::with(Switches { uniqueness_window_ms: 50, ..Switches::default() });
    world.create(1).await;
    world.wait(1_000);
    for value in ["+254711", "+254712"] {
        let body = json!({"attributeType": test_support::openmrs::TELEPHONE, "value": value});
        assert_eq!(world.rest("POST", &format!("person/{}/attribute", uuid_of(1)), body).await.status, 201);
    }
    assert_eq!(
        world.mrs.patient(&uuid_of(1)).unwrap().attributes["Telephone Number"],
        ["+254711", "+254712"]
    );
    for status in [201, 201] {
        let body = json!({"identifier": "30445566", "identifierType": test_support::openmrs::NATIONAL_ID});
        assert_eq!(
            world.rest("POST", &format!("patient/{}/identifier", uuid_of(1)), body).await.status,
            status
        );
    }
    assert_eq!(world.mrs.patient(&uuid_of(1)).unwrap().identifiers.len(), 4, "the identifier is there twice");
}

#[tokio::test]
async fn the_second_of_two_edits_at_once_writes_the_whole_row_and_loses_the_first() {
    let world = World::with(Switches { lost_update_window_ms: 50, ..Switches::default() });
    world.create(1).await;
    let person = format!("person/{}", uuid_of(1));
    let both = async |gap: u64, gender: &str, birthdate: &str| {
        world.wait(1_000);
        assert_eq!(world.rest("POST", &person, json!({"gender": gender})).await.status, 200);
        world.wait(gap);
        assert_eq!(world.rest("POST", &person, json!({"birthdate": birthdate})).await.status, 200);
        let seen = world.mrs.patient(&uuid_of(1)).unwrap();
        (seen.gender.unwrap(), seen.birthdate.unwrap())
    };
    assert_eq!(both(49, "M", "1990-01-01").await, ("F".to_owned(), "1990-01-01".to_owned()));
    assert_eq!(both(50, "M", "1991-01-01").await, ("M".to_owned(), "1991-01-01".to_owned()));
}

#[tokio::test]
async fn stamps_can_move_on_every_edit_or_never() {
    let world = World::new();
    world.create(1).await;
    let person = format!("person/{}", uuid_of(1));
    let village = json!({"addresses": [{"cityVillage": "Katito"}]});
    let mut stamp = world.stamp(1).await;
    for (stamps, body, moves) in [
        (Stamps::Every, village, true),
        (Stamps::Never, json!({"gender": "M"}), false),
        (Stamps::Real, json!({"gender": "F"}), true),
    ] {
        world.switch(|switches| switches.stamps = stamps);
        world.wait(2_000);
        assert_eq!(world.rest("POST", &person, body).await.status, 200);
        let now = world.stamp(1).await;
        assert_eq!(now != stamp, moves, "{stamps:?}");
        stamp = now;
    }
}

#[tokio::test]
async fn an_unreadable_patient_makes_its_page_a_400() {
    let world = World::with(Switches { unreadable: vec![uuid_of(2)], ..Switches::default() });
    world.create(1).await;
    world.create(2).await;
    assert_eq!(world.fhir("GET", &format!("/Patient/{}", uuid_of(2)), Value::Null).await.status, 400);
    assert_eq!(world.fhir("GET", "/Patient?_summary=data", Value::Null).await.status, 400);
    assert_eq!(world.fhir("GET", "/Patient?_count=1", Value::Null).await.status, 200);
    assert_eq!(world.rest("GET", &format!("patient/{}", uuid_of(2)), Value::Null).await.status, 200);
}

#[tokio::test]
async fn nothing_checks_an_unchecked_identifier_type() {
    let world = World::new();
    world.create(1).await;
    let mut body = same_identifiers(2, 1);
    body["identifiers"][0] = json!({"identifier": "20001Q", "identifierType": OPENMRS_ID, "preferred": true});
    assert_eq!(world.rest("POST", "patient", body.clone()).await.status, 400);
    world.switch(|switches| switches.unchecked_types = vec![CHT_ID.to_owned(), OPENMRS_ID.to_owned()]);
    assert_eq!(world.rest("POST", "patient", body).await.status, 201);
    assert_eq!(world.mrs.counts().shared_identifiers, 1);
}

#[tokio::test]
async fn values_are_rewritten_on_their_way_in() {
    let rewrite = Rewrite { trim: true, upper_case_identifiers: true, capitalise_names: true };
    let world = World::with(Switches { rewrite, ..Switches::default() });
    let mut body = patient(1);
    body["person"]["names"][0]["givenName"] = "  nAOMI ".into();
    body["person"]["addresses"][0]["cityVillage"] = " Pap   Onditi".into();
    body["identifiers"][0]["identifier"] = openmrs_id(1).to_lowercase().into();
    let got = world.rest("POST", "patient", body).await;
    assert_eq!(
        got.body["display"],
        format!("{} - Naomi Chebet1", openmrs_id(1)),
        "the answer shows what is stored"
    );
    let seen = world.mrs.patient(&uuid_of(1)).unwrap();
    assert_eq!(seen.address["cityVillage"], "Pap Onditi");
    assert!(seen.identifiers.iter().any(|row| row.value == cht_id(1).to_uppercase()));
}

#[tokio::test]
async fn a_success_may_store_nothing() {
    let world = World::with(Switches { success_without_write: 1, ..Switches::default() });
    let got = world.rest("POST", "patient", patient(1)).await;
    assert_eq!((got.status, got.body["uuid"].as_str()), (201, Some(uuid_of(1).as_str())));
    assert_eq!(world.rest("GET", &format!("patient/{}", uuid_of(1)), Value::Null).await.status, 404);
    world.create(1).await;
}

#[tokio::test]
async fn an_error_may_come_with_the_write_done() {
    let world = World::with(Switches { error_with_write: 1, ..Switches::default() });
    assert_eq!(world.rest("POST", "patient", patient(1)).await.status, 500);
    assert_eq!(world.rest("GET", &format!("patient/{}", uuid_of(1)), Value::Null).await.status, 200);
    world.create(2).await;
}

#[tokio::test]
async fn a_late_write_is_done_after_the_client_gave_up() {
    let world = World::with(Switches { late_writes: 1, late_write_ms: 90_000, ..Switches::default() });
    assert_eq!(world.rest("POST", "patient", patient(1)).await.status, 504);
    world.wait(89_999);
    assert_eq!(world.rest("GET", &format!("patient/{}", uuid_of(1)), Value::Null).await.status, 404);
    world.wait(1);
    assert_eq!(world.rest("GET", &format!("patient/{}", uuid_of(1)), Value::Null).await.status, 200);
}

#[tokio::test]
async fn numbers_and_logins_are_not_counted_as_writes() {
    let world = World::with(Switches { success_without_write: 1, ..Switches::default() });
    let path = format!("idgen/identifiersource/{}/identifier", test_support::openmrs::SOURCE);
    let first = world.rest("POST", &path, json!({})).await.body;
    assert_ne!(world.rest("POST", &path, json!({})).await.body, first);
    assert_eq!(world.mrs.switches().success_without_write, 1);
}

#[tokio::test]
async fn links_may_point_to_an_inner_host() {
    let world =
        World::with(Switches { links_origin: Some("http://inner:8080".to_owned()), ..Switches::default() });
    world.mrs.generate(3, 1);
    let page = world.fhir("GET", "/Patient?_count=2", Value::Null).await.body;
    assert!(
        page["link"][1]["url"]
            .as_str()
            .unwrap()
            .starts_with("http://inner:8080/openmrs/ws/fhir2/R4?_getpages=")
    );
    assert_eq!(entries(&world.fhir("GET", &next(&page).unwrap(), Value::Null).await.body).len(), 1);
}

#[tokio::test]
async fn an_older_fhir_module_checks_no_privilege() {
    let world = World::new();
    world.create(1).await;
    let path = format!("/openmrs/ws/fhir2/R4/Patient/{}", uuid_of(1));
    let login = login(NO_PRIVILEGE);
    let read = async || world.ask("GET", &path, &[("authorization", &login)], &Value::Null).await.status;
    assert_eq!(read().await, 500);
    world.switch(|switches| switches.fhir_checks_no_privilege = true);
    assert_eq!(read().await, 200);
    assert_eq!(world.ask("GET", &path, &[], &Value::Null).await.status, 401, "a login is asked for");
}

#[tokio::test]
async fn fewer_searches_may_be_kept() {
    let world = World::with(Switches { stored_searches: 1, ..Switches::default() });
    world.mrs.generate(3, 1);
    let page = world.fhir("GET", "/Patient?_count=2", Value::Null).await.body;
    world.fhir("GET", "/Patient?_count=2", Value::Null).await;
    assert_eq!(world.fhir("GET", &next(&page).unwrap(), Value::Null).await.status, 410);
}

#[tokio::test]
async fn a_slow_server_takes_turns_by_the_real_clock_only() {
    let pace = Pace { creates_per_s: 50.0, ..Pace::default() };
    let switches = Switches { pace, ..Switches::default() };
    let world = World::with(Switches { pace: Pace { creates_per_s: 0.001, ..pace }, ..Switches::default() });
    world.create(1).await;
    let slow = OpenMrs::new(Options { seed: 1, switches }, Clock::real()).router();
    let begin = Instant::now();
    for n in 1..=3 {
        let request = Request::post("/openmrs/ws/rest/v1/patient")
            .header("authorization", login(test_support::openmrs::CONNECTOR))
            .header("content-type", "application/json")
            .body(Body::from(patient(n).to_string()));
        assert_eq!(slow.clone().oneshot(request.unwrap()).await.unwrap().status(), 201);
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(55),
        "three turns of 20 ms, but for the rounding of the clock"
    );
}

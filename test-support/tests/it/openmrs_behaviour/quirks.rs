//! Surprises that the README of the recordings names beyond single exchanges.

use serde_json::{Value, json};
use test_support::openmrs::{CONNECTOR, LOCATION, LOCK, NATIONAL_ID, OpenMrs, READER};

use super::{World, cht_id, entries, login, next, openmrs_id, patient, uuid_of};

const ENCOUNTER: &str = "cccccccc-0000-4000-8000-000000000001";

fn encounter() -> Value {
    json!({
        "uuid": ENCOUNTER,
        "patient": uuid_of(1),
        "encounterType": "e1111111-0000-4000-8000-000000000001",
        "encounterDatetime": "2026-11-24T09:30:00.000+0300",
        "location": LOCATION,
        "encounterProviders": [{"provider": "f1111111-0000-4000-8000-000000000001"}],
    })
}

#[tokio::test]
async fn only_gender_birth_date_death_and_void_move_the_stamp() {
    let world = World::new();
    world.create(1).await;
    let person = format!("person/{}", uuid_of(1));
    let read = world.rest("GET", &format!("patient/{}?v=full", uuid_of(1)), Value::Null).await.body;
    let row = |list: &Value| list[0]["uuid"].as_str().unwrap().to_owned();
    let name = format!("{person}/name/{}", row(&read["person"]["names"]));
    let address = format!("{person}/address/{}", row(&read["person"]["addresses"]));
    let phone = format!("{person}/attribute/{}", row(&read["person"]["attributes"]));
    let same = world.fhir("GET", &format!("/Patient/{}?_summary=data", uuid_of(1)), Value::Null).await.body;
    let still = [
        ("POST", name, json!({"familyName": "Cheruiyot"})),
        ("POST", address, json!({"cityVillage": "Katito"})),
        ("POST", phone, json!({"value": "+254700100099"})),
        (
            "POST",
            format!("patient/{}/identifier", uuid_of(1)),
            json!({"identifier": "30445566", "identifierType": NATIONAL_ID}),
        ),
        (
            "POST",
            format!("patient/{}", uuid_of(1)),
            json!({"person": {"names": [{"givenName": "Nao", "familyName": "C"}]}}),
        ),
        ("POST", person.clone(), json!({"gender": "F"})),
        ("POST", "encounter".to_owned(), encounter()),
    ];
    let made = world.stamp(1).await;
    for (method, path, body) in still {
        world.wait(2_000);
        let got = world.rest(method, &path, body).await;
        assert!(got.status < 300, "{path}: {}", got.body);
        assert_eq!(world.stamp(1).await, made, "{path}");
    }
    assert_eq!(world.fhir("PUT", &format!("/Patient/{}", uuid_of(1)), same).await.status, 200);
    assert_eq!(world.stamp(1).await, made, "the unchanged resource");
    let moves = [
        (person.clone(), json!({"gender": "M"})),
        (person.clone(), json!({"birthdate": "1994-03-13"})),
        (person.clone(), json!({"dead": true, "causeOfDeathNonCoded": "unknown"})),
        (person, json!({"dead": false, "causeOfDeathNonCoded": null})),
    ];
    let mut last = made;
    for (path, body) in moves {
        world.wait(2_000);
        assert_eq!(world.rest("POST", &path, body.clone()).await.status, 200);
        let moved = world.stamp(1).await;
        assert!(moved > last, "{body}");
        last = moved;
    }
}

#[tokio::test]
async fn a_repeated_uuid_with_other_identifiers_is_500_and_changes_nothing() {
    let world = World::new();
    world.create(1).await;
    let mut other = patient(2);
    other["person"]["uuid"] = uuid_of(1).into();
    let got = world.rest("POST", "patient", other).await;
    assert_eq!(got.status, 500);
    assert!(
        got.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("A different object with the same identifier value")
    );
    assert_eq!(world.mrs.counts().patients, 1);
    assert_eq!(world.mrs.patient(&uuid_of(1)).unwrap().family_name.as_deref(), Some("Chebet1"));
}

#[tokio::test]
async fn a_refused_create_leaves_nothing_behind() {
    let world = World::new();
    for (pointer, wrong) in [
        ("/person/gender", json!("")),
        ("/person/birthdate", json!("2030-01-01")),
        ("/identifiers/0/identifier", json!("20001Q")),
        ("/identifiers/0/location", Value::Null),
        ("/person/names", json!([])),
        ("/person/attributes/0/value", json!("9".repeat(51))),
        ("/identifiers/1/identifierType", json!("b4d66522-11fc-45c7-83e3-39a1af21ae00")),
    ] {
        let mut body = patient(1);
        *body.pointer_mut(pointer).unwrap() = wrong;
        let got = world.rest("POST", "patient", body).await;
        assert!(got.status >= 400, "{pointer}: {}", got.body);
        assert_eq!(world.mrs.patients().len(), 0, "{pointer}");
    }
    world.create(1).await;
}

#[tokio::test]
async fn a_family_name_is_not_required() {
    let world = World::new();
    let mut body = patient(1);
    body["person"]["names"] = json!([{"givenName": "Naomi"}]);
    assert_eq!(world.rest("POST", "patient", body).await.status, 201);
    let read = world.fhir("GET", &format!("/Patient/{}", uuid_of(1)), Value::Null).await.body;
    assert_eq!((&read["name"][0]["given"], &read["name"][0]["family"]), (&json!(["Naomi"]), &Value::Null));
}

#[tokio::test]
async fn voiding_the_preferred_identifier_bars_later_edits_of_the_patient() {
    let world = World::new();
    world.create(1).await;
    let list =
        world.rest("GET", &format!("patient/{}/identifier?v=default", uuid_of(1)), Value::Null).await.body;
    let preferred = list["results"].as_array().unwrap().iter().find(|row| row["preferred"] == true).unwrap();
    let path = format!("patient/{}/identifier/{}", uuid_of(1), preferred["uuid"].as_str().unwrap());
    assert_eq!(world.rest("DELETE", &path, Value::Null).await.status, 204);
    let read = world.fhir("GET", &format!("/Patient/{}", uuid_of(1)), Value::Null).await.body;
    assert!(read["identifier"].as_array().unwrap().iter().all(|row| row["use"] == "usual"));
    let got =
        world.rest("POST", &format!("patient/{}", uuid_of(1)), json!({"person": {"gender": "M"}})).await;
    assert_eq!(got.status, 400);
    assert_eq!(got.body["error"]["globalErrors"][0]["message"], "Select a preferred identifier");
}

#[tokio::test]
async fn a_fhir_patch_of_a_voided_patient_is_200_and_leaves_it_voided() {
    let world = World::new();
    world.create(1).await;
    let path = format!("/Patient/{}", uuid_of(1));
    world.rest("DELETE", &format!("patient/{}?reason=twice", uuid_of(1)), Value::Null).await;
    assert_eq!(world.fhir("PATCH", &path, json!({"gender": "male"})).await.status, 200);
    assert_eq!(world.fhir("GET", &path, Value::Null).await.status, 410);
    assert!(world.mrs.patient(&uuid_of(1)).unwrap().voided);
    let person = world.rest("POST", &format!("person/{}", uuid_of(1)), json!({"gender": "F"})).await;
    assert_eq!(person.status, 200, "and REST takes an edit of the person");
}

#[tokio::test]
async fn voided_patients_are_in_no_list() {
    let world = World::new();
    world.create(1).await;
    world.create(2).await;
    world.rest("DELETE", &format!("patient/{}?reason=twice", uuid_of(1)), Value::Null).await;
    for path in
        ["/Patient", "/Patient?_sort=_lastUpdated", "/Patient?family=chebet", "/Patient?_lastUpdated=ge2000"]
    {
        let bundle = world.fhir("GET", path, Value::Null).await.body;
        assert_eq!((entries(&bundle), &bundle["total"]), (vec![uuid_of(2).as_str()], &json!(1)), "{path}");
    }
    for query in ["q=Naomi", "identifier=0b7e5a10", "q=Naomi&includeAll=true"] {
        let found = world.rest("GET", &format!("patient?{query}"), Value::Null).await.body;
        assert_eq!(found["results"].as_array().unwrap().len(), 1, "{query}");
    }
}

#[tokio::test]
async fn counts_are_cut_to_a_hundred_and_a_negative_one_is_an_empty_page() {
    let world = World::new();
    world.mrs.generate(120, 1);
    let page = world.fhir("GET", "/Patient?_count=500", Value::Null).await.body;
    assert_eq!((entries(&page).len(), &page["total"]), (100, &json!(120)));
    let page = world.fhir("GET", "/Patient?_count=-1", Value::Null).await.body;
    assert_eq!((entries(&page).len(), &page["total"]), (0, &json!(120)));
    assert_eq!(entries(&world.fhir("GET", "/Patient", Value::Null).await.body).len(), 10, "ten by default");
}

#[tokio::test]
async fn a_page_link_serves_again_and_others_until_a_hundred_searches_or_a_restart() {
    let world = World::new();
    world.mrs.generate(5, 1);
    let first = world.fhir("GET", "/Patient?_count=2&_summary=data", Value::Null).await.body;
    let link = next(&first).unwrap();
    assert!(!link.contains("_summary"), "the first link forgets _summary");
    let full = world.fhir("GET", &link, Value::Null).await.body;
    assert!(full["entry"][0]["resource"]["text"].is_object());
    let cut = world.fhir("GET", &format!("{link}&_summary=data"), Value::Null).await.body;
    assert!(cut["entry"][0]["resource"]["text"].is_null() && next(&cut).unwrap().contains("_summary=data"));
    let path = format!("/openmrs/ws/fhir2/R4{link}");
    let reader = world.ask("GET", &path, &[("authorization", &login(READER))], &Value::Null).await;
    assert_eq!(entries(&reader.body), entries(&full));
    assert_eq!(world.ask("GET", &path, &[], &Value::Null).await.status, 401);
    let beyond = link.replace("_getpagesoffset=2", "_getpagesoffset=50");
    assert_eq!(entries(&world.fhir("GET", &beyond, Value::Null).await.body).len(), 0);
    for _ in 0..99 {
        world.fhir("GET", "/Patient?_summary=count", Value::Null).await;
    }
    assert_eq!(world.fhir("GET", &link, Value::Null).await.status, 200, "ninety-nine others");
    world.fhir("GET", "/Patient?_summary=count", Value::Null).await;
    assert_eq!(world.fhir("GET", &link, Value::Null).await.status, 410, "a hundred others");
}

#[tokio::test]
async fn pages_in_the_order_of_creation_are_not_disturbed_by_edits_those_by_stamp_are() {
    for (sort, seen) in [("", 6), ("&_sort=_lastUpdated", 4)] {
        let world = World::new();
        world.mrs.generate(6, 1);
        let first = world.fhir("GET", &format!("/Patient?_count=2{sort}"), Value::Null).await.body;
        let mut found: Vec<String> = entries(&first).into_iter().map(str::to_owned).collect();
        let mut link = next(&first);
        for uuid in found.clone() {
            world.wait(1_000);
            world.rest("POST", &format!("person/{uuid}"), json!({"birthdate": "1990-01-01"})).await;
        }
        while let Some(at) = link {
            let page = world.fhir("GET", &at, Value::Null).await.body;
            found.extend(entries(&page).into_iter().map(str::to_owned));
            link = next(&page);
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), seen, "{sort}");
    }
}

#[tokio::test]
async fn an_unreadable_row_fails_its_page_and_the_pages_around_it_are_served() {
    let world = World::new();
    for n in 1..=4 {
        world.create(n).await;
    }
    let consent = json!({"attributeType": "b1111111-0000-4000-8000-000000000003", "value": "maybe"});
    assert_eq!(world.rest("POST", &format!("person/{}/attribute", uuid_of(3)), consent).await.status, 201);
    assert_eq!(world.fhir("GET", "/Patient?_count=4&_summary=data", Value::Null).await.status, 400);
    assert_eq!(world.fhir("GET", "/Patient?_count=4&_elements=id", Value::Null).await.status, 400);
    let half = world.fhir("GET", "/Patient?_count=2&_summary=data", Value::Null).await.body;
    assert_eq!(entries(&half).len(), 2);
    let over = next(&half).unwrap().replace("_getpagesoffset=2", "_getpagesoffset=3");
    assert_eq!(entries(&world.fhir("GET", &over, Value::Null).await.body), [uuid_of(4)]);
    assert_eq!(world.rest("GET", &format!("patient/{}?v=full", uuid_of(3)), Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_session_wins_over_wrong_credentials_and_fhir_forgives_an_unknown_one() {
    let world = World::new();
    world.create(1).await;
    let path = format!("/openmrs/ws/rest/v1/patient/{}", uuid_of(1));
    let first = world.ask("GET", &path, &[("authorization", &login(CONNECTOR))], &Value::Null).await;
    let cookie = first.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let wrong = login((CONNECTOR.0, "wrong"));
    let both = [("cookie", cookie.as_str()), ("authorization", wrong.as_str())];
    let again = world.ask("GET", &path, &both, &Value::Null).await;
    assert_eq!((again.status, again.headers.contains_key("set-cookie")), (200, false));
    world.ask("DELETE", "/openmrs/ws/rest/v1/session", &both, &Value::Null).await;
    let right = login(CONNECTOR);
    let stale = [("cookie", cookie.as_str()), ("authorization", right.as_str())];
    assert_eq!(
        world.ask("GET", &path, &stale, &Value::Null).await.status,
        401,
        "REST refuses the ended session"
    );
    let fhir = format!("/openmrs/ws/fhir2/R4/Patient/{}", uuid_of(1));
    assert_eq!(world.ask("GET", &fhir, &stale, &Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_lock_ends_five_minutes_after_the_last_try_right_or_wrong() {
    let world = World::new();
    let session = async |password: &str| {
        let login = login((LOCK.0, password));
        let got =
            world.ask("GET", "/openmrs/ws/rest/v1/session", &[("authorization", &login)], &Value::Null).await;
        got.body["authenticated"] == true
    };
    for _ in 0..7 {
        assert!(!session("wrong").await);
    }
    assert!(session(LOCK.1).await, "seven failures are allowed");
    for _ in 0..8 {
        session("wrong").await;
    }
    for _ in 0..2 {
        world.wait(299_000);
        assert!(!session(LOCK.1).await, "the right password starts the five minutes anew");
    }
    world.wait(301_000);
    assert!(session(LOCK.1).await);
}

#[tokio::test]
async fn the_fhir_identifier_search_is_exact_but_for_case() {
    let world = World::new();
    world.create(1).await;
    let total = async |query: &str| {
        let got =
            world.fhir("GET", &format!("/Patient?_summary=count&identifier={query}"), Value::Null).await;
        got.body["total"].as_u64().unwrap()
    };
    let id = cht_id(1);
    assert_eq!(total(&format!("CHT Record Reference UUID|{}", id.to_uppercase())).await, 1);
    assert_eq!(total(&format!("|{id}")).await, 1);
    assert_eq!(total(&openmrs_id(1)).await, 1);
    assert_eq!(total(&format!("OpenMRS ID|{id}")).await, 0, "another type");
    assert_eq!(total(&id[..10]).await, 0, "a part");
}

#[tokio::test]
async fn null_removes_an_attribute_and_a_second_value_replaces_the_first() {
    let world = World::new();
    world.create(1).await;
    let phone = |value: Value| json!({"attributes": [{"attributeType": test_support::openmrs::TELEPHONE, "value": value}]});
    world.rest("POST", &format!("person/{}", uuid_of(1)), phone(json!("+254711"))).await;
    assert_eq!(world.mrs.patient(&uuid_of(1)).unwrap().attributes["Telephone Number"], ["+254711"]);
    world.rest("POST", &format!("person/{}", uuid_of(1)), phone(Value::Null)).await;
    assert!(world.mrs.patient(&uuid_of(1)).unwrap().attributes.is_empty());
}

#[tokio::test]
async fn an_encounter_is_moved_by_its_own_fields_and_not_by_its_obs() {
    let world = World::new();
    world.create(1).await;
    let mut body = encounter();
    body["visit"] = "00000000-0000-4000-8000-000000000000".into();
    let made = world.rest("POST", "encounter", body).await;
    assert_eq!((made.status, &made.body["visit"]), (201, &Value::Null), "an unknown visit is left out");
    let read = async || world.fhir("GET", &format!("/Encounter/{ENCOUNTER}"), Value::Null).await.body;
    let before = read().await["meta"]["lastUpdated"].clone();
    world.wait(2_000);
    let obs = json!({"obs": [{"concept": "5088AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "value": 37.9}]});
    assert_eq!(world.rest("POST", &format!("encounter/{ENCOUNTER}"), obs).await.status, 200);
    assert_eq!(read().await["meta"]["lastUpdated"], before);
    let edit = json!({"location": "a1111111-0000-4000-8000-000000000002"});
    assert_eq!(world.rest("POST", &format!("encounter/{ENCOUNTER}"), edit).await.status, 200);
    assert_ne!(read().await["meta"]["lastUpdated"], before);
}

#[tokio::test]
async fn a_fhir_put_of_an_unchanged_encounter_doubles_its_provider() {
    let world = World::new();
    world.create(1).await;
    world.rest("POST", "encounter", encounter()).await;
    let path = format!("/Encounter/{ENCOUNTER}");
    let mut same = world.fhir("GET", &path, Value::Null).await.body;
    let put = world.fhir("PUT", &path, same.clone()).await.body;
    assert_eq!(put["participant"].as_array().unwrap().len(), 2);
    same.as_object_mut().unwrap().remove("location");
    let put = world.fhir("PUT", &path, same).await.body;
    assert_eq!((&put["location"], put["participant"].as_array().unwrap().len()), (&Value::Null, 3));
}

#[tokio::test]
async fn relationships_and_cohorts_hold_their_uuid_unique() {
    let world = World::new();
    world.create(1).await;
    world.create(2).await;
    let body = json!({"uuid": "cccccccc-0000-4000-8000-0000000000dd", "personA": uuid_of(1), "personB": uuid_of(2),
                      "relationshipType": "8d91a210-c2cc-11de-8d13-0010c6dffd0f"});
    assert_eq!(world.rest("POST", "relationship", body.clone()).await.status, 201);
    let again = world.rest("POST", "relationship", body).await;
    assert_eq!(again.status, 500);
    assert!(again.body["error"]["message"].as_str().unwrap().contains("Duplicate entry"));
}

#[tokio::test]
async fn numbers_of_the_source_are_all_different_and_valid() {
    let world = World::new();
    let body = json!({"generateIdentifiers": true, "sourceUuid": test_support::openmrs::SOURCE, "numberToGenerate": 200});
    let got = world.rest("POST", "idgen/identifiersource", body).await.body;
    let numbers: std::collections::HashSet<&str> =
        got["identifiers"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(numbers.len(), 200);
    assert!(
        numbers
            .iter()
            .all(|id| test_support::openmrs::idgen::is_valid(id, test_support::openmrs::idgen::BASE_30))
    );
}

#[tokio::test]
async fn a_restart_forgets_sessions_and_searches_and_keeps_every_row() {
    let world = World::new();
    world.mrs.generate(5, 1);
    world.create(9).await;
    let first = world.fhir("GET", "/Patient?_count=2", Value::Null).await.body;
    let folder = tempfile();
    let file = folder.join("openmrs.json");
    world.mrs.save(&file).unwrap();
    let again = World::of(OpenMrs::load(&file, world.clock.clone()).unwrap(), world.clock.clone());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(again.mrs.patients(), world.mrs.patients());
    assert_eq!(again.fhir("GET", &next(&first).unwrap(), Value::Null).await.status, 410);
    assert_eq!(again.rest("POST", "patient", patient(9)).await.status, 500, "its uuid is still taken");
}

fn tempfile() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("openmrs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

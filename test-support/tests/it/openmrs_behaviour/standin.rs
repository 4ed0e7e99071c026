//! Looking in, editing as a clerk, many patients at once; and that no request makes the stand-in panic.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use test_support::openmrs::{ClerkEdit, Switches};

use super::{World, cht_id, entries, next, patient, uuid_of};

#[tokio::test]
async fn a_clerk_edits_what_the_screen_edits_and_stamps_stay() {
    let world = World::new();
    world.create(1).await;
    let stamp = world.stamp(1).await;
    world.wait(2_000);
    let edit = ClerkEdit {
        family_name: Some("Cheruiyot".to_owned()),
        phone: Some("+254711".to_owned()),
        address: BTreeMap::from([("cityVillage".to_owned(), "Katito".to_owned())]),
        identifiers: BTreeMap::from([("National ID".to_owned(), "30445566".to_owned())]),
        ..ClerkEdit::default()
    };
    world.mrs.edit(&uuid_of(1), &edit).unwrap();
    let seen = world.mrs.patient(&uuid_of(1)).unwrap();
    assert_eq!((seen.family_name.as_deref(), seen.names), (Some("Cheruiyot"), 1));
    assert_eq!((seen.address["cityVillage"].as_str(), seen.addresses), ("Katito", 1));
    assert_eq!(seen.attributes["Telephone Number"], ["+254711"]);
    assert_eq!(seen.identifiers.len(), 3);
    assert_eq!(world.stamp(1).await, stamp);
    let death = ClerkEdit { dead: Some(true), ..ClerkEdit::default() };
    assert!(world.mrs.edit(&uuid_of(1), &death).unwrap_err().contains("Cause of Death"));
    let death = ClerkEdit { cause_of_death: Some("malaria".to_owned()), ..death };
    world.mrs.edit(&uuid_of(1), &death).unwrap();
    assert_ne!(world.stamp(1).await, stamp);
}

#[tokio::test]
async fn a_clerk_voids_and_takes_it_back() {
    let world = World::new();
    world.create(1).await;
    let before = world.mrs.patient(&uuid_of(1)).unwrap();
    for (voided, status) in [(true, 410), (false, 200)] {
        world.wait(1_000);
        world.mrs.edit(&uuid_of(1), &ClerkEdit { voided: Some(voided), ..ClerkEdit::default() }).unwrap();
        assert_eq!(world.fhir("GET", &format!("/Patient/{}", uuid_of(1)), Value::Null).await.status, status);
    }
    let after = world.mrs.patient(&uuid_of(1)).unwrap();
    assert_eq!((after.identifiers, after.address), (before.identifiers, before.address));
}

#[tokio::test]
async fn a_merge_voids_the_loser_and_gives_the_winner_its_identifiers() {
    let world = World::new();
    world.create(1).await;
    world.create(2).await;
    let merge = ClerkEdit { merged_into: Some(uuid_of(2)), ..ClerkEdit::default() };
    world.mrs.edit(&uuid_of(1), &merge).unwrap();
    let loser = world.mrs.patient(&uuid_of(1)).unwrap();
    assert!(loser.voided && loser.void_reason.unwrap().starts_with("Merged with patient #"));
    let found = world.fhir("GET", &format!("/Patient?identifier={}", cht_id(1)), Value::Null).await.body;
    assert_eq!(entries(&found), [uuid_of(2)]);
}

#[tokio::test]
async fn duplicates_are_counted_by_identifier_and_by_person() {
    let world = World::new();
    world.create(1).await;
    let mut twin = patient(2);
    twin["person"]["names"] = patient(1)["person"]["names"].clone();
    assert_eq!(world.rest("POST", "patient", twin).await.status, 201);
    let counts = world.mrs.counts();
    assert_eq!((counts.patients, counts.same_person, counts.shared_identifiers), (2, 1, 0));
}

#[tokio::test]
async fn the_pages_of_the_stand_in_show_and_set() {
    let world = World::new();
    let standin = async |method: &str, page: &str, body: Value| {
        world.ask(method, &format!("/_standin/openmrs/{page}"), &[], &body).await
    };
    assert_eq!(standin("POST", "generate", json!({"count": 3, "seed": 5})).await.status, 200);
    let lines = standin("GET", "patients", Value::Null).await.body;
    let lines: Vec<Value> =
        lines.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let uuid = lines[0]["uuid"].clone();
    let edit = json!({"uuid": uuid, "set": {"givenName": "Zuhura"}});
    assert_eq!(standin("POST", "edit", edit).await.status, 200);
    assert_eq!(world.mrs.patients()[0].given_name.as_deref(), Some("Zuhura"));
    assert_eq!(standin("GET", "counts", Value::Null).await.body["patients"], 3);
    assert_eq!(
        standin("PUT", "switches", json!({"success_without_write": 2, "stamps": "never"})).await.status,
        200
    );
    assert_eq!(standin("GET", "switches", Value::Null).await.body["success_without_write"], 2);
    assert_eq!(
        standin("PUT", "switches", json!({"sucess_without_write": 2})).await.status,
        400,
        "a typing error"
    );
}

#[tokio::test]
async fn generated_patients_are_the_same_for_a_seed_and_pass_every_check() {
    let (a, b) = (World::new(), World::new());
    a.mrs.generate(300, 11);
    b.mrs.generate(300, 11);
    assert_eq!(a.mrs.patients(), b.mrs.patients());
    assert_eq!(a.mrs.counts().shared_identifiers, 0);
    for seen in a.mrs.patients() {
        let got = a.rest("POST", &format!("person/{}", seen.uuid), json!({"gender": "O"})).await;
        assert_eq!(got.status, 200, "{}", got.body);
    }
}

#[tokio::test]
async fn a_full_pass_over_many_patients_sees_each_once_by_links_and_by_stamps() {
    let world = World::with(Switches::default());
    world.mrs.generate(2_500, 3);
    let mut seen = Vec::new();
    let mut at = Some("/Patient?_count=100&_summary=data".to_owned());
    while let Some(path) = at {
        let page = world.fhir("GET", &path, Value::Null).await.body;
        seen.extend(entries(&page).into_iter().map(str::to_owned));
        at = next(&page)
            .map(|link| if link.contains("_summary") { link } else { format!("{link}&_summary=data") });
    }
    let whole = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((whole, seen.len()), (2_500, 2_500));
    let count = async |bound: &str| {
        let got =
            world.fhir("GET", &format!("/Patient?_lastUpdated={bound}&_summary=count"), Value::Null).await;
        got.body["total"].as_u64().unwrap()
    };
    // Fifty to a second: `le` takes the second itself and the one after.
    let (from, to) = (count("ge2026-11-24T11:47:30Z").await, count("le2026-11-24T11:47:30Z").await);
    assert_eq!(from + to, 2_500 + 100);
}

#[tokio::test]
async fn no_request_makes_it_panic() {
    let world = World::new();
    world.create(1).await;
    let bodies = [
        Value::Null,
        json!([]),
        json!({}),
        json!({"person": [], "identifiers": [{}, 3, null]}),
        json!({"person": {"age": -99_999, "names": [7], "birthdate": "é"}, "identifiers": [{"identifier": "é"}]}),
        json!({"id": uuid_of(1), "name": [3], "identifier": [{"type": {"text": "OpenMRS ID"}, "value": "é"}], "birthDate": "ééé"}),
        json!({"obs": [{"concept": "5089AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "groupMembers": [{}]}], "patient": uuid_of(1)}),
        json!([{"op": "add", "path": "/name/99", "value": 1}, {"op": "remove", "path": "/x"}, {"op": "copy", "path": ""}]),
        "{".into(),
    ];
    let queries = [
        "",
        "?v=custom:((((a:(",
        "?v=custom:",
        "?limit=-9&startIndex=99999999999999999999",
        "?_count=x&_sort=-",
        "?_lastUpdated=é",
        "?_lastUpdated=ge",
        "?_getpages=",
        "?identifier=|",
        "?q=é&v=full",
        "?_lastUpdated=ge9999-12-31",
    ];
    let paths = [
        "rest/v1",
        "rest/v1/",
        "rest/v1/patient",
        "rest/v1/person/x/name/y",
        "rest/v1/encounter",
        "rest/v1/obs",
        "rest/v1/visit",
        "rest/v1/idgen/nextIdentifier",
        "rest/v1/idgen",
        "rest/v1/cohort",
        "rest/v1/relationship",
        "rest/v1/session/x",
        "rest/v1/concept",
        "fhir2/R4",
        "fhir2/R4/Patient",
        "fhir2/R4/Patient/_search",
        "fhir2/R4/Encounter",
        "fhir2/R4/Observation",
        "fhir2/R4/Task",
        "fhir2/R4/Group",
        "fhir2/R4/Practitioner",
        "fhir2/R4/Patient/x/$everything",
    ];
    let of_patient = [
        "rest/v1/patient/U",
        "rest/v1/person/U",
        "rest/v1/person/U/attribute",
        "rest/v1/patient/U/identifier",
        "fhir2/R4/Patient/U",
    ];
    let of_patient = of_patient.map(|path| path.replace('U', &uuid_of(1)));
    let login = super::login(test_support::openmrs::ADMIN);
    for path in paths.into_iter().map(str::to_owned).chain(of_patient) {
        for method in ["GET", "POST", "PUT", "PATCH"] {
            for (query, body) in queries.iter().flat_map(|query| bodies.iter().map(move |body| (query, body)))
            {
                let headers = [("authorization", login.as_str()), ("content-type", "application/json")];
                let target = format!("/openmrs/ws/{path}{}", query.replace('é', "%C3%A9"));
                let got = world.ask(method, &target, &headers, body).await;
                assert!(got.status < 600, "{method} {target}");
            }
        }
    }
}

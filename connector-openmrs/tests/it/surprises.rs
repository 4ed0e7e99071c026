//! One test for each surprising behaviour of a real OpenMRS that can reach this connector, named after it. What is not
//! here or in `lookups` cannot: FHIR writes, obs, cohorts and appointments are not used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, body_of};
use connector_core::change::{Patient, RecordId};
use connector_core::connector::{Fault, Known, Outcome, Reject};
use serde_json::{Value, json};
use test_support::fault::{Action, Plan, Rule};
use test_support::openmrs::{ClerkEdit, NO_PRIVILEGE, READER};

use crate::world::*;

// Finding changes

#[tokio::test]
async fn names_addresses_phones_and_identifiers_move_no_stamp() {
    let world = World::new();
    world.server.generate(30, 1);
    let uuid = everybody(&world)[7].clone();
    world.wait(5000);
    let now = world.connector.now("changed").await.unwrap();
    let (before, _) = world.drain("pass", None).await;
    let edit = ClerkEdit {
        family_name: Some("Changed".into()),
        phone: Some("+254711".into()),
        address: BTreeMap::from([("cityVillage".to_owned(), "Boya".to_owned())]),
        identifiers: BTreeMap::from([("National ID".to_owned(), "998877".to_owned())]),
        ..ClerkEdit::default()
    };
    world.server.edit(&uuid, &edit).unwrap();
    let (changed, _) = world.drain("changed", now).await;
    assert!(changed.records.is_empty(), "the stamp tells nothing");
    let (after, _) = world.drain("pass", None).await;
    let moved: Vec<_> = after.records.iter().filter(|r| !before.records.contains(r)).collect();
    assert_eq!(moved.len(), 1, "the pass tells it");
    let back = fields(&world.connector, moved[0]);
    assert!(back["name"].ends_with("Changed"));
    assert_eq!((back["phone"].as_str(), back["address.village"].as_str()), ("+254711", "Boya"));
    assert_eq!(back["identifier.national"], "998877");
}

#[tokio::test]
async fn etag_and_version_stay_the_same_over_edits() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let before = world.current(&uuid).await.unwrap();
    world.server.edit(&uuid, &ClerkEdit { phone: Some("+254711".into()), ..ClerkEdit::default() }).unwrap();
    let after = world.current(&uuid).await.unwrap();
    assert_ne!(before.body, after.body);
    assert!(before.version.is_none(), "a version that lies is none");
    assert!(
        world.sent().iter().all(|s| !s.headers.iter().any(|h| h.starts_with("if-"))),
        "no conditional request"
    );
}

#[tokio::test]
async fn the_next_link_forgets_summary() {
    let world = World::new();
    world.server.generate(450, 1);
    world.drain("pass", None).await;
    let fhir: Vec<_> = world.sent().into_iter().filter(|s| s.target.contains("/fhir2/")).collect();
    assert!(fhir.len() >= 5);
    assert!(fhir.iter().all(|s| s.target.ends_with("_summary=data")));
}

#[tokio::test]
async fn gt_is_ge_and_lt_takes_a_second_more() {
    let world = World::new();
    world.server.generate(450, 1);
    let (page, _) = world.drain("pass", None).await;
    assert_eq!(uuids(&page), everybody(&world), "fifty to a second, none parted");
    for sent in world.sent().iter().filter(|s| s.target.contains("_lastUpdated=")) {
        assert!(sent.target.contains("_lastUpdated=ge"), "windows are asked by `ge` only");
    }
}

#[tokio::test]
async fn a_count_over_100_is_cut() {
    let world = World::new();
    world.server.generate(350, 1);
    let (mut all, mut cursor) = (vec![], None);
    loop {
        let page = world.connector.poll("pass", cursor.as_deref(), 1000).await.unwrap();
        all.extend(uuids(&page));
        cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    all.sort();
    all.dedup();
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn paging_follows_live_data_and_edits_between_pages_lose_nobody() {
    let world = World::new();
    world.server.generate(330, 1);
    let first = world.connector.poll("pass", None, 50).await.unwrap();
    world.wait(10);
    for record in &first.records[..20] {
        let gender = Some("O".to_owned());
        world.server.edit(&record.id.id, &ClerkEdit { gender, ..ClerkEdit::default() }).unwrap();
    }
    let void = ClerkEdit { voided: Some(true), ..ClerkEdit::default() };
    world.server.edit(&first.records[30].id.id, &void).unwrap();
    let (rest, _) = world.drain("pass", Some(first.next.clone())).await;
    let mut all = uuids(&first);
    all.extend(uuids(&rest));
    all.sort();
    all.dedup();
    all.retain(|uuid| *uuid != first.records[30].id.id);
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn the_total_of_a_search_is_as_old_as_the_search() {
    let world = World::new();
    world.server.generate(100, 1);
    let first = world.connector.poll("pass", None, 50).await.unwrap();
    world.wait(60);
    world.server.generate(120, 2);
    let (rest, _) = world.drain("pass", Some(first.next.clone())).await;
    let mut all = uuids(&first);
    all.extend(uuids(&rest));
    all.sort();
    all.dedup();
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn a_page_link_is_gone_after_other_searches_or_a_restart() {
    let world = World::new();
    world.server.generate(330, 1);
    world.switch(|s| s.stored_searches = 1);
    let (mut all, mut cursor) = (vec![], None);
    for _ in 0..60 {
        let page = world.connector.poll("pass", cursor.as_deref(), 50).await.unwrap();
        all.extend(uuids(&page));
        cursor = Some(page.next);
        if !page.more {
            break;
        }
        let _ = world.connector.candidates(&Patient::with([("name", "Amina Otieno")])).await.unwrap();
    }
    all.sort();
    all.dedup();
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn hundreds_in_one_second_are_not_parted() {
    let world = World::new();
    for seed in 0..8 {
        world.server.generate(45, seed);
    }
    let (mut all, mut cursor) = (vec![], None);
    for _ in 0..200 {
        let page = world.connector.poll("pass", cursor.as_deref(), 10).await.unwrap();
        all.extend(uuids(&page));
        cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    all.sort();
    all.dedup();
    assert_eq!(all, everybody(&world));
}

#[tokio::test]
async fn one_unreadable_row_fails_every_page_that_holds_it() {
    let world = World::new();
    world.server.generate(260, 1);
    let (page, _) = world.drain("pass", None).await;
    let order: Vec<String> = page.records.iter().map(|r| r.id.id.clone()).collect();
    for at in [vec![130], vec![0], vec![259], vec![0, 1, 50, 51, 100], vec![99, 100, 101], vec![0, 259]] {
        let unreadable: Vec<String> = at.iter().map(|at| order[*at].clone()).collect();
        world.switch(|s| s.unreadable = unreadable.clone());
        let (page, _) = world.drain("pass", None).await;
        let expected: Vec<_> = everybody(&world).into_iter().filter(|u| !unreadable.contains(u)).collect();
        let read = uuids(&page);
        let lost: Vec<_> = expected.iter().filter(|u| !read.contains(u)).collect();
        // Oldest and newest row unreadable: no search of that second can be paged, and the pass says so.
        let second = if at == [0, 259] { 50 } else { 0 };
        assert!(lost.len() <= second, "{at:?}: {} lost", lost.len());
        assert!(!page.unreadable.is_empty(), "{at:?}: not told");
        let ids: Vec<_> = unreadable.iter().map(|u| RecordId::person("openmrs", u)).collect();
        let found = world.connector.fetch(&ids).await.unwrap();
        assert!(found.iter().all(Option::is_some), "{at:?}: REST reads it");
    }
}

#[tokio::test]
async fn an_unreadable_row_does_not_stop_the_changed_feed() {
    let world = World::new();
    let cursor = world.connector.now("changed").await.unwrap();
    world.wait(10);
    world.server.generate(20, 1);
    let bad = world.server.patients()[0].uuid.clone();
    world.switch(|s| s.unreadable = vec![bad.clone()]);
    let (page, _) = world.drain("changed", cursor).await;
    let expected: Vec<_> = everybody(&world).into_iter().filter(|u| *u != bad).collect();
    assert_eq!(uuids(&page), expected);
}

#[tokio::test]
async fn fhir_gives_the_gender_question_mark() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.server.edit(&uuid, &ClerkEdit { gender: Some("X".into()), ..ClerkEdit::default() }).unwrap();
    let record = world.current(&uuid).await.unwrap();
    let back = fields(&world.connector, &record);
    assert!(!back.contains_key("sex") && back["name"] == "Amina Wambui Otieno");
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    assert_eq!(world.current(&uuid).await.unwrap().body, record.body, "REST reads it alike");
}

#[tokio::test]
async fn an_estimated_birth_date_loses_its_month_after_five_years_without_an_edit() {
    let world = World::new();
    let uuid = world.register(&contact("baby", [("name", "Baby Chebet"), ("birth_date", "2024-05")])).await;
    let birth = async |world: &World| {
        fields(&world.connector, &world.current(&uuid).await.unwrap())["birth_date"].clone()
    };
    assert_eq!(birth(&world).await, "2024-05");
    world.wait(6 * 365 * 86_400);
    assert_eq!(birth(&world).await, "2024");
    let current = world.current(&uuid).await.unwrap();
    assert!(world.task(&contact("baby", [("name", "Baby Chebet")]), Some(&current)).is_none());
}

// Creating

#[tokio::test]
async fn a_repeated_person_uuid_is_a_500_or_a_400_and_never_a_second_patient() {
    let world = World::new();
    let mut task = world.task(&amina(), None).unwrap();
    let Outcome::Step(name, number) = world.once(&task).await else { panic!("no number") };
    task.notes.insert(name, number);
    let Outcome::Done(first) = world.once(&task).await else { panic!("not made") };
    let Outcome::Done(again) = world.once(&task).await else { panic!("not recognised") };
    assert_eq!(first, again);
    assert!(world.sent().iter().any(|s| s.method == "POST" && s.status.is_some_and(|s| s >= 400)));
    assert_eq!(everybody(&world).len(), 1);
}

#[tokio::test]
async fn unique_identifiers_are_not_unique_under_concurrency_so_they_are_exclusive_here() {
    let world = World::new();
    let one = world.connector.destinations(&amina()).unwrap().remove(0);
    let two = contact("another", [("name", "Other Person"), ("identifier.national", "30445566")]);
    let two = world.connector.destinations(&two).unwrap().remove(0);
    assert_eq!(one.exclusive, two.exclusive);
    assert_eq!(one.exclusive.len(), 1);
}

#[tokio::test]
async fn an_identifier_in_use_is_a_400_whose_text_holds_it() {
    let world = World::new();
    world.register(&amina()).await;
    let other =
        contact("another", [("name", "Other Person"), ("sex", "male"), ("identifier.national", "30445566")]);
    let mut task = world.task(&other, None).unwrap();
    let Outcome::Step(name, number) = world.once(&task).await else { panic!("no number") };
    task.notes.insert(name, number);
    assert_eq!(world.once(&task).await, Outcome::Conflict);
    let uuid = world.register(&contact("third", [("name", "Third Person")])).await;
    let edit = contact("third", [("identifier.national", "30445566")]);
    let reason = world.settle(&edit, Some(&uuid)).await.unwrap_err();
    assert!(!reason.contains("30445566"), "{reason}");
}

#[tokio::test]
async fn the_uuid_of_a_voided_patient_stays_taken() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.server.edit(&uuid, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    let reason = world.settle(&amina(), None).await.unwrap_err();
    assert!(reason.contains("voided"), "{reason}");
    assert!(everybody(&world).is_empty());
}

#[tokio::test]
async fn letter_case_of_identifiers_is_not_compared() {
    let world = World::new();
    let uuid = world.register(&contact("x", [("name", "Rose Debe")])).await;
    let record = world.current(&uuid).await.unwrap();
    let number = fields(&world.connector, &record)["identifier.openmrs"].to_lowercase();
    let found = world.connector.candidates(&Patient::with([("identifier.openmrs", number)])).await.unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn names_and_attributes_hold_50_characters() {
    let world = World::new();
    let long = "A".repeat(51);
    let links = BTreeMap::new();
    let known = Known { now: START, links: &links, current: None, destination: "", key: "k" };
    for (field, value) in
        [("name", format!("{long} Otieno")), ("phone", long.clone()), ("attribute.mother", long.clone())]
    {
        let change = amina_with([("name", "A B"), (field, value.as_str())]);
        let Reject { reason } = world.connector.command(&change, &known).unwrap_err();
        assert!(reason.contains("50") && !reason.contains("AAA"), "{reason}");
    }
}

// Reading errors

#[tokio::test]
async fn a_missing_privilege_hides_in_other_codes() {
    let with = |login: (&str, &str)| {
        let mut config = config();
        (config["user"], config["password"]) = (login.0.into(), login.1.into());
        config
    };
    let world = World::with(with(READER));
    let task = world.task(&amina(), None).unwrap();
    let Outcome::Halt(reason) = world.once(&task).await else { panic!("no halt") };
    assert!(reason.contains("Edit Patient Identifiers"), "{reason}");
    let world = World::with(with(NO_PRIVILEGE));
    for feed in ["pass", "changed", "encounters"] {
        let fault = world.connector.poll(feed, None, 10).await.unwrap_err();
        assert!(matches!(fault, Fault::Halt(reason) if reason.contains("privilege")), "{feed}");
    }
}

#[tokio::test]
async fn a_permanent_failure_comes_as_500() {
    let identifiers = json!({"national": {"type": test_support::openmrs::NATIONAL_ID}});
    let world = World::with(config_with("identifiers", identifiers));
    let reason = world.settle(&amina(), None).await.unwrap_err();
    assert!(reason.contains("required identifier"), "{reason}");
    let world = World::with(config_with("location", "00000000-0000-4000-8000-00000000dead"));
    let reason = world.settle(&amina(), None).await.unwrap_err();
    assert!(reason.contains("unknown there; run `check`"), "{reason}");
}

#[tokio::test]
async fn an_unknown_idgen_source_is_a_500_and_halts() {
    let source = "00000000-0000-4000-8000-00000000dead";
    let identifiers = json!({"openmrs": {"type": test_support::openmrs::OPENMRS_ID, "source": source}});
    let world = World::with(config_with("identifiers", identifiers));
    let reason = world.settle(&amina(), None).await.unwrap_err();
    assert!(reason.starts_with("halt") && reason.contains("identifiers.openmrs"), "{reason}");
}

#[tokio::test]
async fn an_unserved_verb_answers_200() {
    let world = World::new();
    let mut task = world.task(&amina(), None).unwrap();
    let Outcome::Step(name, number) = world.once(&task).await else { panic!("no number") };
    task.notes.insert(name, number);
    let body = json!({"message": "Request method 'PUT' not supported", "stackTrace": []}).to_string();
    let rule = Rule::on("POST", "*/patient", Action::FakeSuccess { code: 200, body }).nth(1);
    world.faults(Plan::default().with(rule));
    assert_eq!(world.once(&task).await, Outcome::Unknown);
    assert!(everybody(&world).is_empty());
}

/// Answers everything with the next of its texts.
#[derive(Debug)]
struct Canned(Mutex<Vec<(u16, &'static str)>>);

#[async_trait]
impl Transport for Canned {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let answer = |status: u16, text: &'static str| {
            let head = http::Response::builder()
                .status(status)
                .header("set-cookie", "JSESSIONID=A; Path=/; HttpOnly");
            head.header("location", "https://elsewhere.test/").body(body_of(text)).unwrap()
        };
        if request.uri().path().ends_with("/session") {
            return Ok(answer(200, r#"{"authenticated":true,"user":{"privileges":[],"roles":[]}}"#));
        }
        let mut left = self.0.lock().unwrap();
        let (status, text) = if left.len() > 1 { left.remove(0) } else { left[0] };
        Ok(answer(status, text))
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let canned = Canned(Mutex::new(vec![(status, "")]));
        let connector = connect(Arc::new(canned), config());
        let fault = connector.fetch(&[RecordId::person("openmrs", "x")]).await.unwrap_err();
        assert!(matches!(fault, Fault::Halt(reason) if reason.contains("redirects")), "{status}");
    }
}

#[tokio::test]
async fn errors_carry_stack_traces_and_values_which_no_reason_repeats() {
    let trace = r#"{"error":{"message":"[names on class org.openmrs.Person => Amina Otieno +254700100001]","code":"x:1",
        "detail":"java.lang.Exception: Amina Otieno\n\tat org.openmrs.Secret.method(Secret.java:1)"}}"#;
    let odd = r#"{"uuid":"x","person":{"gender":{"Amina":1}}}"#;
    for answers in
        [vec![(400, trace)], vec![(500, trace)], vec![(200, odd)], vec![(200, "Amina"), (404, trace)]]
    {
        let connector = connect(Arc::new(Canned(Mutex::new(answers))), config());
        let world = World::new();
        let mut task = world.task(&amina(), None).unwrap();
        task.notes.insert("identifier.openmrs".into(), json!("10006H"));
        let outcome = connector.deliver(&[task]).await.remove(0);
        let fault = connector.fetch(&[RecordId::person("openmrs", "x")]).await;
        let said = format!("{outcome:?} {fault:?}");
        for secret in ["Amina", "Otieno", "2547", "Secret", "10006H"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[tokio::test]
async fn a_session_answers_200_for_a_wrong_password_and_nothing_is_tried_again() {
    let world = World::with(config_with("password", "wrong"));
    let ids = [RecordId::person("openmrs", "x")];
    for _ in 0..5 {
        assert!(matches!(world.connector.fetch(&ids).await, Err(Fault::Halt(_))));
        assert!(matches!(world.connector.poll("pass", None, 10).await, Err(Fault::Halt(_))));
    }
    assert_eq!(world.sent().len(), 1, "each try extends a lock-out");
    world.connector.check().await;
    assert_eq!(world.sent().len(), 2, "a check is a try");
}

#[tokio::test]
async fn a_cookie_that_the_server_does_not_know_is_a_401_even_for_the_right_password() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let cookie = Arc::new(Mutex::new(String::new()));
    let spied = Spied(world.wire.clone(), cookie.clone());
    let connector = connect(Arc::new(spied), config());
    let ids = [RecordId::person("openmrs", &uuid)];
    connector.fetch(&ids).await.unwrap();
    let end = http::Request::delete(format!("{URL}/ws/rest/v1/session"))
        .header("cookie", cookie.lock().unwrap().as_str())
        .body(Bytes::new())
        .unwrap();
    world.wire.server.call(end).await.unwrap();
    world.forget_sent();
    assert!(connector.fetch(&ids).await.unwrap()[0].is_some());
    assert_eq!(world.sent().iter().filter(|s| s.target.ends_with("/session")).count(), 1, "one login anew");
}

/// Looks at the cookie that is sent.
#[derive(Debug)]
struct Spied(Wire, Arc<Mutex<String>>);

#[async_trait]
impl Transport for Spied {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        if let Some(cookie) = request.headers().get("cookie") {
            *self.1.lock().unwrap() = cookie.to_str().unwrap().to_owned();
            assert!(!request.headers().contains_key("authorization"), "no login on each call");
        }
        self.0.send(request).await
    }
}

// Searching

#[tokio::test]
async fn rest_identifier_search_is_fuzzy_so_type_and_value_are_compared() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let near = contact("near", [("name", "Grace Juma"), ("identifier.national", "304455660")]);
    world.register(&near).await;
    // FHIR cannot look it up: a row that it finds is unreadable.
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    let found =
        world.connector.candidates(&Patient::with([("identifier.national", "30445566")])).await.unwrap();
    assert_eq!(found.iter().map(|r| r.id.id.clone()).collect::<Vec<_>>(), [uuid]);
    assert!(world.sent().iter().any(|s| s.target.contains("rest/v1/patient?identifier=")));
}

#[tokio::test]
async fn the_dead_are_left_out_of_a_rest_search_unless_asked_for() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.settle(&amina_with([("deceased", "2026-11-20")]), Some(&uuid)).await.unwrap();
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    let found = world.connector.candidates(&Patient::with([("name", "Amina Otieno")])).await.unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_voided_patient_is_in_no_search_and_reads_200_by_rest_and_410_by_fhir() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.server.edit(&uuid, &ClerkEdit { voided: Some(true), ..ClerkEdit::default() }).unwrap();
    assert!(
        world
            .connector
            .candidates(&Patient::with([("identifier.national", "30445566")]))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(world.current(&uuid).await.unwrap().deleted, "by FHIR");
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    assert!(world.current(&uuid).await.unwrap().deleted, "by REST");
}

// Writing

#[tokio::test]
async fn a_name_without_uuid_would_be_added_so_names_are_edited_in_place() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    for name in ["Amina Juma", "Amina W Juma", "Amina Otieno"] {
        world.settle(&amina_with([("name", name)]), Some(&uuid)).await.unwrap();
        assert_eq!(world.seen(&uuid).names, 1);
    }
}

#[tokio::test]
async fn an_address_is_edited_in_place_and_a_part_can_be_taken_away() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world
        .settle(&amina_with([("address.village", "Boya"), ("address.district", "")]), Some(&uuid))
        .await
        .unwrap();
    let seen = world.seen(&uuid);
    assert_eq!(seen.addresses, 1);
    assert_eq!(seen.address.get("cityVillage").map(String::as_str), Some("Boya"));
    assert!(!seen.address.contains_key("countyDistrict"));
}

#[tokio::test]
async fn a_death_needs_a_cause_and_can_be_taken_back() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.settle(&amina_with([("deceased", "2026-11-20")]), Some(&uuid)).await.unwrap();
    let seen = world.seen(&uuid);
    assert_eq!((seen.dead, seen.death_date.as_deref()), (true, Some("2026-11-20")));
    let record = world.current(&uuid).await.unwrap();
    assert_eq!(fields(&world.connector, &record)["deceased"], "2026-11-20");
    world.settle(&amina_with([("deceased", "")]), Some(&uuid)).await.unwrap();
    assert!(!world.seen(&uuid).dead);
    let without = World::with(config_with("cause_of_death", json!(null)));
    let uuid = without.register(&amina()).await;
    let current = without.current(&uuid).await.unwrap();
    let links = BTreeMap::new();
    let known = Known { now: START, links: &links, current: Some(&current), destination: "", key: "k" };
    let reject = without.connector.command(&amina_with([("deceased", "true")]), &known).unwrap_err();
    assert!(reject.reason.contains("cause_of_death"));
}

#[tokio::test]
async fn an_attribute_can_be_taken_away_and_a_second_one_is_never_added() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.settle(&amina_with([("phone", "")]), Some(&uuid)).await.unwrap();
    assert_eq!(phone(&world.seen(&uuid)), None);
    world.settle(&amina_with([("phone", "+254733")]), Some(&uuid)).await.unwrap();
    world.settle(&amina_with([("phone", "+254744")]), Some(&uuid)).await.unwrap();
    assert_eq!(world.seen(&uuid).attributes["Telephone Number"], ["+254744"]);
}

#[tokio::test]
async fn two_attributes_of_one_type_after_a_race_are_for_a_person_to_mend() {
    let world = World::new();
    let uuid = world.register(&contact("x", [("name", "Rose Debe")])).await;
    world.switch(|s| s.uniqueness_window_ms = 60_000);
    for value in ["+1", "+2"] {
        let body = json!({"attributeType": PHONE_TYPE, "value": value}).to_string();
        let request = http::Request::post(format!("{URL}/ws/rest/v1/person/{uuid}/attribute"))
            .header("authorization", "Basic Y2h0LmNvbm5lY3RvcjpDb25uZWN0b3IxMjM=")
            .header("content-type", "application/json")
            .body(Bytes::from(body))
            .unwrap();
        world.wire.server.call(request).await.unwrap();
    }
    assert_eq!(world.seen(&uuid).attributes["Telephone Number"].len(), 2, "the race left two");
    let record = world.current(&uuid).await.unwrap();
    assert_eq!(fields(&world.connector, &record)["phone"], "+1", "always the same one is read");
    let reason = world.settle(&contact("x", [("phone", "+3")]), Some(&uuid)).await.unwrap_err();
    assert!(reason.contains("phone") && reason.contains("several"), "{reason}");
}

#[tokio::test]
async fn a_second_name_or_address_is_read_alike_by_both_ways() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    let post = async |part: &str, body: Value| {
        let request = http::Request::post(format!("{URL}/ws/rest/v1/person/{uuid}/{part}"))
            .header("authorization", "Basic Y2h0LmNvbm5lY3RvcjpDb25uZWN0b3IxMjM=")
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        assert_eq!(world.wire.server.call(request).await.unwrap().status(), 201);
    };
    for n in 0..6 {
        post("name", json!({"givenName": "Second", "familyName": format!("Name{n}")})).await;
    }
    post("address", json!({"cityVillage": "Second"})).await;
    let by_fhir = world.current(&uuid).await.unwrap();
    let (page, _) = world.drain("pass", None).await;
    world.switch(|s| s.unreadable = vec![uuid.clone()]);
    assert_eq!(world.current(&uuid).await.unwrap().body, by_fhir.body);
    assert_eq!(page.records[0].body, by_fhir.body);
    let shown = fields(&world.connector, &by_fhir);
    assert_eq!(
        (shown["name"].as_str(), shown["address.village"].as_str()),
        ("Amina Wambui Otieno", "Ahero"),
        "the preferred"
    );
}

#[tokio::test]
async fn a_whole_row_write_of_somebody_else_that_loses_ours_is_a_conflict() {
    let world = World::new();
    let uuid = world.register(&amina()).await;
    world.switch(|s| s.lost_update_window_ms = 60_000);
    world.settle(&amina_with([("sex", "other")]), Some(&uuid)).await.unwrap();
    world.switch(|s| s.lost_update_window_ms = 0);
    world.settle(&amina_with([("sex", "male"), ("birth_date", "1990-01-01")]), Some(&uuid)).await.unwrap();
    let seen = world.seen(&uuid);
    assert_eq!(
        (seen.gender.as_deref(), seen.birthdate.as_deref()),
        (Some("M"), Some("1990-01-01")),
        "one write for one row"
    );
}

#[tokio::test]
async fn while_starting_connections_are_refused() {
    let world = World::new();
    let outage = test_support::fault::Outage { from_ms: 0, to_ms: 1_000 };
    world.faults(Plan { outages: vec![outage], ..Plan::default() });
    let fault = world.connector.poll("pass", None, 10).await.unwrap_err();
    assert!(matches!(fault, Fault::Retry { .. }), "no halt: a restart ends by itself");
    assert!(world.connector.check().await.iter().any(|f| !f.ok && f.what == "server"));
    world.wait(2);
    world.connector.poll("pass", None, 10).await.unwrap();
}

//! One test for each surprise of a real CHT that can reach its connector.

use std::collections::BTreeMap;
use std::time::Duration;

use connector_core::change::{Patient, RecordId};
use connector_core::connector::{Known, Outcome};
use serde_json::{Value, json};
use test_support::cht::Sentinel;
use test_support::clock::Clock;
use test_support::fault::{Action, Plan, Rule};

use crate::cht::{BULK, World, arrival, bad, done, patient, task};

const NOW: i64 = 1_767_225_600_000;
const NAME: [(&str, &str); 1] = [("name", "Zuri Test")];

fn text(findings: &[connector_core::connector::Finding], what: &str) -> String {
    findings.iter().find(|f| f.what == what).map(|f| f.text.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_page_with_status_200_while_starting_is_neither_a_write_nor_an_empty_feed() {
    let world = World::new().checked().await;
    let page = Action::Status {
        code: 200,
        headers: BTreeMap::from([("content-type".into(), "text/html".into())]),
        body: "<html><title>Community Health Toolkit is starting</title></html>".into(),
        applied: false,
    };
    world.faults.set(Plan::always(page));
    let command = world.plan_create("u-1", &NAME, NOW);
    assert!(matches!(world.deliver(&command).await, Outcome::Retry { split: false, .. }));
    assert!(world.connector.poll("changes", None, 10).await.is_err());
    assert!(world.connector.now("changes").await.is_err());
    assert!(world.connector.fetch(&[RecordId::person("cht", "x")]).await.is_err());
    assert_eq!(bad(&world.connector.check().await), ["reachable"]);
}

#[tokio::test]
async fn a_starting_cht_is_tried_again() {
    let world = World::new().checked().await;
    world.cht.switch(|s| s.starting = true);
    let command = world.plan_create("u-1", &NAME, NOW);
    assert!(matches!(world.deliver(&command).await, Outcome::Retry { split: false, .. }));
    assert_eq!(bad(&world.connector.check().await), ["reachable"]);
    world.cht.switch(|s| s.starting = false);
    done(world.deliver(&command).await);
}

#[tokio::test]
async fn a_500_with_couchdb_away_is_no_halt_and_no_proof() {
    let world = World::new().checked().await;
    world.cht.switch(|s| s.couchdb_down = true);
    let command = world.plan_create("u-1", &NAME, NOW);
    assert_eq!(world.deliver(&command).await, Outcome::Unknown);
    assert!(matches!(
        world.connector.poll("changes", None, 10).await,
        Err(connector_core::connector::Fault::Retry { .. })
    ));
}

#[tokio::test]
async fn figures_of_minus_one_mean_that_couchdb_is_away() {
    let world = World::new();
    world.cht.switch(|s| s.couchdb_down = true);
    let findings = world.connector.check().await;
    assert!(text(&findings, "reachable").contains("CouchDB"), "{findings:?}");
}

#[tokio::test]
async fn the_release_is_not_the_version_of_the_api_package() {
    assert_eq!(text(&World::new().connector.check().await, "version"), "CHT 5.2.0");
}

#[tokio::test]
async fn a_redirect_to_the_login_page_stops_everything() {
    let world = World::new().checked().await;
    let login = Action::Status {
        code: 302,
        headers: BTreeMap::from([("location".into(), "/medic/login?redirect=x".into())]),
        body: String::new(),
        applied: false,
    };
    world.faults.set(Plan::default().with(Rule::on("POST", BULK, login)));
    assert!(matches!(world.deliver(&world.plan_create("u-1", &NAME, NOW)).await, Outcome::Halt(_)));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_a_call() {
    let world = World::with(json!({"password": "wrong"}));
    assert_eq!(bad(&world.connector.check().await), ["login"]);
    assert_eq!(world.requests("_session"), 1);
    assert!(matches!(
        world.connector.poll("changes", None, 10).await,
        Err(connector_core::connector::Fault::Halt(_))
    ));
    assert_eq!(world.requests("_session"), 2);
}

#[tokio::test]
async fn the_lock_out_of_others_at_the_same_address_does_not_reach_a_session() {
    let world = World::new();
    let call = |path: &str, password: &str| {
        let credentials = if password == "wrong" { "bWVkaWM6d3Jvbmc=" } else { "bWVkaWM6cGFzc3dvcmQ=" };
        let request = http::Request::get(path)
            .header("authorization", format!("Basic {credentials}"))
            .header("accept", "application/json")
            .body(bytes::Bytes::new())
            .unwrap();
        let standin = test_support::fault::InProcess::new(
            world.cht.router(),
            world.faults.clone(),
            world.clock.clone(),
        );
        async move { standin.call(request).await.unwrap().status() }
    };
    for _ in 0..10 {
        assert_eq!(call("/medic/x", "wrong").await, 401);
    }
    assert_eq!(call("/medic/x", "password").await, 429);
    assert_eq!(bad(&world.connector.check().await), Vec::<&str>::new());
}

#[tokio::test]
async fn a_refusal_for_too_many_failures_waits_ten_seconds_without_being_told() {
    let world = World::new().checked().await;
    world.faults.set(Plan::default().with(Rule::on("POST", BULK, Action::too_many(None))));
    let outcome = world.deliver(&world.plan_create("u-1", &NAME, NOW)).await;
    assert!(matches!(outcome, Outcome::Retry { after: Some(wait), .. } if wait == Duration::from_secs(10)));
}

#[tokio::test]
async fn a_session_that_ended_is_renewed_within_the_call() {
    let world = World::new().checked().await;
    world.faults.set(Plan::default().with(Rule::on("POST", BULK, Action::status(401, false)).nth(1)));
    done(world.deliver(&world.plan_create("u-1", &NAME, NOW)).await);
}

#[tokio::test]
async fn an_offline_user_sees_a_part_only_and_is_refused() {
    let findings = World::with(json!({"user": "chw1"})).connector.check().await;
    assert_eq!(bad(&findings), ["user"]);
}

#[tokio::test]
async fn whoever_may_not_write_can_still_read() {
    let world = World::with(json!({"user": "reader"}));
    world.person("p-1", json!({}));
    assert_eq!(world.patients(None).await.0.len(), 1);
    assert_eq!(bad(&world.connector.check().await), ["permission"]);
    assert!(matches!(world.deliver(&world.plan_create("u-1", &NAME, NOW)).await, Outcome::Halt(_)));
}

#[tokio::test]
async fn sentinels_second_revision_makes_a_planned_update_a_conflict_and_the_next_plan_keeps_the_shortcode() {
    let world = World::new().checked().await;
    let first = done(world.deliver(&world.plan_create("u-1", &NAME, NOW)).await);
    let early = world.plan_update(&first, &[("name", "New Name")]).unwrap();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.deliver(&early).await, Outcome::Conflict);
    let now = world.read(&first.id).await.unwrap();
    let shortcode = now.body["patient_id"].clone();
    assert!(shortcode.is_string());
    done(world.deliver(&world.plan_update(&now, &[("name", "New Name")]).unwrap()).await);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.cht.doc(&first.id.id).unwrap()["patient_id"], shortcode);
}

#[tokio::test]
async fn a_shortcode_is_text_and_may_begin_with_zero() {
    let world = World::with(json!({"fields": {"identifier.cht": "patient_id"}}));
    world.person("p-1", json!({"patient_id": "01234"}));
    let (changes, _) = world.patients(None).await;
    assert_eq!(patient(&changes[0]).get("identifier.cht"), Some("01234"));
    let found = world.connector.candidates(&Patient::with([("identifier.cht", "01234")])).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        world.connector.candidates(&Patient::with([("identifier.cht", "1234")])).await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn persons_of_both_generations_of_calls_come_out() {
    let world = World::new();
    world.person("old", json!({}));
    world.person("new", json!({"type": "contact", "contact_type": "person"}));
    let (changes, _) = world.patients(None).await;
    assert_eq!(changes.iter().map(|c| c.source.id.as_str()).collect::<Vec<_>>(), ["old", "new"]);
}

#[tokio::test]
async fn tombstones_with_and_without_fields_are_both_seen() {
    let world = World::new();
    world.person("by-delete", json!({}));
    let id = world.person("by-put", json!({}));
    world.person("a-place", json!({"type": "clinic"}));
    let (_, after) = world.patients(None).await;
    world.cht.delete("by-delete");
    let mut doc = world.cht.doc(&id.id).unwrap();
    doc["_deleted"] = json!(true);
    write(&world, doc).await;
    let mut place = world.cht.doc("a-place").unwrap();
    place["_deleted"] = json!(true);
    write(&world, place).await;
    let (changes, _) = world.patients(Some(&after)).await;
    assert_eq!(changes.iter().map(|c| c.source.id.as_str()).collect::<Vec<_>>(), ["by-delete", "by-put"]);
    assert!(changes.iter().all(|c| patient(c).gone.is_some()));
}

/// Writes a document as another client of the CHT.
async fn write(world: &World, doc: Value) {
    let request = http::Request::post("/medic/_bulk_docs")
        .header("authorization", "Basic bWVkaWM6cGFzc3dvcmQ=")
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(json!({"docs": [doc]}).to_string()))
        .unwrap();
    let standin =
        test_support::fault::InProcess::new(world.cht.router(), world.faults.clone(), world.clock.clone());
    let answer = standin.call(request).await.unwrap();
    assert_eq!(answer.status(), 201);
    let rows: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(rows[0]["ok"], true, "{rows}");
}

#[tokio::test]
async fn places_in_the_feed_are_opaque_and_differ_for_the_same_place() {
    let world = World::new();
    world.person("p-1", json!({}));
    let (_, one) = world.patients(None).await;
    let (_, two) = world.patients(Some(&one)).await;
    assert_ne!(one, two, "the stand-in gives another text for the same place");
    world.person("p-2", json!({}));
    for after in [one, two] {
        assert_eq!(world.patients(Some(&after)).await.0.len(), 1);
    }
}

#[tokio::test]
async fn a_longpoll_without_a_change_gives_the_same_place() {
    let world = World::on(json!({"feed": {"longpoll": "100ms"}}), Clock::real());
    world.cht.switch(|s| s.sentinel = Sentinel::Off);
    world.person("p-1", json!({}));
    let (changes, after) = world.patients(None).await;
    assert_eq!(changes.len(), 1);
    let (none, same) = world.patients(Some(&after)).await;
    assert!(none.is_empty());
    world.person("p-2", json!({}));
    assert_eq!(world.patients(Some(&same)).await.0.len(), 1);
}

#[tokio::test]
async fn a_conflict_is_a_row_of_a_successful_call() {
    let world = World::new().checked().await;
    let id = world.person("p-1", json!({}));
    let stale = world.plan_update(&world.read(&id).await.unwrap(), &[("name", "Mine")]).unwrap();
    world.cht.edit("p-1", json!({"name": "Theirs"}));
    let fresh = world.plan_create("u-2", &NAME, NOW);
    let outcomes = world.connector.deliver(&[task(&stale), task(&fresh)]).await;
    assert_eq!(outcomes[0], Outcome::Conflict);
    done(outcomes[1].clone());
    assert_eq!(world.cht.doc("p-1").unwrap()["name"], "Theirs");
}

#[tokio::test]
async fn a_document_that_only_an_administrator_may_write_spoils_no_other() {
    let world = World::new().checked().await;
    let mut poison = world.plan_create("u-1", &NAME, NOW);
    poison.body["doc"]["type"] = json!("form");
    let good = world.plan_create("u-2", &NAME, NOW);
    let outcomes = world.connector.deliver(&[task(&poison), task(&good)]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Rejected(r) if r.reason.contains("administrator")),
        "{outcomes:?}"
    );
    done(outcomes[1].clone());
}

#[tokio::test]
async fn a_deleted_id_is_free_again_and_yet_nobody_comes_back_unasked() {
    let world = World::new().checked().await;
    let create = world.plan_create("u-1", &NAME, NOW);
    let record = done(world.deliver(&create).await);
    world.pass(Duration::from_secs(1));
    world.cht.delete(&record.id.id);
    assert!(matches!(world.deliver_again(&create).await, Outcome::Rejected(_)));
    let gone = world.read(&record.id).await.unwrap();
    assert!(gone.deleted);
    let change = arrival("u-1", &[("name", "New Name")]);
    let links = BTreeMap::from([(change.source.clone(), record.id.clone())]);
    let known = Known { now: NOW, links: &links, current: Some(&gone), destination: "", key: "k" };
    assert!(world.connector.command(&change, &known).unwrap_err().reason.contains("deleted"));
    assert_eq!(world.cht.doc(&record.id.id), None);
}

#[tokio::test]
async fn fields_that_are_left_out_would_vanish_so_none_is() {
    let world = World::new().checked().await;
    let id = world.person("p-1", json!({"linked_docs": {"x": "y"}, "muted": "2026-01-01T00:00:00.000Z"}));
    let before: Vec<String> = keys(&world.cht.doc("p-1").unwrap());
    let current = world.read(&id).await.unwrap();
    done(world.deliver(&world.plan_update(&current, &[("name", "New Name")]).unwrap()).await);
    assert_eq!(keys(&world.cht.doc("p-1").unwrap()), before);
}

fn keys(doc: &Value) -> Vec<String> {
    doc.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn a_phone_number_may_be_anybodys_and_is_normalised() {
    let world = World::new();
    world.person("one", json!({"phone": "+13125550111"}));
    world.person(
        "two",
        json!({"phone": "+13125550111", "date_of_death": "2026-01-01", "muted": "2026-01-01"}),
    );
    world.cht.edit("centre", json!({"phone": "+13125550111"}));
    let found = async |phone: &str| {
        let found = world.connector.candidates(&Patient::with([("phone", phone)])).await.unwrap();
        found.into_iter().map(|r| r.id.id).collect::<Vec<_>>()
    };
    assert_eq!(
        found("+1 312 555 0111").await,
        ["one", "two"],
        "places are no people; the dead may be the same person"
    );
    assert_eq!(found("+13125550999").await, Vec::<String>::new());
    assert_eq!(found("tel").await, Vec::<String>::new(), "an invalid number is nobody's");
}

#[tokio::test]
async fn a_query_without_an_index_still_finds() {
    let world = World::with(json!({"search": {"scan": true}}));
    world.person("p-1", json!({"name": "Zuri Test", "date_of_birth": "1994-03-02T00:00:00.000Z"}));
    let found = async |name: &str| {
        let person = Patient::with([("name", name), ("birth_date", "1994-03-02")]);
        world.connector.candidates(&person).await.unwrap().len()
    };
    assert_eq!((found("ZURI TEST").await, found("Nobody").await), (1, 0));
}

#[tokio::test]
async fn a_place_that_holds_its_contact_as_a_bare_id_is_a_place() {
    let world = World::new();
    world.cht.edit("area", json!({"contact": "somebody"}));
    assert_eq!(bad(&world.connector.check().await), Vec::<&str>::new());
}

#[tokio::test]
async fn a_person_without_a_place_comes_out_without_one() {
    let world = World::new();
    world.person("p-1", json!({"parent": ""}));
    world.cht.edit("p-2", json!({"type": "person", "name": "B"}));
    let (changes, _) = world.patients(None).await;
    assert_eq!(changes.iter().map(|c| patient(c).get("location")).collect::<Vec<_>>(), [None, None]);
}

#[tokio::test]
async fn unchecked_values_are_absent_instead_of_wrong() {
    let world = World::new();
    world.person("p-1", json!({"phone": 7, "date_of_birth": "not a date", "sex": "?", "date_of_death": 1_767_225_600_000_i64}));
    let (changes, _) = world.patients(None).await;
    let person = patient(&changes[0]);
    assert_eq!((person.get("phone"), person.get("birth_date"), person.get("sex")), (Some("7"), None, None));
    assert_eq!(person.get("deceased"), Some("2026-01-01"));
}

#[tokio::test]
async fn a_silent_sentinel_stops_writes_until_it_catches_up() {
    let world = World::with(json!({"writes": {"backlog": 10, "pause": "30s"}})).checked().await;
    world.cht.switch(|s| s.sentinel = Sentinel::Off);
    for n in 0..20 {
        world.person(&format!("p-{n}"), json!({}));
    }
    let command = world.plan_create("u-1", &NAME, NOW);
    world.faults.reset_log();
    for _ in 0..3 {
        let outcome = world.deliver(&command).await;
        assert!(
            matches!(outcome, Outcome::Retry { after: Some(wait), .. } if wait == Duration::from_secs(30)),
            "{outcome:?}"
        );
    }
    assert_eq!((world.requests("_bulk_docs"), world.requests("monitoring")), (0, 3));
    let findings = world.connector.check().await;
    assert!(text(&findings, "sentinel").contains("writes wait") && bad(&findings).is_empty(), "{findings:?}");
    world.cht.switch(|s| s.sentinel = Sentinel::Fast);
    world.pass(Duration::from_secs(60));
    done(world.deliver(&command).await);
}

#[tokio::test]
async fn documents_that_are_no_contacts_are_left_alone() {
    let world = World::new();
    let (_, after) = world.patients(None).await;
    for (id, kind) in [
        ("a-info", "info"),
        ("task~1", "task"),
        ("target~1", "target"),
        ("org.couchdb.user:x", "user-settings"),
    ] {
        world.cht.edit(id, json!({"type": kind}));
    }
    world.cht.edit("odd", json!({"type": ["person"]}));
    let (changes, next) = world.patients(Some(&after)).await;
    assert!(changes.is_empty());
    assert_ne!(next, after);
}

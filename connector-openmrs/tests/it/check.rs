//! What `check` finds before a patient is at stake.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError};
use connector_core::connector::{Connector, Finding};
use serde_json::{Value, json};
use test_support::openmrs::{ADMIN, COLON, LOCK, NO_PRIVILEGE, READER};

use crate::world::*;

fn by<'a>(findings: &'a [Finding], what: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|f| f.what == what).collect()
}

fn all_well(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.ok && !f.text.starts_with("to mend"))
}

fn user(login: (&str, &str)) -> Value {
    let mut config = config();
    (config["user"], config["password"]) = (login.0.into(), login.1.into());
    config
}

#[tokio::test]
async fn a_good_server_is_well_and_nothing_was_written() {
    let world = World::with(config_with("encounter_types", json!(["d7151f82-c1f3-4152-a605-2f9ea7414a79"])));
    world.server.generate(3, 1);
    let findings = world.connector.check().await;
    assert!(all_well(&findings), "{findings:?}");
    for what in [
        "login",
        "clock",
        "privileges",
        "identifier type",
        "attribute type",
        "location",
        "encounter type",
        "idgen source",
        "reading",
        "links",
        "cause of death",
    ] {
        assert!(!by(&findings, what).is_empty(), "{what} was not looked at");
    }
    assert!(world.sent().iter().all(|s| s.method == "GET"));
}

#[tokio::test]
async fn missing_types_locations_and_concepts_are_named() {
    let nothing = "00000000-0000-4000-8000-00000000dead";
    for (key, value, what) in [
        ("cht_identifier", json!(nothing), "identifier type"),
        ("identifiers", json!({"x": {"type": nothing}}), "identifier type"),
        ("phone", json!(nothing), "attribute type"),
        ("attributes", json!({"x": nothing}), "attribute type"),
        ("encounter_types", json!([nothing]), "encounter type"),
        ("location", json!(nothing), "location"),
        ("cause_of_death", json!(nothing), "cause of death"),
    ] {
        let world = World::with(config_with(key, value));
        let findings = world.connector.check().await;
        let found = by(&findings, what);
        assert!(found.iter().any(|f| !f.ok && f.text.contains(nothing)), "{key}: {findings:?}");
    }
}

#[tokio::test]
async fn what_identifier_types_ask_for_is_told() {
    for (identifiers, told) in [
        (json!({"national": {"type": test_support::openmrs::NATIONAL_ID}}), "required of every patient"),
        (json!({"old": {"type": "8d79403a-c2cc-11de-8d13-0010c6dffd0f"}}), "located: true"),
    ] {
        let world = World::with(config_with("identifiers", identifiers));
        let findings = world.connector.check().await;
        assert!(
            by(&findings, "identifier type").iter().any(|f| !f.ok && f.text.contains(told)),
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn an_idgen_source_that_does_not_serve_is_found_without_taking_a_number() {
    let nothing = "00000000-0000-4000-8000-00000000dead";
    for identifiers in [
        json!({"openmrs": {"type": test_support::openmrs::OPENMRS_ID, "source": nothing}}),
        json!({"national": {"type": test_support::openmrs::NATIONAL_ID, "source": test_support::openmrs::SOURCE}}),
    ] {
        let world = World::with(config_with("identifiers", identifiers));
        let findings = world.connector.check().await;
        assert!(by(&findings, "idgen source").iter().any(|f| !f.ok), "{findings:?}");
        assert!(world.sent().iter().all(|s| s.method == "GET"));
    }
}

#[tokio::test]
async fn too_few_privileges_are_named() {
    let world = World::with(user(READER));
    let findings = world.connector.check().await;
    let found = by(&findings, "privileges");
    assert!(found.iter().any(|f| !f.ok && f.text.contains("Add Patients") && f.text.contains("Edit People")));
    assert!(by(&findings, "privileges checked").iter().all(|f| f.ok && !f.text.starts_with("to mend")));
    let world = World::with(user(NO_PRIVILEGE));
    assert!(world.connector.check().await.iter().any(|f| !f.ok));
    let world = World::with(user(ADMIN));
    assert!(by(&world.connector.check().await, "privileges").iter().all(|f| f.ok));
}

#[tokio::test]
async fn a_server_that_checks_no_privilege_is_told() {
    let world = World::with(user(NO_PRIVILEGE));
    world.switch(|s| s.fhir_checks_no_privilege = true);
    let findings = world.connector.check().await;
    assert!(
        by(&findings, "privileges checked").iter().any(|f| f.text.starts_with("to mend")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_password_with_a_colon_is_found_without_a_try() {
    let world = World::with(user(COLON));
    let findings = world.connector.check().await;
    assert!(by(&findings, "password").iter().any(|f| !f.ok));
    assert!(world.sent().is_empty(), "a try would count towards the lock");
}

#[tokio::test]
async fn a_refused_login_is_one_try_and_a_lock_out_is_named() {
    let world = World::with(user((LOCK.0, "wrong")));
    for _ in 0..8 {
        let findings = world.connector.check().await;
        assert_eq!((findings.len(), findings[0].ok, findings[0].what.as_str()), (1, false, "login"));
    }
    assert_eq!(world.sent().len(), 8);
    let right = world.also(user(LOCK));
    let findings = right.check().await;
    assert!(
        !findings[0].ok && findings[0].text.contains("locked"),
        "the right password is refused in the same words"
    );
    world.wait(360);
    assert!(right.check().await[0].ok);
}

#[tokio::test]
async fn links_with_another_host_are_told_and_do_no_harm() {
    let world = World::new();
    world.server.generate(250, 1);
    world.switch(|s| s.links_origin = Some("http://inner:8080".into()));
    let findings = world.connector.check().await;
    assert!(by(&findings, "links").iter().any(|f| f.ok && f.text.starts_with("to mend")), "{findings:?}");
    let (page, _) = world.drain("pass", None).await;
    assert_eq!(uuids(&page), everybody(&world));
    assert!(world.sent().iter().all(|s| s.target.starts_with(URL)), "no link's host was asked");
}

/// Sets a header of each answer.
#[derive(Debug)]
struct Dated(Wire, Mutex<i64>);

#[async_trait]
impl Transport for Dated {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let mut answer = self.0.send(request).await?;
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(*self.1.lock().unwrap());
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        answer.headers_mut().insert("date", date.parse().unwrap());
        Ok(answer)
    }
}

#[tokio::test]
async fn a_clock_that_is_a_minute_off_is_told() {
    let world = World::new();
    for (off, told) in [(0, false), (70, true), (-70, true)] {
        let connector: Arc<dyn Connector> =
            connect(Arc::new(Dated(world.wire.clone(), Mutex::new(off))), config());
        let findings = connector.check().await;
        assert_eq!(by(&findings, "clock").iter().any(|f| f.text.starts_with("to mend")), told, "{off}");
    }
}

#[tokio::test]
async fn findings_name_nobody() {
    let world = World::new();
    world.register(&amina()).await;
    for finding in world.connector.check().await {
        for secret in ["Amina", "Otieno", "254700", "30445566", "Connector123"] {
            assert!(!finding.text.contains(secret));
        }
    }
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_by_path() {
    use connector_core::config::ConfigReport;
    use connector_core::connector::ConnectorConfig;
    let config = json!({
        "url": "ftp://x/ws", "user": "a:b", "password": "p", "phone": "nothing", "quiet_seconds": 1,
        "address": {"village": "hut"}, "identifiers": {"n": {"type": test_support::openmrs::CHT_ID, "located": true}}
    });
    let config: connector_openmrs::Config = serde_json::from_value(config).unwrap();
    let clock = Arc::new(connector_core::clock::ManualClock::new(0));
    let wiring = connector_core::transport::Wiring::new(clock, Arc::new(|_, _| Err("unused".into())));
    let mut report = ConfigReport::new("partner.openmrs");
    assert!(config.build("openmrs", &wiring, &mut report).is_none());
    let paths: Vec<_> = report.problems().iter().map(|p| p.path.as_str()).collect();
    for path in ["url", "user", "phone", "quiet_seconds", "address.village", "identifiers.n.type", "location"]
    {
        assert!(paths.contains(&format!("partner.openmrs.{path}").as_str()), "{path}: {paths:?}");
    }
}

#[test]
fn the_example_is_a_configuration_and_a_password_is_never_shown() {
    let text = include_str!("../../example.yaml");
    let example: Value = serde_saphyr::from_str(text).unwrap();
    let config: connector_openmrs::Config = serde_json::from_value(example["openmrs"].clone()).unwrap();
    assert!(!format!("{config:?}").contains("change-me"));
    assert!(
        serde_json::from_value::<connector_openmrs::Config>(
            json!({"url": "x", "user": "u", "password": "p", "pasword": 1})
        )
        .is_err()
    );
}

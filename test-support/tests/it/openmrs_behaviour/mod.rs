//! What the recordings of OpenMRS say in words and no single exchange shows, and what the switches add.

mod quirks;
mod standin;
mod switches;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use test_support::{
    clock::Clock,
    openmrs::{CHT_ID, CONNECTOR, LOCATION, OPENMRS_ID, OpenMrs, Options, Switches, TELEPHONE, idgen},
};
use tower::ServiceExt;

/// 2026-11-24T11:48:00Z.
const START: i64 = 1_795_520_880_000;

struct World {
    mrs: Arc<OpenMrs>,
    router: Router,
    clock: Clock,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl World {
    fn new() -> Self {
        Self::with(Switches::default())
    }

    fn with(switches: Switches) -> Self {
        let clock = Clock::manual(START);
        Self::of(OpenMrs::new(Options { seed: 7, switches }, clock.clone()), clock)
    }

    fn of(mrs: Arc<OpenMrs>, clock: Clock) -> Self {
        Self { router: mrs.router(), mrs, clock }
    }

    fn wait(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    fn switch(&self, set: impl FnOnce(&mut Switches)) {
        let mut switches = self.mrs.switches();
        set(&mut switches);
        self.mrs.set_switches(switches);
    }

    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &Value) -> Got {
        let text = match body {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut request =
            Request::builder().method(method).uri(target.replace(' ', "%20").replace('|', "%7C"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(text)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = || String::from_utf8_lossy(&body).into_owned().into();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap_or_else(|_| text())
        };
        Got { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn rest(&self, method: &str, path: &str, body: Value) -> Got {
        let login = login(CONNECTOR);
        let headers = [("authorization", login.as_str()), ("content-type", "application/json")];
        self.ask(method, &format!("/openmrs/ws/rest/v1/{path}"), &headers, &body).await
    }

    async fn fhir(&self, method: &str, path: &str, body: Value) -> Got {
        let login = login(CONNECTOR);
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/fhir+json" };
        let headers = [("authorization", login.as_str()), ("content-type", kind)];
        self.ask(method, &format!("/openmrs/ws/fhir2/R4{path}"), &headers, &body).await
    }

    /// Creates the `n`th patient; the answer is 201.
    async fn create(&self, n: u64) -> String {
        let got = self.rest("POST", "patient", patient(n)).await;
        assert_eq!(got.status, 201, "{}", got.body);
        uuid_of(n)
    }

    async fn stamp(&self, n: u64) -> String {
        let read = self.fhir("GET", &format!("/Patient/{}", uuid_of(n)), Value::Null).await;
        read.body["meta"]["lastUpdated"].as_str().unwrap().to_owned()
    }
}

fn login((user, password): (&str, &str)) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn uuid_of(n: u64) -> String {
    format!("aaaaaaaa-0000-4000-8000-{n:012}")
}

fn openmrs_id(n: u64) -> String {
    idgen::from_sequence(900_000 + n, idgen::BASE_30)
}

fn cht_id(n: u64) -> String {
    format!("0b7e5a10-5c1d-4e0f-9a3b-{n:012}")
}

/// A body that creates the `n`th patient.
fn patient(n: u64) -> Value {
    json!({
        "identifiers": [
            {"identifier": openmrs_id(n), "identifierType": OPENMRS_ID, "location": LOCATION, "preferred": true},
            {"identifier": cht_id(n), "identifierType": CHT_ID},
        ],
        "person": {
            "uuid": uuid_of(n),
            "names": [{"givenName": "Naomi", "familyName": format!("Chebet{n}"), "preferred": true}],
            "gender": "F",
            "birthdate": "1994-03-12",
            "addresses": [{"preferred": true, "cityVillage": "Ahero", "country": "Kenya"}],
            "attributes": [{"attributeType": TELEPHONE, "value": "+254700100020"}],
        },
    })
}

fn entries(bundle: &Value) -> Vec<&str> {
    let entries = bundle["entry"].as_array().map_or(&[][..], Vec::as_slice);
    entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap()).collect()
}

/// The path and query of a page link below the base.
fn next(bundle: &Value) -> Option<String> {
    let link = bundle["link"].as_array()?.iter().find(|link| link["relation"] == "next")?;
    let (_, tail) = link["url"].as_str()?.split_once("/R4")?;
    Some(tail.to_owned())
}

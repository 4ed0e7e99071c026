//! The conformance suite over the OpenMRS stand-in.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use conformance::{Configured, Harness, StandIn, configured};
use connector_core::change::{Body, Change, Flow, Patient, RecordId};
use connector_openmrs::Config;
use serde_json::{Value, json};
use test_support::clock::Clock;
use test_support::fault::Action;
use test_support::openmrs::{OpenMrs, Options};

use super::world;

/// Phones of the suite's people: this and the mark.
const PHONE: &str = "+25479900";

struct Server(Arc<OpenMrs>);

impl StandIn for Server {
    fn router(&self) -> Router {
        self.0.router()
    }

    fn writes(&self) -> (&'static str, &'static str) {
        ("POST", "*/patient")
    }

    fn refusal(&self) -> Action {
        let body = json!({ "error": {
            "message": "Invalid Submission", "code": "webservices.rest.error.invalid.submission",
            "fieldErrors": { "birthdate": [{ "code": "error.date", "message": "Birthdate is not valid" }] },
        } });
        Action::Status { code: 400, headers: BTreeMap::new(), body: body.to_string(), applied: false }
    }

    fn effects(&self) -> Vec<u32> {
        let patients = self.0.patients();
        let there = patients.iter().filter(|p| !p.voided);
        there.filter_map(|p| world::phone(p)?.strip_prefix(PHONE)?.parse().ok()).collect()
    }
}

struct Suite;

impl Harness for Suite {
    fn example(&self) -> &str {
        include_str!("../../example.yaml")
    }

    fn parse(&self, section: Value) -> Result<Configured, String> {
        configured::<Config>(section)
    }

    fn adjust(&self, section: &mut Value) {
        *section = world::config();
        section["timeout_seconds"] = json!(4);
        section["quiet_seconds"] = json!(4);
    }

    fn stand_in(&self, clock: &Clock) -> Box<dyn StandIn> {
        Box::new(Server(OpenMrs::new(Options::default(), clock.clone())))
    }

    fn change(&self, _: Flow, source: RecordId, _: RecordId, mark: u32) -> Change {
        let phone = format!("{PHONE}{mark}");
        let born = format!("19{:02}-03-12", 50 + mark);
        let given = ["Amina", "Beatrice", "Charity", "Dorcas", "Esther"];
        let name = format!("{} Otieno", given[mark as usize % given.len()]);
        let fields = [("name", name.as_str()), ("sex", "female"), ("birth_date", &born), ("phone", &phone)];
        Change::state(source, Body::Patient(Patient::with(fields)))
    }
}

conformance::conformance!(Suite);

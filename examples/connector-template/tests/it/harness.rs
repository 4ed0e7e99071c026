//! The connector and the sink that it is checked against.

use std::sync::Arc;

use axum::Router;
use conformance::{Configured, Harness, StandIn, configured};
use connector_core::change::{Body, Change, Flow, Message, RecordId};
use connector_template::Config;
use serde_json::{Value, json};
use test_support::clock::Clock;
use test_support::sink::{Effect, Options};

/// Over the plain sink.
pub struct Sink;

impl Harness for Sink {
    fn example(&self) -> &str {
        include_str!("../../example.yaml")
    }

    fn parse(&self, section: Value) -> Result<Configured, String> {
        configured::<Config>(section)
    }

    fn adjust(&self, section: &mut Value) {
        section["quiet_seconds"] = json!(4);
    }

    fn stand_in(&self, clock: &Clock) -> Box<dyn StandIn> {
        let options = Options { keep_bodies: true, ..Options::default() };
        Box::new(Server(test_support::sink::Sink::new(options, clock.clone())))
    }

    fn change(&self, flow: Flow, source: RecordId, subject: RecordId, mark: u32) -> Change {
        match flow {
            Flow::Messaging => {
                let text =
                    Message::Text { to: subject.clone(), phone: "0700000000".into(), text: mark.to_string() };
                Change::once(source, "text", subject, Body::Message(text))
            }
            _ => Change {
                subject,
                ..Change::state(source, Body::Document(json!({ "text": mark.to_string() })))
            },
        }
    }
}

struct Server(Arc<test_support::sink::Sink>);

impl StandIn for Server {
    fn router(&self) -> Router {
        self.0.router()
    }

    fn writes(&self) -> (&'static str, &'static str) {
        ("POST", "*")
    }

    fn effects(&self) -> Vec<u32> {
        let marked = |effect| match effect {
            Effect::Delivery { body, .. } => {
                let body: Value = serde_json::from_str(&body).ok()?;
                body["text"].as_str()?.parse().ok()
            }
            Effect::Key { .. } => None,
        };
        self.0.effects().into_iter().filter_map(marked).collect()
    }
}

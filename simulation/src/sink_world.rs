//! A CHT whose documents go to a plain sink, and whose reports each send one text.
//!
//! Documents are `Safe`, texts are `Once` with `Confirm`: sending a text twice shows. Reports are revised by hand and
//! by sentinel; the text of each report must be sent once all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use connector_core::change::{Body, Change, Flow, Message, Record, RecordId};
use connector_core::cht::ChtConfig;
use connector_core::config::ConfigReport;
use connector_core::connector::{
    Capabilities, Connector, ConnectorConfig, Destination, Fault, Finding, Page, Reject,
};
use connector_core::store::Store;
use connector_core::transport::Wiring;
use connector_template::Config as TemplateConfig;
use serde_json::{Value, json};
use test_support::cht::{Cht, Options as ChtOptions};
use test_support::clock::Clock;
use test_support::fault::{Action, Faults, InProcess, Plan, Rule};
use test_support::sink::{Effect, Options as SinkOptions, Sink};

use crate::engine::{Engine, Setup, SimClock};
use crate::points::Points;
use crate::run::{World, open_reviews};
use crate::wire::Wire;

/// The CHT connector, with one text for each report of form `text`.
struct WithTexts(Arc<dyn Connector>);

#[async_trait]
impl Connector for WithTexts {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.0.capabilities();
        capabilities.gives.push(Flow::Messaging);
        capabilities
    }
    async fn check(&self) -> Vec<Finding> {
        self.0.check().await
    }
    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.0.poll(feed, after, limit).await
    }
    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.0.fetch(ids).await
    }
    fn destinations(&self, _: &Change) -> Result<Vec<Destination>, Reject> {
        Ok(vec![])
    }
    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        let mut changes = self.0.changes(record)?;
        if record.body["form"] == "text" && !record.deleted {
            let to = RecordId::person("cht", record.body["to"].as_str().unwrap_or_default());
            let text = record.body["words"].as_str().unwrap_or_default().to_owned();
            let message = Message::Text { to: to.clone(), phone: "0700000000".into(), text };
            let mut change = Change::once(record.id.clone(), "text", to, Body::Message(message));
            change.needs.clear();
            changes.push(change);
        }
        Ok(changes)
    }
}

/// The stand-ins and what was typed into them.
pub struct SinkWorld {
    /// Time.
    pub clock: SimClock,
    /// The CHT.
    pub cht: Arc<Cht>,
    /// The sink.
    pub sink: Arc<Sink>,
    cht_wire: InProcess,
    sink_wire: InProcess,
    texts: Vec<String>,
    newest: BTreeMap<String, u64>,
}

/// Milliseconds since 1970 at which every world begins.
pub const START: i64 = 1_790_000_000_000;

impl SinkWorld {
    /// A world whose sink has mishaps on this share of its requests, by seed.
    pub fn new(seed: u64, mishaps: f64) -> Self {
        let clock = Clock::manual(START);
        let cht = Cht::new(ChtOptions::default(), clock.clone());
        let sink = Sink::new(
            SinkOptions {
                keep_bodies: true,
                id_pointer: Some("/_id".into()),
                seq_pointer: Some("/n".into()),
                ..SinkOptions::default()
            },
            clock.clone(),
        );
        let faults = match mishaps > 0.0 {
            true => Faults::new(Plan::mishaps(seed, mishaps, Some("POST"), None, 2_000)),
            false => Faults::none(),
        };
        Self {
            cht_wire: InProcess::new(cht.router(), Faults::none(), clock.clone()),
            sink_wire: InProcess::new(sink.router(), faults, clock.clone()),
            clock: SimClock(clock),
            cht,
            sink,
            texts: vec![],
            newest: BTreeMap::new(),
        }
    }

    /// A world whose sink applies half of what it is sent only after the sender has given up.
    pub fn late(seed: u64) -> Self {
        let world = Self::new(seed, 0.0);
        let late =
            Rule { probability: 0.5, ..Rule::on("POST", "*/records", Action::ApplyLater { ms: 2_500 }) };
        world.faults().set(Plan { seed, ..Plan::default() }.with(late));
        world
    }

    /// The mishaps of the sink, with their log.
    pub fn faults(&self) -> &Faults {
        self.sink_wire.faults()
    }

    /// The next revision of one of a few documents, or of one of a few reports that each send a text.
    pub fn next_revision(&mut self, report: bool, which: u8) {
        let id = if report { format!("text-{which}") } else { format!("doc-{which}") };
        let n = self.newest.get(&id).map_or(1, |n| n + 1);
        if report && n == 1 {
            self.texts.push(id.clone());
        }
        let form = if report { "text" } else { "plain" };
        let doc =
            json!({ "type": "data_record", "form": form, "to": format!("p{}", which % 2), "words": "come" });
        self.write(&id, doc, n);
    }

    fn write(&mut self, id: &str, mut doc: Value, n: u64) {
        doc["_id"] = json!(id);
        doc["n"] = json!(n);
        doc["reported_date"] = json!(START);
        self.cht.edit(id, doc);
        self.newest.insert(id.to_owned(), n);
    }
}

#[async_trait]
impl World for SinkWorld {
    fn clock(&self) -> &SimClock {
        &self.clock
    }

    async fn engine(&self, store: Store, points: Arc<Points>, setup: &Setup) -> Engine {
        let (cht_wire, sink_wire, p) = (self.cht_wire.clone(), self.sink_wire.clone(), points.clone());
        let believes = setup.believes;
        let wiring = Wiring::new(
            Arc::new(self.clock.clone()),
            Arc::new(move |name, _| {
                let to = if name == "cht" { cht_wire.clone() } else { sink_wire.clone() };
                Ok(Arc::new(Wire::new(to, p.clone(), believes && name != "cht")) as _)
            }),
        );
        let mut report = ConfigReport::default();
        let cht: ChtConfig = serde_json::from_value(json!({
            "url": "http://cht.example", "user": "medic", "password": "password",
            "documents": ["data_record"], "feed": { "every": "1s" }, "create": { "people": false },
        }))
        .expect("the CHT's configuration parses");
        let cht = cht.build("cht", &wiring, &mut report);
        let sink: TemplateConfig = serde_json::from_value(
            json!({ "url": "http://sink.example", "quiet_seconds": 3, "concurrency": 8 }),
        )
        .expect("the sink's configuration parses");
        let sink = sink.build("sink", &wiring, &mut report);
        let (Some(cht), Some(sink)) = (cht, sink) else { panic!("configuration: {:?}", report.problems()) };
        Engine::start(store, &self.clock, Arc::new(WithTexts(cht)), ("sink", sink), points, setup).await
    }

    async fn script(&mut self, t: u64) {
        if t < 4 {
            for i in 0..2 {
                let id = format!("text-{t}-{i}");
                self.write(
                    &id,
                    json!({ "type": "data_record", "form": "text", "to": format!("p{i}"), "words": t }),
                    1,
                );
                self.texts.push(id);
            }
        }
        if t == 1 || t == 2 {
            for n in 1..=3 {
                self.write(&format!("doc-{t}"), json!({ "type": "data_record", "form": "plain" }), n);
            }
        }
        if (2..6).contains(&t) {
            // A report is revised: its text is not sent again.
            self.write(
                "text-0-0",
                json!({ "type": "data_record", "form": "text", "to": "p0", "words": 0 }),
                t,
            );
            self.write("doc-1", json!({ "type": "data_record", "form": "plain" }), 10 + t);
        }
    }

    fn quiet_after(&self) -> u64 {
        8
    }

    async fn wrong(&self, store: &Store) -> Vec<String> {
        let in_review = open_reviews(store).await.len();
        let mut out = vec![];
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for effect in self.sink.effects() {
            let Effect::Delivery { key, body, .. } = effect else { continue };
            let body: Value = serde_json::from_str(&body).unwrap_or_default();
            if let Some(id) = body["_id"].as_str() {
                let n = body["n"].as_u64().unwrap_or_default();
                let before = last.insert(id.to_owned(), n).unwrap_or(0);
                if n < before {
                    out.push(format!("{id}: {n} after {before}"));
                }
            } else {
                *times.entry(key.unwrap_or_default()).or_default() += 1;
            }
        }
        for (key, n) in &times {
            if *n > 1 {
                out.push(format!("text {key} sent {n} times"));
            }
        }
        if times.len() + in_review < self.texts.len() {
            out.push(format!("{} of {} texts sent, {in_review} in review", times.len(), self.texts.len()));
        }
        if times.len() > self.texts.len() {
            out.push(format!("{} texts sent for {} reports", times.len(), self.texts.len()));
        }
        for (id, n) in &self.newest {
            if last.get(id) != Some(n) {
                out.push(format!("{id}: newest is {n}, the sink holds {:?}", last.get(id)));
            }
        }
        out
    }
}

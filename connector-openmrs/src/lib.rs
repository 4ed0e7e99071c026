//! OpenMRS as a [`Connector`]: patients, both ways.
//!
//! Reads with FHIR2 (`_summary=data`) and, where that fails for a row, with REST; writes with REST under patient uuids of
//! its own. The README says what a site needs; `docs/adr/0006-openmrs-without-fhir-sdk.md` why no FHIR library is used.

mod answer;
mod changes;
mod check;
mod client;
mod command;
mod config;
mod deliver;
mod edit;
mod feeds;
mod fhir;
mod normal;
mod reads;
#[cfg(test)]
mod recorded;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_core::change::{Change, Flow, Patient, Record, RecordId, field};
use connector_core::connector::{
    Capabilities, Command, Confirmed, Connector, Destination, Fault, Feed, Finding, Known, Outcome, Page,
    Reject, Task, one_by_one,
};
use tokio::sync::Mutex;

pub use command::{NAMESPACE, patient_uuid};
pub use config::{CHT_IDENTIFIER, Config, Identifier};

use client::Client;
use normal::{Types, fold};

/// Longer than the lock-out of five minutes, which every try extends.
const PROBE: Duration = Duration::from_secs(6 * 60);

/// One OpenMRS server.
struct OpenMrs {
    name: String,
    config: Config,
    client: Client,
    types: Mutex<Option<Arc<Types>>>,
}

impl OpenMrs {
    fn new(name: &str, config: Config, client: Client) -> Self {
        Self { name: name.to_owned(), config, client, types: Mutex::new(None) }
    }
}

#[async_trait]
impl Connector for OpenMrs {
    fn capabilities(&self) -> Capabilities {
        let config = &self.config;
        let feed = |name: &str, seconds, whole| Feed {
            name: name.into(),
            every: Duration::from_secs(seconds),
            whole,
        };
        let mut holds =
            vec![field::NAME.to_owned(), field::SEX.into(), field::BIRTH_DATE.into(), field::PHONE.into()];
        holds.extend(config.cause_of_death.iter().map(|_| field::DECEASED.to_owned()));
        holds.extend(config.attributes.keys().map(|name| format!("{}{name}", field::ATTRIBUTE)));
        holds.extend(config.address.keys().map(|part| format!("{}{part}", field::ADDRESS)));
        holds.extend(config.identifiers.keys().map(|name| format!("{}{name}", field::IDENTIFIER)));
        Capabilities {
            gives: vec![Flow::Patients],
            takes: vec![Flow::Patients],
            feeds: vec![
                feed(feeds::PASS, config.pass_seconds, true),
                feed(feeds::CHANGED, config.changes_seconds, false),
                feed(feeds::ENCOUNTERS, config.encounters_seconds, false),
            ],
            batch: 1,
            concurrency: config.concurrency,
            rate: config.rate,
            quiet: Duration::from_secs(config.quiet_seconds),
            probe: PROBE,
            holds,
            creates_people: config.create_people,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        self.examine().await
    }

    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.next_page(feed, after, limit).await
    }

    async fn now(&self, feed: &str) -> Result<Option<String>, Fault> {
        self.here(feed).await
    }

    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.read_all(ids).await
    }

    async fn candidates(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        self.like(person).await
    }

    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        changes::changes(record, &self.config)
    }

    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        let connector_core::change::Body::Patient(patient) = &change.body else { return Ok(vec![]) };
        let named = |(name, value): (&str, &str)| {
            let identifier = self.config.identifiers.get(name)?;
            let value = fold(value);
            (!value.is_empty()).then(|| format!("{}|{value}", identifier.kind))
        };
        Ok(vec![Destination {
            name: String::new(),
            exclusive: patient.identifiers().filter_map(named).collect(),
        }])
    }

    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        command::command(change, known, &self.config)
    }

    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        one_by_one(tasks, |task| self.carry_out(task)).await
    }

    async fn confirm(&self, task: &Task) -> Result<Confirmed, Fault> {
        self.ask(task).await
    }
}

//! The CHT as a [`Connector`], over `cht-core-client`.
//!
//! Out of it come people, by the complete and ordered changes feed, and whole documents. Into it go people, as contacts
//! with ids of our own, by `_bulk_docs` only: a small CHT takes some 300 documents a second that way and tens one by one.
//! Every write can be repeated: its id and revision are fixed when it is planned.
//!
//! It does not read reports into the other flows, and it never deletes, merges or moves a contact.

mod changes;
mod check;
mod command;
mod config;
mod deliver;
mod feeds;
mod fields;
mod pace;
mod place;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use cht_core_client::ChtClient;

pub use command::CONTACT_NAMESPACE;
pub use config::{ChtConfig, Create, ExternalId, FeedOptions, Http, Search, Writes};
pub use place::{PlaceRule, Placement};

use crate::change::{Body, Change, Flow, Patient, Record, RecordId, field};
use crate::connector::{
    Capabilities, Command, Confirmed, Connector, Destination, Fault, Feed, Finding, Known, Outcome, Page,
    Reject, Task,
};
use changes::Shape;
use command::Planner;
use fields::folded;
use pace::Pace;
use place::Places;

/// One configured CHT.
struct Cht {
    client: ChtClient,
    shape: Shape,
    create: Create,
    placement: Placement,
    search: Search,
    feed: FeedOptions,
    writes: Writes,
    http: Http,
    pace: Pace,
    /// Changes in the next answer: fewer after one that was too long.
    page: AtomicUsize,
    /// Whether it is reached over TLS.
    encrypted: bool,
    /// What the last check found.
    places: RwLock<Arc<Places>>,
}

impl fmt::Debug for Cht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cht").field("system", &self.shape.system).finish_non_exhaustive()
    }
}

impl Cht {
    fn places(&self) -> Arc<Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Connector for Cht {
    fn capabilities(&self) -> Capabilities {
        let mut gives = vec![Flow::Patients];
        if !self.shape.documents.is_empty() {
            gives.push(Flow::Documents);
        }
        Capabilities {
            gives,
            takes: vec![Flow::Patients],
            feeds: vec![Feed { name: feeds::FEED.to_owned(), every: self.feed.every, whole: false }],
            batch: self.writes.batch,
            concurrency: self.http.concurrency,
            rate: (self.http.rate > 0).then_some(self.http.rate),
            quiet: self.writes.quiet,
            probe: self.http.probe,
            holds: self.shape.fields.writable(),
            creates_people: self.create.people,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        self.look_around().await
    }

    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        match feed {
            feeds::FEED => self.read_feed(after, limit).await,
            _ => Err(Fault::Unsupported),
        }
    }

    async fn now(&self, feed: &str) -> Result<Option<String>, Fault> {
        match feed {
            feeds::FEED => self.present_place().await.map(Some),
            _ => Err(Fault::Unsupported),
        }
    }

    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.read(ids).await
    }

    async fn candidates(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        self.look_for(person).await
    }

    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        self.shape.changes(record)
    }

    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        let Body::Patient(person) = &change.body else { return Ok(vec![]) };
        let exclusive = person
            .identifiers()
            .map(|(name, value)| format!("{}{name} {}", field::IDENTIFIER, folded(value)));
        Ok(vec![Destination { name: String::new(), exclusive: exclusive.collect() }])
    }

    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        let places = self.places();
        let planner =
            Planner { shape: &self.shape, create: &self.create, placement: &self.placement, places: &places };
        planner.command(change, known)
    }

    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        self.write(tasks).await
    }

    async fn confirm(&self, task: &Task) -> Result<Confirmed, Fault> {
        self.settle(task).await
    }
}

//! `dry-run`: both systems are read into a store in memory and everything is planned; what would be sent is counted.
//!
//! Two locks keep it from writing: the connectors that it runs have no `deliver`, and the transport below them lets
//! nothing through but reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, TransportErrorKind};
use serde_json::{Value, json};

use super::run::{Prepared, transport};
use super::{Failure, progress};
use crate::change::{Change, Patient, Record, RecordId};
use crate::config::{Built, load};
use crate::connector::{
    Capabilities, Command, Confirmed, Connector, ConnectorConfig, Destination, Fault, Finding, Known,
    Outcome, Page, Reject, Task,
};
use crate::http::endpoint::Endpoint;
use crate::outbox::Totals;
use crate::reconcile::Side;
use crate::runtime::{Begin, Bridge, BridgeOptions, Polled, System};
use crate::store::{Place, Store, StoreOptions};
use crate::transport::Wiring;

/// What a POST may end in and still be a read.
const READS: [&str; 6] = ["_all_docs", "_find", "_changes", "_bulk_get", "_session", "hydrate"];
/// Rounds without anything to plan after which planning is over.
const QUIET: u32 = 3;

/// Lets reads through.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Transport>);

fn is_read(method: &http::Method, path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match *method {
        http::Method::GET | http::Method::HEAD | http::Method::OPTIONS => true,
        http::Method::POST => READS.contains(&last),
        _ => false,
    }
}

#[async_trait]
impl Transport for ReadOnly {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        if is_read(request.method(), request.uri().path()) {
            return self.0.send(request).await;
        }
        Err(TransportErrorKind::TooLate.into())
    }
}

/// Wiring that gives every connector a transport for reads alone.
fn read_only(prepared: &Prepared) -> Wiring {
    let make = |_: &str, options: &_| {
        transport(options).map(|inner| Arc::new(ReadOnly(inner)) as Arc<dyn Transport>)
    };
    Wiring::new(prepared.clock.clone(), Arc::new(make))
}

/// A connector that counts what it is given to send.
struct Counting {
    inner: Arc<dyn Connector>,
    count: Arc<AtomicUsize>,
}

#[async_trait]
impl Connector for Counting {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn check(&self) -> Vec<Finding> {
        self.inner.check().await
    }

    async fn poll(&self, feed: &str, after: Option<&str>, limit: usize) -> Result<Page, Fault> {
        self.inner.poll(feed, after, limit).await
    }

    async fn now(&self, feed: &str) -> Result<Option<String>, Fault> {
        self.inner.now(feed).await
    }

    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        self.inner.fetch(ids).await
    }

    async fn candidates(&self, person: &Patient) -> Result<Vec<Record>, Fault> {
        self.inner.candidates(person).await
    }

    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        self.inner.changes(record)
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        vec![]
    }

    fn destinations(&self, change: &Change) -> Result<Vec<Destination>, Reject> {
        self.inner.destinations(change)
    }

    fn command(&self, change: &Change, known: &Known<'_>) -> Result<Option<Command>, Reject> {
        self.inner.command(change, known)
    }

    async fn deliver(&self, tasks: &[Task]) -> Vec<Outcome> {
        self.count.fetch_add(tasks.len(), Ordering::Relaxed);
        tasks.iter().map(|_| Outcome::Rejected(Reject::new("would be sent"))).collect()
    }

    async fn confirm(&self, _: &Task) -> Result<Confirmed, Fault> {
        Ok(Confirmed::Unclear)
    }
}

/// Plans everything that the first `limit` records of each feed lead to.
pub(super) async fn dry_run<C: ConnectorConfig>(prepared: &Prepared, limit: usize) -> Result<Value, Failure> {
    let loaded = load::<C>(&prepared.sources, &read_only(prepared)).map_err(Failure::from_problems)?;
    let mut out = vec![];
    for built in loaded.bridges {
        out.push(one(prepared, built, limit).await?);
    }
    Ok(json!({ "bridges": out }))
}

async fn one(prepared: &Prepared, built: Built, limit: usize) -> Result<Value, Failure> {
    let store =
        Store::open(&StoreOptions { place: Place::Memory, key: None }, prepared.clock.clone()).await?;
    let counts = [Side::Cht, Side::Partner].map(|side| (side, Arc::new(AtomicUsize::new(0))));
    let [cht, partner] =
        [(built.cht, &counts[0]), (built.partner, &counts[1])].map(|((name, inner), (side, count))| {
            System::new(name, *side, Arc::new(Counting { inner, count: count.clone() }))
        });
    let options = BridgeOptions {
        policies: built.policies,
        begin: Begin::Everything,
        page: built.tuning.page.min(limit.max(1)),
        ..BridgeOptions::default()
    };
    let bridge = Bridge::new(built.name, store, prepared.clock.clone(), cht, partner, options);
    for (side, _) in &counts {
        if !bridge.ready(*side).await? {
            let system = &bridge.system(*side).name;
            return Err(Failure(1, format!("{}: {system} is not ready; `check` says why", bridge.name)));
        }
    }
    let bar = progress("records read");
    for (side, _) in &counts {
        for feed in bridge.system(*side).capabilities.feeds.clone() {
            let mut read = 0;
            while read < limit {
                match bridge.poll(*side, &feed).await? {
                    Polled::Read { changed, more } => {
                        read += changed;
                        bar.inc(changed as u64);
                        if !more {
                            break;
                        }
                    }
                    Polled::NotDue(_) => break,
                }
            }
        }
        while bridge.refresh(*side).await? > 0 {}
    }
    bar.set_message("rows planned");
    bar.set_position(0);
    let mut quiet = 0;
    while quiet < QUIET {
        let mut planned = 0;
        for (side, _) in &counts {
            planned += bridge.work(*side).await?;
        }
        bar.inc(planned as u64);
        quiet = if planned == 0 { quiet + 1 } else { 0 };
        if planned == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    bar.finish_and_clear();
    let totals = bridge.store().read(Totals).await?;
    let mut systems = vec![];
    for (side, count) in &counts {
        let (name, sent) = (&bridge.system(*side).name, count.load(Ordering::Relaxed));
        let rows = |state: &str| {
            let found = totals.iter().find(|t| t.target == *name && t.state == state);
            found.map_or(0, |t| t.rows)
        };
        systems.push(json!({
            "system": name,
            "would_be_sent": sent,
            "waiting": rows("waiting"),
            "in_review": rows("review"),
            "dead": rows("dead") - i64::try_from(sent).unwrap_or(0),
            "unreadable": rows("unreadable"),
        }));
    }
    Ok(json!({ "bridge": bridge.name, "systems": systems }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_known_by_method_and_the_last_part_of_its_path() {
        for path in ["/medic/_all_docs", "/medic/_find", "/api/v1/hydrate", "/_session", "/medic/_changes/"] {
            assert!(is_read(&http::Method::POST, path), "{path}");
        }
        for path in ["/medic", "/medic/_bulk_docs", "/api/v1/people", "/_find/x", "/", ""] {
            assert!(!is_read(&http::Method::POST, path), "{path}");
        }
        assert!(is_read(&http::Method::GET, "/anything"));
        for method in [http::Method::PUT, http::Method::DELETE, http::Method::PATCH] {
            assert!(!is_read(&method, "/medic/_find"));
        }
    }
}

//! A connector that panics ends none of the bridge's loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use connector_core::change::{Change, Flow, Record, RecordId};
use connector_core::clock::SystemClock;
use connector_core::connector::{Capabilities, Connector, Fault, Feed, Finding, Page, Reject};
use connector_core::reconcile::Side;
use connector_core::runtime::{Bridge, BridgeOptions, Retention, Shutdown, System};
use connector_core::store::{Place, Store, StoreOptions};
use serde_json::json;
use tokio::sync::Notify;

/// Panics the first time that it is asked for anything.
#[derive(Default)]
struct Panicking {
    checks: AtomicUsize,
    polls: AtomicUsize,
    read: AtomicUsize,
    well: Notify,
}

fn first(count: &AtomicUsize, what: &str) {
    assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "the first {what}");
}

#[async_trait]
impl Connector for Panicking {
    fn capabilities(&self) -> Capabilities {
        let feed = Feed { name: "rows".to_owned(), every: Duration::ZERO, whole: false };
        Capabilities { gives: vec![Flow::Documents], feeds: vec![feed], ..Capabilities::default() }
    }

    async fn check(&self) -> Vec<Finding> {
        first(&self.checks, "check");
        vec![Finding::ok("reachable", "answers")]
    }

    async fn poll(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page, Fault> {
        first(&self.polls, "poll");
        let id = RecordId::new("partner", "row", "1");
        let record = Record { id, version: None, deleted: false, body: json!({ "row": 1 }) };
        Ok(Page { records: vec![record], next: "1".to_owned(), ..Page::default() })
    }

    fn changes(&self, _: &Record) -> Result<Vec<Change>, Reject> {
        first(&self.read, "record");
        self.well.notify_one();
        Ok(vec![])
    }
}

/// A system that is always well and has nothing.
struct Quiet;

#[async_trait]
impl Connector for Quiet {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn check(&self) -> Vec<Finding> {
        vec![Finding::ok("reachable", "answers")]
    }
}

#[tokio::test]
async fn a_loop_that_panics_is_begun_anew() {
    let clock = Arc::new(SystemClock::new());
    let store = Store::open(&StoreOptions { place: Place::Memory, key: None }, clock.clone()).await.unwrap();
    let partner = Arc::new(Panicking::default());
    let cht = System::new("cht", Side::Cht, Arc::new(Quiet));
    let system = System::new("partner", Side::Partner, partner.clone());
    let bridge = Arc::new(Bridge::new("main", store, clock, cht, system, BridgeOptions::default()));
    let shutdown = Shutdown::default();
    let running = tokio::spawn(bridge.run(shutdown.clone(), Retention::default()));
    tokio::time::timeout(Duration::from_secs(60), partner.well.notified()).await.unwrap();
    shutdown.stop();
    running.await.unwrap().unwrap();
}

//! A source of changes, the core, the connector and its stand-in, under one clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cht_core_client::transport::{Body, Transport, TransportError, TransportErrorKind, body_of};
use connector_core::change::{Change, Flow, Record, RecordId};
use connector_core::clock::Clock as CoreClock;
use connector_core::config::ConfigReport;
use connector_core::connector::{Capabilities, Connector, Destination, Fault, Feed, Finding, Page, Reject};
use connector_core::outbox::{DeadLetter, ListDead, ListHalted, Totals};
use connector_core::reconcile::Side;
use connector_core::runtime::{Begin, Bridge, BridgeOptions, System};
use connector_core::store::{Place, Store, StoreOptions};
use connector_core::transport::Wiring;
use serde_json::Value;
use test_support::clock::Clock;
use test_support::fault::{Broken, Faults, InProcess, Plan};

use crate::{Harness, StandIn};

const START: i64 = 1_790_000_000_000;
/// Seconds after which a world that is not quiet is left as it is.
const LONGEST: u32 = 900;

/// The stand-in's clock as the core's.
#[derive(Debug, Clone)]
struct Time(Clock);

impl CoreClock for Time {
    fn now(&self) -> i64 {
        self.0.now_ms()
    }
}

/// The network: requests go to the stand-in in this process.
struct Wire(InProcess);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        // A socket's client adds it; links that a server makes hold it.
        let host = request.uri().authority().and_then(|a| a.as_str().parse().ok());
        if let Some(host) = host {
            request.headers_mut().insert(http::header::HOST, host);
        }
        match self.0.call(request).await {
            Ok(response) => Ok(response.map(body_of)),
            Err(Broken::Refused) => Err(TransportErrorKind::Connect.into()),
            Err(Broken::Reset) => Err(TransportErrorKind::Closed.into()),
            Err(Broken::TimedOut) => Err(TransportErrorKind::Timeout.into()),
        }
    }
}

/// A system whose records are changes, in the order in which they were given.
#[derive(Default)]
struct Script(Mutex<Vec<(RecordId, Change)>>);

impl Script {
    fn all(&self) -> Vec<(RecordId, Change)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn record(id: RecordId, change: &Change) -> Record {
    Record {
        id,
        version: None,
        deleted: false,
        body: serde_json::to_value(change).expect("a change is JSON"),
    }
}

#[async_trait]
impl Connector for Script {
    fn capabilities(&self) -> Capabilities {
        let feed = Feed { name: "script".into(), every: Duration::from_secs(1), whole: false };
        let gives =
            [Flow::Patients, Flow::Referrals, Flow::LostToFollowUp, Flow::ContactTracing, Flow::Messaging];
        let gives = gives.into_iter().chain([Flow::Events, Flow::Documents]).collect();
        Capabilities { gives, feeds: vec![feed], ..Capabilities::default() }
    }
    async fn check(&self) -> Vec<Finding> {
        vec![Finding::ok("script", "there")]
    }
    async fn poll(&self, _: &str, after: Option<&str>, _: usize) -> Result<Page, Fault> {
        let all = self.all();
        let from = after.and_then(|a| a.parse().ok()).unwrap_or(0);
        let records = all.iter().skip(from).map(|(id, change)| record(id.clone(), change)).collect();
        Ok(Page { records, next: all.len().to_string(), ..Page::default() })
    }
    async fn fetch(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>, Fault> {
        let newest: BTreeMap<_, _> = self.all().into_iter().collect();
        Ok(ids.iter().map(|id| newest.get(id).map(|change| record(id.clone(), change))).collect())
    }
    fn changes(&self, record: &Record) -> Result<Vec<Change>, Reject> {
        let change = serde_json::from_value(record.body.clone());
        change.map(|c| vec![c]).map_err(|e| Reject::new(e.to_string()))
    }
    fn destinations(&self, _: &Change) -> Result<Vec<Destination>, Reject> {
        Ok(vec![])
    }
}

/// Everything, ready to run.
pub struct World {
    clock: Clock,
    bridge: Bridge,
    script: Arc<Script>,
    store: Store,
    wire: InProcess,
    seen: Mutex<BTreeMap<u32, i64>>,
    /// The stand-in.
    pub stand_in: Box<dyn StandIn>,
    /// The connector.
    pub connector: Arc<dyn Connector>,
    /// What it says of itself.
    pub capabilities: Capabilities,
}

/// The only section of the example.
pub fn section(harness: &dyn Harness) -> Result<Value, String> {
    let example: Value =
        serde_saphyr::from_str(harness.example()).map_err(|e| format!("example.yaml: {e}"))?;
    let sections: Vec<Value> = example.as_object().into_iter().flatten().map(|(_, v)| v.clone()).collect();
    match <[Value; 1]>::try_from(sections) {
        Ok([section]) => Ok(section),
        Err(all) => Err(format!(
            "example.yaml holds {} sections; one under the connector's name is expected",
            all.len()
        )),
    }
}

impl World {
    /// A calm world in which nothing has been asked for.
    pub async fn new(harness: &dyn Harness) -> Result<Self, String> {
        let clock = Clock::manual(START);
        let time: Arc<dyn CoreClock> = Arc::new(Time(clock.clone()));
        let stand_in = harness.stand_in(&clock);
        let wire = InProcess::new(stand_in.router(), Faults::new(Plan::calm()), clock.clone());
        let way = wire.clone();
        let wiring = Wiring::new(time.clone(), Arc::new(move |_, _| Ok(Arc::new(Wire(way.clone())) as _)));
        let mut section = section(harness)?;
        harness.adjust(&mut section);
        let mut report = ConfigReport::new("partner");
        let built = (harness.parse(section)?.build)(&wiring, &mut report);
        let Some(connector) = built else {
            return Err(format!("the example does not build: {:?}", report.problems()));
        };
        let connector = harness.wrap(connector);
        let script = Arc::new(Script::default());
        let options = StoreOptions { place: Place::Memory, key: None };
        let store = Store::open(&options, time.clone()).await.map_err(|e| e.to_string())?;
        let bridge = Bridge::new(
            "conformance",
            store.clone(),
            time,
            System::new("cht", Side::Cht, script.clone()),
            System::new("partner", Side::Partner, connector.clone()),
            BridgeOptions {
                begin: Begin::Everything,
                lease: Duration::from_secs(8),
                aside: Duration::from_secs(1),
                ..BridgeOptions::default()
            },
        );
        let capabilities = connector.capabilities();
        Ok(Self {
            clock,
            bridge,
            script,
            store,
            wire,
            seen: Mutex::default(),
            stand_in,
            connector,
            capabilities,
        })
    }

    /// The network to the stand-in, with its faults.
    pub fn faults(&self) -> &Faults {
        self.wire.faults()
    }

    /// Milliseconds since the beginning.
    pub fn elapsed(&self) -> i64 {
        self.clock.now_ms() - START
    }

    /// Something changes at the source.
    pub fn give(&self, change: Change) {
        self.script.0.lock().unwrap_or_else(PoisonError::into_inner).push((change.source.clone(), change));
    }

    /// One second.
    pub async fn second(&self) {
        let b = &self.bridge;
        let _ = b.recover(false).await;
        for side in [Side::Cht, Side::Partner] {
            let _ = b.ready(side).await;
        }
        for feed in b.system(Side::Cht).capabilities.feeds.clone() {
            let _ = b.poll(Side::Cht, &feed).await;
        }
        let _ = b.refresh(Side::Cht).await;
        for _ in 0..20 {
            if !matches!(b.work(Side::Partner).await, Ok(n) if n > 0) {
                break;
            }
        }
        self.clock.advance(Duration::from_secs(1));
        self.clock.run_due();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for mark in self.stand_in.effects() {
            seen.entry(mark).or_insert_with(|| self.elapsed());
        }
    }

    /// When the effect with this mark was first there, in milliseconds since the beginning.
    pub fn first_seen(&self, mark: u32) -> Option<i64> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&mark).copied()
    }

    /// Until nothing has been open for a quiet time.
    pub async fn settle(&self) {
        let enough = self.capabilities.quiet.as_secs() + 3;
        let mut quiet = 0;
        for _ in 0..LONGEST {
            self.second().await;
            quiet = if self.open().await == 0 { quiet + 1 } else { 0 };
            if quiet > enough {
                return;
            }
        }
    }

    /// Rows under way.
    pub async fn open(&self) -> i64 {
        let totals = self.store.read(Totals).await.expect("totals can be read");
        totals.iter().filter(|t| !matches!(t.state, "dead" | "review")).map(|t| t.rows).sum()
    }

    /// Dead letters.
    pub async fn dead(&self) -> Vec<DeadLetter> {
        self.store
            .read(ListDead { after: 0, limit: 1_000, bodies: false })
            .await
            .expect("dead letters can be read")
    }

    /// Whether the partner is halted.
    pub async fn is_halted(&self) -> bool {
        self.store.read(ListHalted).await.expect("halts can be read").iter().any(|h| h.system == "partner")
    }

    /// How often the effect with this mark happened.
    pub fn times(&self, mark: u32) -> usize {
        self.stand_in.effects().iter().filter(|m| **m == mark).count()
    }
}

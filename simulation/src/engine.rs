//! One replica of the connector, driven step by step.

use std::sync::Arc;
use std::time::Duration;

use connector_core::clock::Clock;
use connector_core::connector::Connector;
use connector_core::reconcile::{Policies, Side};
use connector_core::rules::Rules;
use connector_core::runtime::{Begin, Bridge, BridgeOptions, Polled, System};
use connector_core::store::{Place, Store, StoreOptions};
use test_support::clock;

use crate::points::Points;

/// The core's clock is the stand-ins' clock.
#[derive(Debug, Clone)]
pub struct SimClock(pub clock::Clock);

impl std::fmt::Display for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.0.now_ms())
    }
}

impl Clock for SimClock {
    fn now(&self) -> i64 {
        self.0.now_ms()
    }
}

/// How long a claim of a simulated engine holds.
pub const LEASE: Duration = Duration::from_secs(8);

/// Where the store of a simulation is.
#[derive(Clone, Debug)]
pub enum Where {
    /// SQLite in memory; survives the engine, not the test.
    Memory,
    /// A SQLite file in a folder.
    Folder(std::path::PathBuf),
    /// A schema of a PostgreSQL server.
    Postgres(String),
}

/// Opens the store of a simulation.
pub async fn open_store(place: &Where, schema: &str, clock: &SimClock) -> Store {
    let place = match place {
        Where::Memory => Place::Memory,
        Where::Folder(folder) => Place::Sqlite { path: folder.join(format!("{schema}.sqlite")) },
        Where::Postgres(url) => {
            Place::Postgres { url: url.clone().into(), schema: schema.to_owned(), pool: 4, engine_time: true }
        }
    };
    let options = StoreOptions { place, key: None };
    Store::open(&options, Arc::new(clock.clone())).await.expect("the store of the simulation opens")
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which rules hold.
    pub rules: Rules,
    /// Who wins.
    pub policies: Policies,
    /// Which replica.
    pub owner: i64,
    /// Whether it is the only one.
    pub alone: bool,
    /// Whether its network makes every success look like proof.
    pub believes: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { rules: Rules::all(), policies: Policies::default(), owner: 1, alone: true, believes: false }
    }
}

/// One replica.
pub struct Engine {
    /// Its bridge.
    pub bridge: Bridge,
    /// Where it may end.
    pub points: Arc<Points>,
}

impl Engine {
    /// A replica that has just started.
    pub async fn start(
        store: Store,
        clock: &SimClock,
        cht: Arc<dyn Connector>,
        partner: (&str, Arc<dyn Connector>),
        points: Arc<Points>,
        setup: &Setup,
    ) -> Self {
        let options = BridgeOptions {
            begin: Begin::Everything,
            policies: setup.policies.clone(),
            lease: LEASE,
            aside: Duration::from_secs(1),
            page: 100,
            take: 16,
            rules: setup.rules,
            owner: setup.owner,
            alone: setup.alone,
            ..BridgeOptions::default()
        };
        let bridge = Bridge::new(
            "sim",
            store,
            Arc::new(clock.clone()),
            System::new("cht", Side::Cht, cht),
            System::new(partner.0, Side::Partner, partner.1),
            options,
        )
        .with_hooks(points.clone());
        Self { bridge, points }
    }

    /// What is due at this moment, once.
    pub async fn tick(&self) {
        let b = &self.bridge;
        let _ = b.recover(false).await;
        for side in [Side::Cht, Side::Partner] {
            if !matches!(b.ready(side).await, Ok(true)) {
                continue;
            }
            for feed in b.system(side).capabilities.feeds.clone() {
                for _ in 0..20 {
                    match b.poll(side, &feed).await {
                        Ok(Polled::Read { more: true, .. }) => {}
                        _ => break,
                    }
                }
            }
            let _ = b.refresh(side).await;
        }
        let work = |side| async move {
            for _ in 0..12 {
                match b.work(side).await {
                    Ok(n) if n > 0 => {}
                    _ => break,
                }
            }
        };
        tokio::join!(work(Side::Cht), work(Side::Partner));
    }

    /// A tick that may be the last: false when the engine ended in it.
    pub async fn tick_or_end(&self) -> bool {
        tokio::select! {
            biased;
            () = self.points.reached() => false,
            () = self.tick() => true,
        }
    }
}

//! Drives a bridge until it is told to stop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bridge::{Bridge, RuntimeError};
use super::intake::{Ahead, Polled};
use crate::connector::{Fault, Feed};
use crate::outbox::{GiveUpWaiting, Purge, Totals};
use crate::reconcile::Side;

/// Longest wait of an idle loop; whatever a transaction of this process makes due wakes it at once.
const IDLE: Duration = Duration::from_millis(500);
/// Longest pause between two checks of a system that has not been found well yet.
const LONGEST_CHECK: Duration = Duration::from_secs(5);
/// Pause after a failed step.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// How often totals are counted and old rows purged.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Ends all loops: what is under way is settled, nothing new is begun.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Begins to stop.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Returns once stopping has begun.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// Whether stopping has begun.
    pub fn is_stopping(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits, but not beyond the stop.
    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = self.0.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Attempts and delivery identities.
    pub attempts: Duration,
    /// Bodies of dead letters and evidence of decided reviews.
    pub bodies: Duration,
    /// How long a change waits for the counterpart of another record before it is a dead letter.
    pub waiting: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Self { attempts: days(30), bodies: days(90), waiting: days(30) }
    }
}

impl Bridge {
    /// Runs all loops; returns when `shutdown` was asked for and what was under way is settled.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown, retention: Retention) -> Result<(), RuntimeError> {
        self.recover(self.options.alone).await?;
        self.count().await?;
        let mut loops = JoinSet::new();
        for side in [Side::Cht, Side::Partner] {
            self.keep(&mut loops, &shutdown, move |bridge, shutdown| bridge.keep_ready(side, shutdown));
            self.keep(&mut loops, &shutdown, move |bridge, shutdown| bridge.keep_fetching(side, shutdown));
            for feed in self.system(side).capabilities.feeds.clone() {
                self.keep(&mut loops, &shutdown, move |bridge, shutdown| {
                    bridge.keep_polling(side, feed.clone(), shutdown)
                });
            }
            for _ in 0..self.options.workers.max(1) {
                self.keep(&mut loops, &shutdown, move |bridge, shutdown| bridge.keep_working(side, shutdown));
            }
        }
        self.keep(&mut loops, &shutdown, move |bridge, shutdown| bridge.keep_house(retention, shutdown));
        while loops.join_next().await.is_some() {}
        Ok(())
    }

    /// A loop that is begun anew if it panics: what it had in hand is in the store, and the other loops go on meanwhile.
    fn keep<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        loops: &mut JoinSet<()>,
        shutdown: &Shutdown,
        begin: impl Fn(Arc<Self>, Shutdown) -> F + Send + 'static,
    ) {
        let (bridge, shutdown) = (self.clone(), shutdown.clone());
        loops.spawn(async move {
            while AssertUnwindSafe(begin(bridge.clone(), shutdown.clone())).catch_unwind().await.is_err() {
                metrics::counter!("connector_errors_total", "bridge" => bridge.name.clone()).increment(1);
                shutdown.sleep(AFTER_ERROR).await;
            }
        });
    }

    async fn keep_ready(self: Arc<Self>, side: Side, shutdown: Shutdown) {
        let mut pause = IDLE;
        while !shutdown.is_stopping() {
            self.report(self.ready(side).await.map(|_| ()));
            let system = self.system(side);
            let up = system.is_checked() && !system.is_halted();
            metrics::gauge!("connector_system_up", "system" => system.name.clone()).set(if up {
                1.0
            } else {
                0.0
            });
            let open = system.pace.is_open();
            metrics::gauge!("connector_breaker_open", "system" => system.name.clone()).set(if open {
                1.0
            } else {
                0.0
            });
            // A check that keeps failing is a login and a line in the log each time.
            pause = if up || system.is_halted() { IDLE } else { (pause * 2).min(LONGEST_CHECK) };
            shutdown.sleep(if up { IDLE * 4 } else { pause }).await;
        }
    }

    async fn keep_polling(self: Arc<Self>, side: Side, feed: Feed, shutdown: Shutdown) {
        let (system, mut ahead) = (self.system(side), Ahead::default());
        while !shutdown.is_stopping() {
            if system.is_halted() || !system.is_checked() {
                ahead = Ahead::default();
                shutdown.sleep(IDLE).await;
                continue;
            }
            if self.has_enough() {
                shutdown.sleep(IDLE).await;
                if self.has_enough() {
                    // What took the place of an older state was counted as if it were a row of its own.
                    self.report(self.count().await);
                    shutdown.sleep(IDLE * 4).await;
                }
                continue;
            }
            let step = tokio::select! {
                step = self.poll_ahead(side, &feed, Some(&mut ahead)) => step,
                () = shutdown.stopped() => return,
            };
            match step {
                Ok(Polled::Read { more: true, .. }) => {}
                Ok(Polled::Read { more: false, .. }) => shutdown.sleep(feed.every.min(IDLE * 2)).await,
                Ok(Polled::NotDue(at)) => {
                    let left = u64::try_from(at - self.clock.now()).unwrap_or(0);
                    shutdown.sleep(Duration::from_millis(left.max(1)).min(IDLE * 2)).await;
                }
                Err(error) => {
                    let pause = asked(&error).unwrap_or(AFTER_ERROR);
                    self.report(Err(error));
                    shutdown.sleep(pause).await;
                }
            }
        }
    }

    async fn keep_fetching(self: Arc<Self>, side: Side, shutdown: Shutdown) {
        let (system, work) = (self.system(side), self.store.clone());
        while !shutdown.is_stopping() {
            if system.is_halted() || !system.is_checked() {
                shutdown.sleep(IDLE).await;
                continue;
            }
            match self.refresh(side).await {
                Ok(0) => {
                    tokio::select! {
                        () = work.wait_for_work() => shutdown.sleep(IDLE / 5).await,
                        () = shutdown.sleep(IDLE * 2) => {}
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let pause = asked(&error).unwrap_or(AFTER_ERROR);
                    self.report(Err(error));
                    shutdown.sleep(pause).await;
                }
            }
        }
    }

    async fn keep_working(self: Arc<Self>, side: Side, shutdown: Shutdown) {
        let work = self.store.clone();
        while !shutdown.is_stopping() {
            match self.work(side).await {
                Ok(0) => {
                    tokio::select! {
                        () = work.wait_for_work() => {}
                        () = shutdown.sleep(IDLE) => {}
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    self.report(Err(error));
                    shutdown.sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    async fn keep_house(self: Arc<Self>, retention: Retention, shutdown: Shutdown) {
        while !shutdown.is_stopping() {
            let before = |age: Duration| self.clock.now() - crate::clock::millis(age);
            let purge = Purge {
                attempts_before: before(retention.attempts),
                bodies_before: before(retention.bodies),
            };
            self.report(self.store.run(purge).await.map(|_| ()).map_err(RuntimeError::from));
            let overdue = GiveUpWaiting { before: before(retention.waiting), rules: self.options.rules };
            self.report(self.store.run(overdue).await.map(|_| ()).map_err(RuntimeError::from));
            self.report(self.recover(false).await.map(|_| ()).map_err(RuntimeError::from));
            self.report(self.count().await);
            shutdown.sleep(HOUSEKEEPING.min(self.options.lease)).await;
        }
    }

    /// Counts the rows anew, for the high-water mark and the metrics.
    async fn count(&self) -> Result<(), RuntimeError> {
        let totals = self.store.read(Totals).await?;
        let mut open = 0;
        for t in &totals {
            metrics::gauge!("connector_rows", "system" => t.target.clone(), "state" => t.state)
                .set(as_f64(t.rows));
            // What waits for somebody else does not keep the workers busy.
            if !matches!(t.state, "dead" | "unreadable" | "review" | "waiting") {
                open += t.rows;
            }
        }
        self.open.store(open, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn report(&self, step: Result<(), RuntimeError>) {
        if let Err(error) = step {
            metrics::counter!("connector_errors_total", "bridge" => self.name.clone()).increment(1);
            tracing::warn!(bridge = self.name, error = %error, "a step failed; it is done again");
        }
    }
}

fn asked(error: &RuntimeError) -> Option<Duration> {
    match error {
        RuntimeError::Fault { fault: Fault::Retry { after, .. }, .. } => *after,
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of rows needs no more than 52 bits")]
fn as_f64(n: i64) -> f64 {
    n as f64
}

//! Crash points: before and after each transaction and each remote call.
//!
//! The point before is the one after what came before it, and it makes no difference to a power cut whether a
//! transaction that found nothing to do, or a call that only reads, came between: such points are counted once, unless
//! [`Points::every`] is asked for, as for replicas that stand still between a look-up and its use.
//!
//! At the chosen point the engine stops for ever and whoever drives it is told; everything that is not in the store is
//! then thrown away, as a power cut would.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use connector_core::runtime::Hooks;
use tokio::sync::Notify;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process dies.
    Kill,
    /// The process stands still until [`Points::go_on`].
    Stop,
}

/// Counts points and ends the engine at one of them.
#[derive(Debug, Default)]
pub struct Points {
    passed: AtomicU64,
    at: Mutex<Option<(u64, End)>>,
    reached: Notify,
    go: Notify,
    hit: AtomicBool,
    every: bool,
}

impl Points {
    /// Counts points after look-ups too.
    pub fn every() -> Self {
        Self { every: true, ..Self::default() }
    }

    /// Ends the engine at point `at`, counted from 1.
    pub fn end_at(&self, at: u64, end: End) {
        *self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((at, end));
    }

    /// How many points have been passed.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// Whether the chosen point was reached.
    pub fn was_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// Returns when the chosen point is reached.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets a stopped engine go on.
    pub fn go_on(&self) {
        self.go.notify_waiters();
        self.go.notify_one();
    }

    /// Execution is at a point.
    pub async fn pass(&self, effect: bool) {
        if !effect && !self.every {
            return;
        }
        let n = self.passed.fetch_add(1, Ordering::SeqCst) + 1;
        let chosen = *self.at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match chosen {
            Some((at, end)) if at == n => {
                self.hit.store(true, Ordering::SeqCst);
                self.reached.notify_one();
                match end {
                    End::Kill => std::future::pending::<()>().await,
                    End::Stop => self.go.notified().await,
                }
            }
            _ => {}
        }
    }
}

#[async_trait]
impl Hooks for Points {
    async fn at(&self, _point: &'static str, effect: bool) {
        self.pass(effect).await;
    }
}

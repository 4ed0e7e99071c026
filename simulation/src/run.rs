//! Runs worlds: once without a crash, once for each crash point, with one replica or two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use connector_core::outbox::{ListReviews, ReviewEntry, Totals};
use connector_core::store::Store;

use crate::engine::{Engine, LEASE, Setup, SimClock, Where, open_store};
use crate::points::{End, Points};

/// Stand-ins, what people type into them, and what must be so at the end.
#[async_trait]
pub trait World: Send {
    /// Time.
    fn clock(&self) -> &SimClock;
    /// A replica with connections of its own.
    async fn engine(&self, store: Store, points: Arc<Points>, setup: &Setup) -> Engine;
    /// What people do in second `t`.
    async fn script(&mut self, t: u64);
    /// The second after which nobody types.
    fn quiet_after(&self) -> u64;
    /// What is wrong at the end, in words; nothing if all is well.
    async fn wrong(&self, store: &Store) -> Vec<String>;
}

/// Longest run, in seconds of the simulated clock after the last that anybody types.
const LONGEST: u64 = 2_000;
/// Seconds without open rows after which a run is over.
const QUIET: u64 = 12;

/// Open entries of the review queue, with their evidence.
pub async fn open_reviews(store: &Store) -> Vec<ReviewEntry> {
    let list = ListReviews { after: 0, limit: 10_000, open: true, bodies: true };
    store.read(list).await.expect("the review queue can be read")
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Crash points passed.
    pub points: u64,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// Entries in review at the end.
    pub reviews: usize,
}

/// How a run is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturb {
    /// Not at all.
    Nothing,
    /// The process dies at this crash point and starts again.
    Kill(u64),
    /// Of two replicas, the first stands still at this crash point for so many seconds.
    Stop(u64, u64),
    /// Two replicas, undisturbed.
    Two,
}

/// Runs a world to its end.
pub async fn run(
    mut world: impl World,
    place: &Where,
    schema: &str,
    disturb: Disturb,
    setup: &Setup,
) -> Outcome {
    // On a server that outlives the run, each run has a schema of its own.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let schema = &format!("{schema}_{}_{}", std::process::id(), RUNS.fetch_add(1, Ordering::SeqCst));
    let mut store = open_store(place, schema, world.clock()).await;
    let two = matches!(disturb, Disturb::Stop(..) | Disturb::Two);
    let points = Arc::new(if two { Points::every() } else { Points::default() });
    match disturb {
        Disturb::Kill(at) => points.end_at(at, End::Kill),
        Disturb::Stop(at, _) => points.end_at(at, End::Stop),
        _ => {}
    }
    let first = Setup { alone: !two, ..setup.clone() };
    let second = Setup { alone: false, owner: setup.owner + 1, ..setup.clone() };
    let mut engine = world.engine(store.clone(), points.clone(), &first).await;
    // A replica has connections of its own: whoever stands still while it waits for one stands in nobody else's way.
    let others_store = match (two, place) {
        (true, Where::Postgres(_)) => Some(open_store(place, schema, world.clock()).await),
        _ => two.then(|| store.clone()),
    };
    let other = match &others_store {
        Some(store) => Some(world.engine(store.clone(), Arc::new(Points::default()), &second).await),
        None => None,
    };
    let mut quiet = 0;
    let mut t = 0;
    while t < world.quiet_after() + LONGEST && quiet < QUIET {
        second_of(&mut world, &mut t).await;
        match (disturb, &other) {
            (Disturb::Stop(_, seconds), Some(other)) if !points.was_hit() => {
                let mut tick = Box::pin(engine.tick());
                let stopped = tokio::select! {
                    biased;
                    () = points.reached() => true,
                    () = &mut tick => false,
                };
                if stopped {
                    for _ in 0..seconds {
                        other.tick().await;
                        second_of(&mut world, &mut t).await;
                    }
                    points.go_on();
                    tokio::join!(tick, other.tick());
                } else {
                    drop(tick);
                    other.tick().await;
                }
            }
            (_, Some(other)) => {
                tokio::join!(engine.tick(), other.tick());
            }
            _ => {
                if !engine.tick_or_end().await {
                    drop(engine);
                    if let Where::Folder(_) = place {
                        store.close().await;
                        store = open_store(place, schema, world.clock()).await;
                    }
                    engine = world.engine(store.clone(), points.clone(), &first).await;
                    engine.bridge.recover(true).await.expect("recovery reads the store");
                }
            }
        }
        let totals = store.read(Totals).await.expect("totals can be read");
        let open: i64 = totals.iter().filter(|c| !matches!(c.state, "dead" | "review")).map(|c| c.rows).sum();
        quiet = if open == 0 && t > world.quiet_after() { quiet + 1 } else { 0 };
    }
    let totals = store.read(Totals).await.expect("totals can be read");
    let mut wrong: Vec<String> = totals
        .iter()
        .filter(|c| c.state != "review")
        .map(|c| format!("left over: {} {}", c.rows, c.state))
        .collect();
    wrong.extend(world.wrong(&store).await);
    let reviews = open_reviews(&store).await.len();
    drop((engine, other));
    if let (Some(store), Where::Postgres(_)) = (others_store, place) {
        store.close().await;
    }
    store.close().await;
    Outcome { points: points.passed(), wrong, reviews }
}

async fn second_of(world: &mut impl World, t: &mut u64) {
    world.script(*t).await;
    *t += 1;
    world.clock().0.advance(Duration::from_secs(1));
    world.clock().0.run_due();
}

/// Seconds for which a stopped replica stands still: four leases.
pub fn four_leases() -> u64 {
    LEASE.as_secs() * 4
}

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many.
    pub runs: u64,
    /// Of them, ended wrong.
    pub wrong: u64,
    /// Entries in review over all runs.
    pub reviews: u64,
    /// The first few that ended wrong, and how.
    pub examples: BTreeMap<String, Vec<String>>,
}

/// Runs `make(seed)` for every `step`-th crash point of each seed, beginning with `from`, on two threads.
pub fn every_point<W: World + 'static>(
    make: impl Fn(u64) -> W + Sync,
    seeds: std::ops::Range<u64>,
    (from, step): (u64, u64),
    place: &(impl Fn(&str) -> Where + Sync),
    setup: &Setup,
    disturb: impl Fn(u64) -> Disturb + Sync,
) -> Report {
    let seeds: Vec<u64> = seeds.collect();
    let jobs = std::sync::Mutex::new(vec![]);
    let total = std::sync::Mutex::new(Report::default());
    let block = |seed: u64, at: Option<u64>| {
        let name = at.map_or_else(|| format!("s{seed}"), |at| format!("s{seed}_p{at}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let disturb = match at {
            Some(at) => disturb(at),
            None if matches!(disturb(1), Disturb::Stop(..)) => Disturb::Two,
            None => Disturb::Nothing,
        };
        let outcome = runtime.block_on(run(make(seed), &place(&name), &name, disturb, setup));
        let mut total = total.lock().expect("no thread panicked");
        total.runs += 1;
        total.reviews += outcome.reviews as u64;
        if !outcome.wrong.is_empty() {
            total.wrong += 1;
            if total.examples.len() < 3 {
                total.examples.insert(name, outcome.wrong);
            }
        }
        outcome.points
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let points = block(*seed, None);
                    let all = (from..=points).step_by(step as usize).map(|at| (*seed, at));
                    jobs.lock().expect("no thread panicked").extend(all);
                }
            });
        }
    });
    let jobs = jobs.into_inner().expect("no thread panicked");
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((seed, at)) = jobs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    block(*seed, Some(*at));
                }
            });
        }
    });
    total.into_inner().expect("no thread panicked")
}

//! Random histories: what is written at the CHT, when time passes, when the process dies. The model knows only what was
//! written and what the sink took; it runs on every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector_core::store::Store;
use proptest::prelude::*;
use simulation::engine::{Engine, Setup, SimClock, Where};
use simulation::points::Points;
use simulation::run::{Disturb, World, run};
use simulation::sink_world::SinkWorld;

/// One step of a history, each a second.
#[derive(Clone, Debug)]
enum Step {
    /// A document or report gets its next revision.
    Write { report: bool, which: u8 },
    /// Nothing for so many seconds.
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0..4_u8).prop_map(|(report, which)| Step::Write { report, which }),
        1 => (1..6_u8).prop_map(Step::Wait),
    ]
}

/// The sink world with a history of its own.
struct History {
    world: SinkWorld,
    steps: BTreeMap<u64, (bool, u8)>,
    end: u64,
}

impl History {
    fn new(seed: u64, mishaps: f64, steps: &[Step]) -> Self {
        let (mut at, mut writes) = (0, BTreeMap::new());
        for step in steps {
            match step {
                Step::Write { report, which } => {
                    writes.insert(at, (*report, *which));
                    at += 1;
                }
                Step::Wait(seconds) => at += u64::from(*seconds),
            }
        }
        Self { world: SinkWorld::new(seed, mishaps), steps: writes, end: at + 2 }
    }
}

#[async_trait::async_trait]
impl World for History {
    fn clock(&self) -> &SimClock {
        self.world.clock()
    }
    async fn engine(&self, store: Store, points: Arc<Points>, setup: &Setup) -> Engine {
        self.world.engine(store, points, setup).await
    }
    async fn script(&mut self, t: u64) {
        if t == self.end + 200 {
            // The sink is well in the end; pauses between tries have grown to minutes by then.
            self.world.faults().clear();
        }
        if let Some((report, which)) = self.steps.get(&t) {
            self.world.next_revision(*report, *which);
        }
    }
    fn quiet_after(&self) -> u64 {
        self.end
    }
    async fn wrong(&self, store: &Store) -> Vec<String> {
        self.world.wrong(store).await
    }
}

fn check(
    place: &Where,
    name: &str,
    seed: u64,
    mishaps: f64,
    steps: &[Step],
    kill: u64,
) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let history = History::new(seed, mishaps, steps);
    let out = runtime.block_on(run(history, place, name, Disturb::Kill(kill), &Setup::default()));
    prop_assert!(out.wrong.is_empty(), "{:#?}", out.wrong);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_and_whenever_it_dies(
        steps in prop::collection::vec(step(), 1..24),
        seed in 0..1_000_u64,
        mishaps in 0.0..0.5_f64,
        kill in 1..200_u64,
    ) {
        check(&Where::Memory, "model", seed, mishaps, &steps, kill)?;
        let folder = tempfile::tempdir().unwrap();
        check(&Where::Folder(folder.path().to_owned()), "model", seed, mishaps, &steps, kill)?;
        if seed % 10 == 0 && let Ok(url) = std::env::var("TEST_POSTGRES_URL") {
            let name = format!("model_{seed}_{kill}_{}", steps.len());
            check(&Where::Postgres(url), &name, seed, mishaps, &steps, kill)?;
        }
    }
}

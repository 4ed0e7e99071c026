//! Documents and once-only texts from a CHT to a sink.

use simulation::engine::{Setup, Where};
use simulation::run::{Disturb, every_point, four_leases};
use simulation::sink_world::SinkWorld;

/// Mishaps grow with the seed, from none to two requests in five.
pub fn world(seed: u64) -> SinkWorld {
    SinkWorld::new(seed, (seed % 5) as f64 / 10.0)
}

#[test]
fn a_kill_at_every_point_in_memory() {
    let report =
        every_point(world, 0..20, (1, 1), &|_: &str| Where::Memory, &Setup::default(), Disturb::Kill);
    println!("sink, memory: {} runs, {} wrong, {} reviews", report.runs, report.wrong, report.reviews);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

#[test]
fn a_kill_at_every_point_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let place = |_: &str| Where::Folder(folder.path().to_owned());
    let report = every_point(world, 0..20, (1, 1), &place, &Setup::default(), Disturb::Kill);
    println!("sink, sqlite: {} runs, {} wrong, {} reviews", report.runs, report.wrong, report.reviews);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

#[test]
fn a_replica_stopped_at_every_point_for_four_leases() {
    let stop = |at| Disturb::Stop(at, four_leases());
    let report = every_point(world, 0..4, (1, 1), &|_: &str| Where::Memory, &Setup::default(), stop);
    println!("sink, two replicas: {} runs, {} wrong", report.runs, report.wrong);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

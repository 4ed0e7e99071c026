//! The same worlds on PostgreSQL, where `TEST_POSTGRES_URL` names a server. Every tenth crash point by default, another
//! tenth each day; `SIM_POSTGRES_STEP=1` takes all.

use simulation::engine::{Setup, Where};
use simulation::run::{Disturb, every_point, four_leases};

use crate::{openmrs, sink};

fn server() -> Option<String> {
    let url = std::env::var("TEST_POSTGRES_URL").ok();
    if url.is_none() {
        println!("not run: TEST_POSTGRES_URL names no server");
    }
    url
}

fn share() -> (u64, u64) {
    let step = std::env::var("SIM_POSTGRES_STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let day = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs() / 86_400);
    (1 + day % step, step)
}

#[test]
fn postgres_kills() {
    let Some(url) = server() else { return };
    let place = |_: &str| Where::Postgres(url.clone());
    let report = every_point(openmrs::edits, 0..20, share(), &place, &Setup::default(), Disturb::Kill);
    println!("openmrs, postgres, {:?}: {} runs, {} wrong", share(), report.runs, report.wrong);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
    let report = every_point(sink::world, 0..20, share(), &place, &Setup::default(), Disturb::Kill);
    println!("sink, postgres, {:?}: {} runs, {} wrong", share(), report.runs, report.wrong);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

#[test]
fn postgres_two_replicas() {
    let Some(url) = server() else { return };
    let place = |_: &str| Where::Postgres(url.clone());
    let stop = |at| Disturb::Stop(at, four_leases());
    let report = every_point(sink::world, 0..2, share(), &place, &Setup::default(), stop);
    println!("sink, postgres, two replicas, {:?}: {} runs, {} wrong", share(), report.runs, report.wrong);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

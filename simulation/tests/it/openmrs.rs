//! Patients between a CHT and an OpenMRS, both ways.

use std::sync::Arc;

use connector_core::outbox::{GiveUpWaiting, ListDead, ListFeeds, Totals};
use connector_core::rules::Rules;
use simulation::engine::{Setup, Where, open_store};
use simulation::openmrs_world::{OpenMrsWorld, Story};
use simulation::points::Points;
use simulation::run::{Disturb, World, every_point, four_leases, run};

/// People edited on both sides; mishaps grow with the seed, from none to two writes in five.
pub fn edits(seed: u64) -> OpenMrsWorld {
    OpenMrsWorld::new(seed, (seed % 5) as f64 / 10.0, Story::Edits)
}

#[tokio::test]
async fn undisturbed() {
    for seed in 0..6 {
        let out = run(edits(seed), &Where::Memory, "calm", Disturb::Nothing, &Setup::default()).await;
        println!("seed {seed}: {} points, {} in review", out.points, out.reviews);
        assert!(out.wrong.is_empty(), "seed {seed}: {:#?}", out.wrong);
    }
}

#[tokio::test]
async fn a_refused_login_ends_by_itself() {
    let world = OpenMrsWorld::new(1, 0.0, Story::LockedOut);
    let out = run(world, &Where::Memory, "locked", Disturb::Nothing, &Setup::default()).await;
    assert!(out.wrong.is_empty(), "{:#?}", out.wrong);
}

#[tokio::test]
async fn a_lie_after_an_outage_is_no_question_for_a_person() {
    let world = OpenMrsWorld::new(1, 0.0, Story::Outage);
    let out = run(world, &Where::Memory, "outage", Disturb::Nothing, &Setup::default()).await;
    assert!(out.wrong.is_empty(), "{:#?}", out.wrong);
    assert_eq!(out.reviews, 0);
}

#[test]
fn a_kill_at_every_point_in_memory() {
    let report =
        every_point(edits, 0..20, (1, 1), &|_: &str| Where::Memory, &Setup::default(), Disturb::Kill);
    println!("openmrs, memory: {} runs, {} wrong, {} reviews", report.runs, report.wrong, report.reviews);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

#[test]
fn a_kill_at_every_point_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let place = |_: &str| Where::Folder(folder.path().to_owned());
    let report = every_point(edits, 0..20, (1, 1), &place, &Setup::default(), Disturb::Kill);
    println!("openmrs, sqlite: {} runs, {} wrong, {} reviews", report.runs, report.wrong, report.reviews);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

fn twins(apart: u64, checked: bool) -> impl Fn(u64) -> OpenMrsWorld + Sync {
    move |seed| OpenMrsWorld::new(seed, (seed % 5) as f64 / 10.0, Story::Twins { apart, checked })
}

#[test]
fn two_people_with_one_national_id() {
    for (apart, checked) in [(0, true), (0, false), (1, true), (1, false), (3, false)] {
        let make = twins(apart, checked);
        let report =
            every_point(&make, 0..3, (1, 1), &|_: &str| Where::Memory, &Setup::default(), Disturb::Kill);
        println!("{apart} s apart, checked: {checked}: {} runs, {} wrong", report.runs, report.wrong);
        assert_eq!(report.wrong, 0, "{:#?}", report.examples);
    }
}

#[test]
fn two_people_with_one_national_id_and_two_replicas() {
    for (apart, checked) in [(0, true), (0, false), (1, false)] {
        let make = twins(apart, checked);
        let stop = |at| Disturb::Stop(at, four_leases());
        let report = every_point(&make, 0..1, (1, 5), &|_: &str| Where::Memory, &Setup::default(), stop);
        println!(
            "two replicas, {apart} s apart, checked: {checked}: {} runs, {} wrong",
            report.runs, report.wrong
        );
        assert_eq!(report.wrong, 0, "{:#?}", report.examples);
    }
}

#[test]
fn one_woman_entered_at_both_sides() {
    for apart in 0..4 {
        let make = |seed| OpenMrsWorld::new(seed, (seed % 5) as f64 / 10.0, Story::Both { apart });
        let report =
            every_point(make, 0..3, (1, 1), &|_: &str| Where::Memory, &Setup::default(), Disturb::Kill);
        println!("{apart} s apart: {} runs, {} wrong, {} reviews", report.runs, report.wrong, report.reviews);
        assert_eq!(report.wrong, 0, "{:#?}", report.examples);
    }
}

#[test]
fn a_report_that_is_read_before_its_person() {
    let make = |seed| OpenMrsWorld::new(seed, (seed % 5) as f64 / 10.0, Story::ReportFirst);
    let report = every_point(make, 0..3, (1, 1), &|_: &str| Where::Memory, &Setup::default(), Disturb::Kill);
    assert_eq!(report.wrong, 0, "{:#?}", report.examples);
}

#[tokio::test]
async fn a_report_whose_person_never_comes_is_a_dead_letter_in_the_end() {
    let mut world = OpenMrsWorld::new(1, 0.0, Story::ReportFirst);
    let store = open_store(&Where::Memory, "orphan", world.clock()).await;
    let engine = world.engine(store.clone(), Arc::new(Points::default()), &Setup::default()).await;
    world.script(1).await;
    for _ in 0..10 {
        world.clock().0.advance(std::time::Duration::from_secs(1));
        engine.tick().await;
    }
    let states = |rows: Vec<connector_core::outbox::Counts>| rows.iter().map(|c| c.state).collect::<Vec<_>>();
    assert_eq!(states(store.read(Totals).await.unwrap()), ["waiting"]);
    let now = world.clock().0.now_ms();
    let give_up = |before| GiveUpWaiting { before, rules: Rules::all() };
    assert_eq!(store.run(give_up(now - 10_000)).await.unwrap(), 0, "it is not old enough");
    assert_eq!(store.run(give_up(now)).await.unwrap(), 1);
    let dead = store.read(ListDead { after: 0, limit: 10, bodies: false }).await.unwrap();
    assert_eq!(states(store.read(Totals).await.unwrap()), ["dead"]);
    assert!(dead[0].reason.contains("cht/person"), "{}", dead[0].reason);
}

#[tokio::test]
async fn status_shows_how_long_the_last_full_pass_took() {
    let mut world = OpenMrsWorld::new(1, 0.0, Story::Edits);
    let store = open_store(&Where::Memory, "passes", world.clock()).await;
    let engine = world.engine(store.clone(), Arc::new(Points::default()), &Setup::default()).await;
    world.script(0).await;
    for _ in 0..10 {
        world.clock().0.advance(std::time::Duration::from_secs(1));
        engine.tick().await;
    }
    let feeds = store.read(ListFeeds).await.unwrap();
    let passed: Vec<_> = feeds.iter().filter(|f| f.last_pass_ms.is_some()).map(|f| f.feed.as_str()).collect();
    assert_eq!(passed, ["openmrs/pass"], "{feeds:?}");
    assert!(feeds.iter().any(|f| f.feed.starts_with("cht/")), "{feeds:?}");
}

//! Each rule taken out: the simulation must see it.

use connector_core::rules::{Rule, Rules};
use simulation::engine::{Setup, Where};
use simulation::run::{Disturb, every_point, four_leases};

use crate::sink;

fn without(rules: &[Rule]) -> Setup {
    let rules = rules.iter().fold(Rules::all(), |all, rule| all.without(*rule));
    Setup { rules, ..Setup::default() }
}

fn must_fail(name: &str, report: &simulation::run::Report) {
    println!("without {name}: {} of {} runs end wrong", report.wrong, report.runs);
    assert!(report.wrong > 0, "nobody notices that {name} is missing");
}

#[test]
fn confirm() {
    let setup = without(&[Rule::Confirm]);
    must_fail("confirm", &every_point(sink::world, 0..4, (1, 4), &|_: &str| Where::Memory, &setup, Disturb::Kill));
}

#[test]
fn version_free_keys() {
    let setup = without(&[Rule::VersionFreeKeys]);
    must_fail("version-free keys", &every_point(sink::world, 0..1, (1, 20), &|_: &str| Where::Memory, &setup, Disturb::Kill));
}

#[test]
fn deadline_at_the_client() {
    let setup = without(&[Rule::Deadline]);
    let stop = |at| Disturb::Stop(at, four_leases());
    must_fail("the deadline", &every_point(sink::world, 0..2, (1, 1), &|_: &str| Where::Memory, &setup, stop));
}

#[test]
fn settle_fence() {
    let setup = without(&[Rule::SettleFence]);
    let stop = |at| Disturb::Stop(at, four_leases());
    must_fail("the settle fence", &every_point(sink::world, 0..4, (1, 1), &|_: &str| Where::Memory, &setup, stop));
}

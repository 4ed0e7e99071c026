//! Each rule taken out: the simulation must see it. Where two rules cover each other they are taken out as that pair.

use connector_core::rules::{Rule, Rules};
use simulation::engine::{LEASE, Setup, Where};
use simulation::openmrs_world::{OpenMrsWorld, Story};
use simulation::run::{Disturb, Report, World, every_point, four_leases};
use simulation::sink_world::SinkWorld;

use crate::{openmrs, sink};

fn without(rules: &[Rule]) -> Setup {
    let rules = rules.iter().fold(Rules::all(), |all, rule| all.without(*rule));
    Setup { rules, ..Setup::default() }
}

/// Every `step`-th crash point of these seeds, without these rules; some run must end wrong.
fn must_fail<W: World + 'static>(
    rules: &[Rule],
    make: impl Fn(u64) -> W + Sync,
    seeds: std::ops::Range<u64>,
    step: u64,
    disturb: impl Fn(u64) -> Disturb + Sync,
) {
    let report: Report =
        every_point(make, seeds, (1, step), &|_: &str| Where::Memory, &without(rules), disturb);
    println!("without {rules:?}: {} of {} runs end wrong", report.wrong, report.runs);
    assert!(report.wrong > 0, "nobody notices that {rules:?} is missing");
}

fn stop(at: u64) -> Disturb {
    Disturb::Stop(at, four_leases())
}

fn story(story: Story) -> impl Fn(u64) -> OpenMrsWorld + Sync {
    move |seed| OpenMrsWorld::new(seed, (seed % 5) as f64 / 10.0, story)
}

#[test]
fn confirm() {
    must_fail(&[Rule::Confirm], sink::world, 0..4, 4, Disturb::Kill);
}

#[test]
fn version_free_keys() {
    must_fail(&[Rule::VersionFreeKeys], sink::world, 0..1, 40, Disturb::Kill);
}

#[test]
fn deadline_at_the_client() {
    must_fail(&[Rule::Deadline], sink::world, 0..2, 2, stop);
}

#[test]
fn settle_fence() {
    // Stopped until the other has taken the row over and may be at it.
    let while_the_other_works = |at| Disturb::Stop(at, LEASE.as_secs() + 3 + at % 5);
    must_fail(&[Rule::SettleFence], SinkWorld::late, 0..8, 2, while_the_other_works);
}

#[test]
fn waiting_steps_aside() {
    must_fail(&[Rule::WaitingStepsAside], story(Story::ReportFirst), 0..1, 50, Disturb::Kill);
}

#[test]
fn absence() {
    must_fail(&[Rule::Absence], openmrs::edits, 0..1, 60, Disturb::Kill);
}

#[test]
fn field_base() {
    must_fail(&[Rule::FieldBase], openmrs::edits, 0..2, 40, Disturb::Kill);
}

#[test]
fn echo_barrier() {
    must_fail(&[Rule::EchoBarrier], openmrs::edits, 0..5, 2, Disturb::Kill);
}

#[test]
fn slow_probe() {
    must_fail(
        &[Rule::SlowProbe],
        |seed| OpenMrsWorld::new(seed, 0.0, Story::LockedOut),
        0..1,
        60,
        Disturb::Kill,
    );
}

#[test]
fn exclusive_names_at_a_target_that_checks_nothing() {
    must_fail(
        &[Rule::ExclusiveNames],
        story(Story::Twins { apart: 0, checked: false }),
        0..1,
        10,
        Disturb::Kill,
    );
}

#[test]
fn exclusive_names_at_a_target_that_checks() {
    must_fail(
        &[Rule::ExclusiveNames],
        story(Story::Twins { apart: 0, checked: true }),
        0..1,
        10,
        Disturb::Kill,
    );
}

#[test]
fn look_up_at_the_turn() {
    must_fail(
        &[Rule::LookUpAtTurn],
        story(Story::Twins { apart: 0, checked: false }),
        0..1,
        10,
        Disturb::Kill,
    );
}

#[test]
fn link_check() {
    must_fail(&[Rule::LinkCheck], story(Story::Both { apart: 2 }), 0..1, 20, Disturb::Kill);
}

#[test]
fn plan_numbers() {
    let shortly = |at| Disturb::Stop(at, 2);
    must_fail(&[Rule::PlanNumbers], sink::world, 0..3, 1, shortly);
}

#[test]
fn proof() {
    let setup = Setup { believes: true, ..Setup::default() };
    let report = every_point(sink::world, 1..5, (1, 8), &|_: &str| Where::Memory, &setup, Disturb::Kill);
    println!("a success believed: {} of {} runs end wrong", report.wrong, report.runs);
    assert!(report.wrong > 0, "nobody notices a success without a write");
}

//! The fault layer around a stand-in: it decides what becomes of each request, does it, and notes what happened.
//!
//! Guarantees: a request is applied at most once; paths under `/_standin/` are never faulted and not counted; what was
//! applied is noted as applied, whether or not anybody was told.

mod control;
mod in_process;
mod journal;
mod layer;
mod plan;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use control::{json, lines};
pub use in_process::{Broken, InProcess};
pub use journal::{Entry, Requests};
pub(crate) use layer::{Fate, Layer, Way};
pub use plan::{Action, Outage, Plan, Rule};

use crate::clock::Clock;

/// The plan and the journal of one stand-in; clones share both.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    journal: journal::Journal,
}

#[derive(Default)]
struct State {
    plan: Plan,
    progress: Vec<Progress>,
    /// Draws made by the choice between actions.
    draws: u64,
    /// When the plan was set: unknown until it is used under a clock.
    set_at: Option<i64>,
}

/// How far a rule has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    matched: u64,
    burst_left: u64,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Do(Action),
    Outage,
    RefuseWrite,
}

impl Faults {
    /// A layer that only counts.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn new(plan: Plan) -> Self {
        let faults = Self::default();
        faults.set(plan);
        faults
    }

    /// Replaces the plan; counting of matches begins anew, outages begin with the next request.
    pub fn set(&self, plan: Plan) {
        let progress = vec![Progress::default(); plan.rules.len()];
        *self.state() = State { plan, progress, draws: 0, set_at: None };
    }

    /// No faults from now on.
    pub fn clear(&self) {
        self.set(Plan::calm());
    }

    pub fn plan(&self) -> Plan {
        self.state().plan.clone()
    }

    /// Whether the plan can touch any request, or wants to know what is in it.
    pub fn is_calm(&self) -> bool {
        let plan = &self.state().plan;
        plan.rules.is_empty() && plan.outages.is_empty() && !plan.read_only && !plan.bodies
    }

    /// The last requests in the order of their arrival, from this number on.
    pub fn log(&self, from: u64) -> Vec<Entry> {
        self.0.journal.entries(from)
    }

    pub fn requests(&self) -> Requests {
        self.0.journal.counts()
    }

    /// Forgets log and counts.
    pub fn reset_log(&self) {
        self.0.journal.reset();
    }

    /// Outages are counted from the first call after the plan was set.
    pub(crate) fn start(&self, clock: &Clock) {
        self.state().set_at.get_or_insert_with(|| clock.now_ms());
    }

    fn decide(&self, method: &http::Method, uri: &http::Uri, now_ms: i64) -> Verdict {
        let mut state = self.state();
        let state = &mut *state;
        let since = now_ms - *state.set_at.get_or_insert(now_ms);
        if state.plan.outages.iter().any(|o| (o.from_ms..o.to_ms).contains(&since)) {
            return Verdict::Outage;
        }
        if state.plan.read_only && !state.plan.is_read(method, uri.path()) {
            return Verdict::RefuseWrite;
        }
        for (index, (rule, progress)) in state.plan.rules.iter().zip(&mut state.progress).enumerate() {
            if rule.matches(method, uri) && progress.fires(rule, state.plan.seed, index) {
                let mut action = &rule.action;
                while let Action::OneOf { of } = action {
                    state.draws += 1;
                    let draw = mix(state.plan.seed, 1_000 + index as u64, state.draws);
                    let Some(drawn) = of.get((draw % of.len().max(1) as u64) as usize) else {
                        return Verdict::Do(Action::Pass);
                    };
                    action = drawn;
                }
                return Verdict::Do(action.clone());
            }
        }
        Verdict::Do(Action::Pass)
    }

    fn keeps_bodies(&self) -> bool {
        self.state().plan.bodies
    }

    fn seed(&self) -> u64 {
        self.state().plan.seed
    }

    fn is_read(&self, method: &http::Method, path: &str) -> bool {
        self.state().plan.is_read(method, path)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn fires(&mut self, rule: &Rule, seed: u64, index: usize) -> bool {
        self.matched += 1;
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return true;
        }
        if rule.nth.is_some_and(|nth| nth != self.matched) {
            return false;
        }
        let roll = (mix(seed, index as u64, self.matched) >> 11) as f64 / (1_u64 << 53) as f64;
        if roll >= rule.probability {
            return false;
        }
        self.burst_left = rule.burst.saturating_sub(1);
        true
    }
}

/// A well-mixed number for a seed, a stream and a position in it (the finaliser of SplitMix64).
pub(crate) fn mix(seed: u64, stream: u64, n: u64) -> u64 {
    let mut z = seed
        .wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03))
        .wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9_u64), (27, 0x94D0_49BB_1331_11EB)] {
        z = (z ^ (z >> shift)).wrapping_mul(factor);
    }
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(plan: Plan, n: usize) -> Vec<Verdict> {
        let faults = Faults::new(plan);
        (0..n).map(|_| faults.decide(&http::Method::POST, &http::Uri::from_static("/a?b=1"), 0)).collect()
    }

    #[test]
    fn nth_and_burst() {
        let plan = Plan::default().with(Rule::on("POST", "/a", Action::Reset).nth(2).burst(2));
        let names: Vec<_> = actions(plan, 5).into_iter().map(|v| v == Verdict::Do(Action::Reset)).collect();
        assert_eq!(names, [false, true, true, false, false]);
    }

    #[test]
    fn the_seed_decides() {
        let plan = |seed| Plan::mishaps(seed, 0.25, None, None, 10);
        let (a, again, b) = (actions(plan(1), 400), actions(plan(1), 400), actions(plan(2), 400));
        assert_eq!(a, again);
        assert_ne!(a, b);
        let faults = a.iter().filter(|v| **v != Verdict::Do(Action::Pass)).count();
        assert!((60..140).contains(&faults), "{faults} of 400 at 25 %");
        for kind in [
            "drop_before",
            "drop_after",
            "apply_later",
            "status",
            "status_applied",
            "fake_success",
            "reset",
            "half_open",
        ] {
            assert!(
                a.iter().any(|v| matches!(v, Verdict::Do(action) if action.name() == kind)),
                "{kind} never drawn"
            );
        }
    }

    #[test]
    fn an_outage_has_its_time() {
        let faults =
            Faults::new(Plan { outages: vec![Outage { from_ms: 10, to_ms: 20 }], ..Plan::default() });
        let at =
            |now| faults.decide(&http::Method::GET, &http::Uri::from_static("/"), now) == Verdict::Outage;
        assert_eq!([1_000, 1_009, 1_010, 1_019, 1_020].map(at), [false, false, true, true, false]);
    }
}
